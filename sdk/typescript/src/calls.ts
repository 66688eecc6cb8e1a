/** Typed calls, each with a deadline, retried only if a retry is safe. */

import { randomUUID } from 'node:crypto'

import {
  type CallOptions,
  type Client as ServiceClient,
  type ClientUnaryCall,
  Metadata,
  type ServiceError,
  connectivityState,
  status,
} from '@grpc/grpc-js'

import { Round } from './addresses.js'
import type { Connection } from './connection.js'
import { CallError, ClosedError, ConfigurationError, PassingError, callError } from './errors.js'
import type { AwaitPropagationResponse__Output as Propagation } from './generated/tessera/v1/AwaitPropagationResponse.js'
import type { IntrospectRequest } from './generated/tessera/v1/IntrospectRequest.js'
import type { IntrospectResponse__Output as IntrospectResponse } from './generated/tessera/v1/IntrospectResponse.js'
import type { IssueRequest } from './generated/tessera/v1/IssueRequest.js'
import type { IssueResponse__Output as IssueResponse } from './generated/tessera/v1/IssueResponse.js'
import type { ListKeysRequest } from './generated/tessera/v1/ListKeysRequest.js'
import type { ListKeysResponse__Output as ListKeysResponse } from './generated/tessera/v1/ListKeysResponse.js'
import type { RefreshRequest } from './generated/tessera/v1/RefreshRequest.js'
import type { RefreshResponse__Output as RefreshResponse } from './generated/tessera/v1/RefreshResponse.js'
import type { RevokeRequest } from './generated/tessera/v1/RevokeRequest.js'
import type { RevokeResponse__Output as RevokeResponse } from './generated/tessera/v1/RevokeResponse.js'
import type { VerifyingKey__Output as VerifyingKey } from './generated/tessera/v1/VerifyingKey.js'
import { checkOptions } from './options.js'
import { v1 } from './proto.js'
import { Backoff, sleep } from './retry.js'

const KEYS_PAGE = 500
/** More pages than any realm has: a list of a server that never ends is not followed forever. */
const KEY_PAGES_MAX = 100
/** The longest that connecting may take if there is another address to try. */
const CONNECT_MAX_MS = 5_000

/** How a `Client` calls. */
export interface ClientOptions {
  /** The longest that a call may take with all its retries. 10 s. */
  deadlineMs?: number
  /** The wait before the first retry, doubled with each. 50 ms. */
  backoffMs?: number
  /** The longest wait between two attempts, unless the authority asks for more. 2 s. */
  backoffMaxMs?: number
}

/** An answer, and when its request was sent, on the monotonic clock. */
export interface Answered<A> {
  answer: A
  sentAt: number
}

/** A method of a client of grpc-js. */
type Method<Q, A> = (
  request: Q,
  metadata: Metadata,
  options: CallOptions,
  callback: (error: ServiceError | null, answer?: A) => void,
) => ClientUnaryCall

/** That method at one address. */
type At<Q, A> = (services: Services) => Method<Q, A>

/** The services at one address, on one connection. */
class Services {
  readonly tokens
  readonly revocations
  readonly keys

  constructor(
    connection: Connection,
    readonly address: string,
  ) {
    this.tokens = connection.client(v1.TokenService, undefined, address)
    this.revocations = connection.client(v1.RevocationService, this.tokens)
    this.keys = connection.client(v1.KeyService, this.tokens)
  }
}

/**
 * Calls an authority.
 *
 * UNAVAILABLE and ABORTED are retried with backoff until the deadline, and at least after the wait that the authority
 * asks for; other errors are not retried. With several addresses, UNAVAILABLE is retried at the next one, at once until
 * each was tried. An attempt that the deadline cuts off ends with DEADLINE_EXCEEDED, and the message says how the
 * previous attempt failed; if there was no answer, the next call begins at another address. If the deadline leaves no
 * time for a retry, the call ends at once with the last failure. Every call rejects with a `CallError`, or with a
 * `ConfigurationError` if its request can't be encoded.
 */
export class Client {
  readonly #connection: Connection
  readonly #options: Required<ClientOptions>
  /** In the order in which the addresses are tried. */
  readonly #services: readonly Services[]
  #isClosed = false

