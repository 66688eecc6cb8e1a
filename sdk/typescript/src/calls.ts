/** Typed calls, each with a deadline, retried only where a retry is safe. */

import { randomUUID } from 'node:crypto'

import { type CallOptions, Metadata, type ServiceError, status } from '@grpc/grpc-js'

import type { Connection } from './connection.js'
import { type CallError, PassingError, callError } from './errors.js'
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
import { v1 } from './proto.js'
import { Backoff, sleep } from './retry.js'

const KEYS_PAGE = 500
/** More pages than any realm has: a server that never ends its list is not followed for ever. */
const KEY_PAGES_MAX = 100

/** How a `Client` calls. */
export interface ClientOptions {
  /** The longest that a call may take with all its retries. 10 s. */
  deadlineMs?: number
  /** The wait before the first retry, doubled with each. 50 ms. */
  backoffMs?: number
  /** The longest wait between two attempts, unless the authority asks for more. 2 s. */
  backoffMaxMs?: number
}

/** An answer, with when its request was sent, on the monotonic clock. */
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
) => unknown

/**
 * Calls an authority.
 *
 * UNAVAILABLE and ABORTED are retried with backoff until the deadline, waiting at least as long as the
 * authority asks; nothing else is. Every call rejects with a `CallError`.
 */
export class Client {
  readonly #connection: Connection
  readonly #options: Required<ClientOptions>
  readonly #tokens
  readonly #revocations
  readonly #keys

  constructor(connection: Connection, options: ClientOptions = {}) {
    this.#connection = connection
    this.#options = { deadlineMs: 10_000, backoffMs: 50, backoffMaxMs: 2_000, ...options }
    this.#tokens = connection.client(v1.TokenService)
    this.#revocations = connection.client(v1.RevocationService, this.#tokens)
    this.#keys = connection.client(v1.KeyService, this.#tokens)
  }

  /**
   * Starts a session. Without a `requestId` it gets a random one, so that a retry whose first answer was lost
   * gives the same session.
   */
  async issue(request: IssueRequest): Promise<IssueResponse> {
    return (await this.issueTimed(request)).answer
  }

  /** Spends a refresh token. Retries are safe: within the grace window they give the same successor. */
  async refresh(request: RefreshRequest): Promise<RefreshResponse> {
    return (await this.refreshTimed(request)).answer
  }

  /** Asks what a token says, and whether it is active; an inactive token is no error. */
  async introspect(request: IntrospectRequest): Promise<IntrospectResponse> {
    const method: Method<IntrospectRequest, IntrospectResponse> = this.#tokens.introspect.bind(this.#tokens)
    return (await this.#retried(method, request)).answer
  }

  /** Ends a token, a session, or everything of a subject, client, API key, label, key or realm. */
  async revoke(request: RevokeRequest): Promise<RevokeResponse> {
    const method: Method<RevokeRequest, RevokeResponse> = this.#tokens.revoke.bind(this.#tokens)
    return (await this.#retried(method, request)).answer
  }

  /** Answers when every required subscriber has the place of `cursor`, or refuses by itself. */
  async awaitPropagation(cursor: string): Promise<Propagation> {
    const service = this.#revocations
    const method: Method<{ cursor: string }, Propagation> = service.awaitPropagation.bind(service)
    return (await this.#retried(method, { cursor })).answer
  }

  /** All verifying keys of a realm. */
  async listKeys(realm: string): Promise<VerifyingKey[]> {
    const method: Method<ListKeysRequest, ListKeysResponse> = this.#keys.listKeys.bind(this.#keys)
    return allKeys(async (request) => (await this.#retried(method, request)).answer, realm)
  }

  /** Closes the connection. */
  close(): void {
    this.#tokens.close()
  }

  /** As `issue`, with when the request was sent. */
  async issueTimed(request: IssueRequest): Promise<Answered<IssueResponse>> {
    const method: Method<IssueRequest, IssueResponse> = this.#tokens.issue.bind(this.#tokens)
    return this.#retried(method, { ...request, requestId: request.requestId || randomUUID() })
  }

  /** As `refresh`, with when the request was sent. */
  async refreshTimed(request: RefreshRequest): Promise<Answered<RefreshResponse>> {
    const method: Method<RefreshRequest, RefreshResponse> = this.#tokens.refresh.bind(this.#tokens)
    return this.#retried(method, request)
  }

  async #retried<Q, A>(method: Method<Q, A>, request: Q): Promise<Answered<A>> {
    const { deadlineMs, backoffMs, backoffMaxMs } = this.#options
    const endsAt = performance.now() + deadlineMs
    const backoff = new Backoff(backoffMs, backoffMaxMs)
    for (;;) {
      const sentAt = performance.now()
      try {
        return { answer: await call(method, request, this.#connection.credential(), endsAt - sentAt), sentAt }
      } catch (error) {
        const failure = error as CallError
        const waitMs = Math.max(backoff.waitMs(), failure.retryAfterMs ?? 0)
        if (!failure.isRetried || performance.now() + waitMs >= endsAt) {
          throw await failure.explained((details) => this.#connection.diagnosis(details))
        }
        await sleep(waitMs)
      }
    }
  }
}

/** One call; rejects with a `CallError`. */
export function call<Q, A>(method: Method<Q, A>, request: Q, metadata: Metadata, timeoutMs: number): Promise<A> {
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + timeoutMs
    try {
      method(request, metadata, { deadline }, (error, answer) => {
        if (error !== null || answer === undefined) {
          reject(error === null ? protocolError('no answer') : callError(error))
        } else {
          resolve(answer)
        }
      })
    } catch (error) {
      // A request that can't be written, or a client that was closed.
      reject(protocolError((error as Error).message))
    }
  })
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

/** The authority answered what it may not answer. */
export function protocolError(message: string): CallError {
  return new PassingError(status.INTERNAL, undefined, message)
}
