/** Why a call failed, and what its caller can do. */

import { type ServiceError, status } from '@grpc/grpc-js'

import { readStatusDetails } from './status-details.js'

/** Any error of this package. */
export class TesseraError extends Error {
  override get name(): string {
    return this.constructor.name
  }
}

/** An invalid option. */
export class ConfigurationError extends TesseraError {}

/** It was closed. */
export class ClosedError extends TesseraError {}

/** A verifier is not ready. */
export class NotReadyError extends TesseraError {
  constructor(
    /** The reason. */
    readonly problem: string,
    /** Whether waiting does not help: the API key, the policy or the options are wrong. */
    readonly isPermanent: boolean,
  ) {
    super(`the verifier is not ready${isPermanent ? ', and waiting does not help' : ''}: ${problem}`)
  }
}

/**
 * A cursor is of another revocation log than the one that a verifier follows: of another authority, or of this one
 * before its data was recreated.
 */
export class OtherLogError extends TesseraError {}

/** A call failed. The subclass says what the caller can do. */
export class CallError extends TesseraError {
  constructor(
    /** The code of the status. */
    readonly code: status,
    /** The `reason` of the authority's google.rpc.ErrorInfo, such as `SESSION_REVOKED`, if it gave one. */
    readonly reason: string | undefined,
    readonly details: string,
    /** How long the authority asks to wait before a retry. */
    readonly retryAfterMs?: number,
  ) {
    super(`${reason ?? status[code]}: ${details}`)
  }

  /** This error at an address, with a diagnosis if no Tessera was reached, since gRPC gives little information. */
  async explained(address: string, diagnosis: (details: string) => Promise<string | undefined>): Promise<CallError> {
    if (this.reason !== undefined) {
      return this
    }
    // The diagnosis only supplements the error, and must not replace it.
    const diagnosed = this.code === status.UNAVAILABLE ? await diagnosis(this.details).catch(() => undefined) : undefined
    const why = diagnosed ?? this.#otherServer(address)
    const details = `${why} (${this.details})`
    return why === undefined ? this : new (classOf(this.code))(this.code, undefined, details, this.retryAfterMs)
  }

  #otherServer(address: string): string | undefined {
    // With UNAVAILABLE, a status of HTTP comes from a proxy before an authority that is unavailable.
    const hasStatus = OTHER_SERVER.has(this.code) && this.details.includes('HTTP status code ')
    if (hasStatus || NOT_HTTP2.test(this.details)) {
      return `no Tessera answers at ${address}: is this the admin socket, or another HTTP server?`
    }
    return this.code === status.UNIMPLEMENTED
      ? `the server at ${address} does not have this call: is it another gRPC server, or an older Tessera?`
      : undefined
  }

  /** This error, with its address; an answer of the authority does not need it. */
  at(address: string): CallError {
    return this.code !== status.UNAVAILABLE || this.reason !== undefined
      ? this
      : new PassingError(this.code, undefined, `${address}: ${this.details}`, this.retryAfterMs)
  }

  /** This error of an attempt that a deadline cut off, with the failure of the previous attempt. */
  cutOff(before: CallError | undefined): CallError {
    const own = this.reason === undefined ? 'the deadline passed; the call may still have its effect' : this.details
    const details = before === undefined ? own : `${own}; the attempt before failed: ${before.message}`
    return new PassingError(this.code, this.reason, details, this.retryAfterMs)
  }

  /** Whether the deadline passed before the call was answered. */
  get isDeadline(): boolean {
    return this.code === status.DEADLINE_EXCEEDED
  }

  /** Whether the same request may be sent again at once. */
  get isRetried(): boolean {
    return this.code === status.UNAVAILABLE || this.code === status.ABORTED
  }
}

/** It may be temporary: try the same again later. */
export class PassingError extends CallError {}

/** Don't repeat it unchanged. */
export class PermanentError extends CallError {}

/** Sign in again: the API key, the session or the refresh token is not accepted. */
export class SignInError extends PermanentError {}

const PASSING: ReadonlySet<status> = new Set([
  status.UNAVAILABLE,
  status.ABORTED,
  status.DEADLINE_EXCEEDED,
  status.RESOURCE_EXHAUSTED,
  status.CANCELLED,
  status.INTERNAL,
  status.UNKNOWN,
  status.DATA_LOSS,
])

/** How gRPC maps the statuses of an HTTP server without gRPC. */
const OTHER_SERVER: ReadonlySet<status> = new Set([status.UNIMPLEMENTED, status.UNKNOWN, status.INTERNAL])
/** The message of grpc-js if a server does not even support HTTP/2. */
const NOT_HTTP2 = /^No connection established\. Last error: Protocol error/

/** The error of a call, from grpc-js's error. */
export function callError(error: Pick<ServiceError, 'code' | 'details' | 'metadata'>): CallError {
  const [bytes] = error.metadata?.get('grpc-status-details-bin') ?? []
  const { message, reason, retryAfterMs } = bytes instanceof Uint8Array ? readStatusDetails(bytes) : {}
  return new (classOf(error.code))(error.code, reason, message ?? error.details, retryAfterMs)
}

/** Whether an error is one of grpc-js's. */
export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && 'details' in error
}

function classOf(code: status): typeof CallError {
  if (code === status.UNAUTHENTICATED) {
    return SignInError
  }
  return PASSING.has(code) ? PassingError : PermanentError
}