  constructor(connection: Connection, options: ClientOptions = {}) {
    checkOptions('the options of calls', options, ['deadlineMs', 'backoffMs', 'backoffMaxMs'])
    this.#connection = connection
    this.#options = { deadlineMs: 10_000, backoffMs: 50, backoffMaxMs: 2_000, ...options }
    this.#services = connection.addresses.tried.map((address) => new Services(connection, address))
  }

  /**
   * Starts a session. Without a `requestId` it gets a random one, so that a retry gives the same session if the first
   * answer was lost.
   */
  async issue(request: IssueRequest): Promise<IssueResponse> {
    return (await this.issueTimed(request)).answer
  }

  /** Spends a refresh token. Retries are safe: within the grace window they give the same successor. */
  async refresh(request: RefreshRequest): Promise<RefreshResponse> {
    return (await this.refreshTimed(request)).answer
  }

  /** Returns what a token says, and whether it is active; an inactive token is not an error. */
  async introspect(request: IntrospectRequest): Promise<IntrospectResponse> {
    const method: At<IntrospectRequest, IntrospectResponse> = ({ tokens }) => tokens.introspect.bind(tokens)
    return (await this.#retried(method, request)).answer
  }

  /** Ends a token, a session, or everything of a subject, client, API key, label, key or realm. */
  async revoke(request: RevokeRequest): Promise<RevokeResponse> {
    const method: At<RevokeRequest, RevokeResponse> = ({ tokens }) => tokens.revoke.bind(tokens)
    return (await this.#retried(method, request)).answer
  }

  /** Answers when every required subscriber has the position of `cursor`, or refuses by itself. */
  async awaitPropagation(cursor: string): Promise<Propagation> {
    const method: At<{ cursor: string }, Propagation> = ({ revocations }) =>
      revocations.awaitPropagation.bind(revocations)
    return (await this.#retried(method, { cursor })).answer
  }

  /** All verifying keys of a realm. */
  async listKeys(realm: string): Promise<VerifyingKey[]> {
    const method: At<ListKeysRequest, ListKeysResponse> = ({ keys }) => keys.listKeys.bind(keys)
    return allKeys(async (request) => (await this.#retried(method, request)).answer, realm)
  }

  /** Closes the connections. From then on calls fail with a `ClosedError`, including those in progress. */
  close(): void {
    this.#isClosed = true
    this.#services.forEach(({ tokens }) => tokens.close())
  }

  /** As `issue`, with the time at which the request was sent. */
  async issueTimed(request: IssueRequest): Promise<Answered<IssueResponse>> {
    const method: At<IssueRequest, IssueResponse> = ({ tokens }) => tokens.issue.bind(tokens)
    return this.#retried(method, { ...request, requestId: request.requestId || randomUUID() })
  }

  /** As `refresh`, with the time at which the request was sent. */
  async refreshTimed(request: RefreshRequest): Promise<Answered<RefreshResponse>> {
    const method: At<RefreshRequest, RefreshResponse> = ({ tokens }) => tokens.refresh.bind(tokens)
    return this.#retried(method, request)
  }

  async #retried<Q, A>(method: At<Q, A>, request: Q): Promise<Answered<A>> {
    const { deadlineMs, backoffMs, backoffMaxMs } = this.#options
    const endsAt = performance.now() + deadlineMs
    const backoff = new Backoff(backoffMs, backoffMaxMs)
    const round = new Round(this.#connection.addresses)
    let askedMs = 0
    let before: { failure: CallError; address: string } | undefined
    for (;;) {
      this.#checkOpen()
      const sentAt = performance.now()
      const services = this.#services[round.at]!
      try {
        const answer = await this.#call(services, method(services), request, endsAt - sentAt)
        round.worked()
        return { answer, sentAt }
      } catch (error) {
        if (!(error instanceof CallError)) {
          throw error
        }
        this.#checkOpen()
        const failure = error
        askedMs = Math.max(askedMs, failure.retryAfterMs ?? 0)
        const waits = this.#isTimeToWait(failure, round)
        const waitMs = waits ? Math.max(backoff.waitMs(), askedMs) : 0
        askedMs = waits ? 0 : askedMs
        if (failure.isDeadline) {
          throw failure.cutOff(before && (await this.#explained(before.failure, before.address)))
        }
        if (!failure.isRetried || performance.now() + waitMs >= endsAt) {
          throw await this.#explained(failure, services.address)
        }
        before = { failure, address: services.address }
        await sleep(waitMs)
      }
    }
  }

  #checkOpen(): void {
    if (this.#isClosed) {
      throw new ClosedError('the client is closed')
    }
  }

  /** Moves to the next address if that may help. Returns whether to wait before the next attempt. */
  #isTimeToWait(failure: CallError, round: Round): boolean {
    if (failure.isDeadline && failure.reason === undefined) {
      // There was no answer: the node may be frozen. The next call begins elsewhere.
      this.#connection.addresses.leave(round.at)
    }
    // For other retried errors, another node would answer the same.
    return failure.code !== status.UNAVAILABLE || round.leave()
  }

  /**
   * One call to one address. grpc-js has no limit for connecting: with several addresses, one that can't be reached
   * leaves the time to try the others.
   */
  #call<Q, A>(services: Services, method: Method<Q, A>, request: Q, timeoutMs: number): Promise<A> {
    const count = this.#services.length
    const connectMs = Math.min(CONNECT_MAX_MS, this.#options.deadlineMs / (count + 1))
    const connecting = count > 1 ? { client: services.tokens, connectMs } : undefined
    return call(method, request, this.#connection.credential(), timeoutMs, connecting)
  }

  async #explained(failure: CallError, address: string): Promise<CallError> {
    const explained = await failure.explained(address, (details) => this.#connection.diagnosis(address, details))
    return this.#services.length > 1 ? explained.at(address) : explained
  }
}

/**
 * One call; rejects with a `CallError` or a `ConfigurationError`. It fails if a client is still `connecting` after a
 * time.
 */
export function call<Q, A>(
  method: Method<Q, A>,
  request: Q,
  metadata: Metadata,
  timeoutMs: number,
  connecting?: { client: ServiceClient; connectMs: number },
): Promise<A> {
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + timeoutMs
    let timer: NodeJS.Timeout | undefined
    try {
      const sent = method(request, metadata, { deadline }, (error, answer) => {
        clearTimeout(timer)
        if (error !== null || answer === undefined) {
          reject(error === null ? protocolError('no answer') : failureOf(error))
        } else {
          resolve(answer)
        }
      })
      if (connecting !== undefined) {
        const { client, connectMs } = connecting
        timer = setTimeout(() => {
          if (client.getChannel().getConnectivityState(false) !== connectivityState.READY) {
            // It was not sent.
            reject(new PassingError(status.UNAVAILABLE, undefined, `no connection within ${Math.round(connectMs)} ms`))
            sent.cancel()
          }
        }, connectMs)
      }
    } catch (error) {
      // A request that can't be encoded, or a client that was closed.
      reject(protocolError((error as Error).message))
    }
  })
}

function failureOf(error: ServiceError): CallError | ConfigurationError {
  const [, unwritable] = /^Request message serialization failure: (.*)$/s.exec(error.details) ?? []
  // A value without the type of the proto.
  return unwritable === undefined ? callError(error) : new ConfigurationError(`the request can't be written: ${unwritable}`)
}

/** The keys of all pages. */
export async function allKeys(
  page: (request: ListKeysRequest) => Promise<ListKeysResponse>,
  realm: string,
): Promise<VerifyingKey[]> {
  const keys: VerifyingKey[] = []
  let pageToken = ''
  for (let pages = 0; pages < KEY_PAGES_MAX; pages++) {
    const answer = await page({ realm, pageSize: KEYS_PAGE, pageToken })
    keys.push(...answer.keys)
    pageToken = answer.nextPageToken
    if (pageToken === '') {
      return keys
    }
  }
  throw protocolError('the list of keys does not end')
}

/** The authority's answer is not valid. */
export function protocolError(message: string): CallError {
  return new PassingError(status.INTERNAL, undefined, message)
}
