/**
 * Verifying access tokens without a call.
 *
 * A follower keeps the keys and the revocations of a realm up to date from the authority's stream. It pings at its own
 * monotonic moment; when the echo arrives, everything durable before that moment has been applied. So a verifier knows
 * how stale it may be without synchronized clocks, and refuses beyond its bound.
 */

import { decodeClaims } from './claims.js'
import { Client, type ClientOptions } from './calls.js'
import type { Connection } from './connection.js'
import { type Decision, type Mode, checkMode } from './decision.js'
import { parseCursor } from './cursor.js'
import { ClosedError, ConfigurationError, NotReadyError, OtherLogError } from './errors.js'
import type { IntrospectResponse__Output as IntrospectResponse } from './generated/tessera/v1/IntrospectResponse.js'
import { log } from './logger.js'
import { checkOptions, shown } from './options.js'
import { takeApart } from './paseto.js'
import { sleep } from './retry.js'
import { End, Following } from './following.js'
import { Session } from './session.js'
import { View } from './view.js'

/**
 * A caller waits for the answer about its token, and most of the time that a verifier is stale the authority can't be
 * reached.
 */
const INTROSPECT_DEADLINE_MS = 2_000

/** What a verifier accepts, and how it follows the authority. */
export interface VerifierOptions {
  /**
   * Its API key must be of the realm, and of a client that the policy allows to watch (`tessera/revocations:watch`).
   */
  connection: Connection
  realm: string
  audience: string
  /** How stale it may be and still allow, 100 ms to 1 h. 10 s. */
  stalenessBoundMs?: number
  /** How far this machine's clock may differ from the authority's, at most a minute. 30 s. */
  leewayMs?: number
  /** A name for logs and metrics. Two verifiers that run at once must not share it. */
  subscriber?: string
  /** Whether AwaitPropagation waits for this verifier; it then needs a name. */
  required?: boolean
  /** How many verified tokens are kept. 10,000. */
  cacheCapacity?: number
  /** How often a token of an unknown key may cause the keys to be read again. 10 s. */
  rereadIntervalMs?: number
  /**
   * How the mode `introspect` calls, for 2 s at most unless set: a request may wait this long while this verifier is
   * stale.
   */
  calls?: ClientOptions
  /** The time that tokens are compared with, in ms since the epoch. Staleness never depends on it. */
  clock?: () => number
  /** Called each time that following was interrupted; the logger is told too, once a minute at most. */
  onProblem?: (problem: string) => void
}

const OPTIONS = [
  ...['connection', 'realm', 'audience', 'stalenessBoundMs', 'leewayMs', 'subscriber', 'required'],
  ...['cacheCapacity', 'rereadIntervalMs', 'calls', 'clock', 'onProblem'],
]

/** The state of a verifier. */
export interface VerifierStatus {
  /** Whether it has had keys, a snapshot, and a first answer that says how fresh it is. */
  isReady: boolean
  /** Whether it is ready and within its staleness bound now: valid tokens are allowed. */
  isFresh: boolean
  /** How stale it may be; undefined before it is ready, and after it was closed. */
  behindMs: number | undefined
  /** The last event of the revocation log that it has applied. */
  through: number
  /** Revocations that it keeps. */
  entries: number
  /** Why it does not follow now; undefined if it does. */
  problem: string | undefined
  /** The address that it follows, or tries now. */
  address: string
  /**
   * The number of snapshots of the revocations that it took: one at its start, and one whenever the log no longer had
   * the events after its position.
   */
  snapshots: number
}

/**
 * Verifies access tokens. It follows the authority until it is closed; then it allows nothing: valid tokens are stale.
 */
export class Verifier {
  readonly #view: View
  readonly #client: Client
  readonly #onProblem: (problem: string) => void
  readonly #closed = new AbortController()
  #session: Session | undefined

  /** Begins to follow the authority; `status` shows whether it answers. */
  constructor(options: VerifierOptions) {
    checkOptions('a verifier', options, OPTIONS)
    const { connection, realm, audience, subscriber = '', required = false } = options
    this.#view = new View({
      realm,
      audience,
      boundMs: options.stalenessBoundMs ?? 10_000,
      leewayMs: options.leewayMs ?? 30_000,
      cacheCapacity: options.cacheCapacity ?? 10_000,
      clock: options.clock ?? Date.now,
      addresses: connection.addresses.given,
    })
    check(this.#view, subscriber, required)
    this.#onProblem = options.onProblem ?? (() => {})
    this.#client = new Client(connection, { deadlineMs: INTROSPECT_DEADLINE_MS, ...options.calls })
    const reread = options.rereadIntervalMs ?? 10_000
    void this.#follow(new Following(this.#view, connection, subscriber, required, reread))
  }

  /**
   * Resolves when there are keys, a first snapshot, and an answer that says how fresh it is.
   *
   * Rejects with a `NotReadyError` that has the reason: at once if waiting does not help, such as for a wrong API key,
   * a policy that does not allow it to watch, or an unknown audience, and after `timeoutMs` (Infinity: never). Rejects
   * with a `ClosedError` if it is closed.
   */
  async ready({ timeoutMs = 30_000 }: { timeoutMs?: number } = {}): Promise<void> {
    const view = this.#view
    await view.until(() => view.isReady || view.isPermanent, timeoutMs)
    this.#checkOpen()
    if (!view.isReady) {
      throw new NotReadyError(`${view.problemAt}: ${view.problem ?? 'no answer yet'}`, view.isPermanent)
    }
  }

  /**
   * Resolves with true when it has applied everything up to `cursor`, which a Revoke returned: from then on this
   * verifier refuses what was revoked. It says nothing about other verifiers; `awaitPropagation` does.
   *
   * With false if that took longer than `timeoutMs`. Rejects with an `OtherLogError` if the cursor is of another log,
   * with a `ConfigurationError` if it is not a cursor, and with a `ClosedError` if this verifier is closed.
   */
  async applied(cursor: string, { timeoutMs = 30_000 }: { timeoutMs?: number } = {}): Promise<boolean> {
    const [place, view] = [parseCursor(cursor), this.#view]
    const isDecided = (): boolean =>
      view.isReady && view.log !== undefined && (view.log !== place.log || view.through >= place.sequence)
    const isTold = await view.until(isDecided, timeoutMs)
    this.#checkOpen()
    if (isTold && view.log !== place.log) {
      throw new OtherLogError('the cursor is of another revocation log than the one that is followed')
    }
    return isTold
  }

  /**
   * Whether `token` is valid, and has the scope `required` (left out or null: any valid token); refuses when stale. A
   * `required` that is undefined, for example from a missing setting, is a `ConfigurationError`. A token that was
   * issued a moment ago may have a position of the revocation log that this verifier does not know yet: then it is
   * stale. Use `verifyWith`, which waits for that position, instead.
   */
  verify(token: string, ...scope: [] | [required: string | null]): Decision {
    const required = scope.length === 0 ? null : scope[0]
    checkRequired(required)
    return this.#view.decide(token, required, this.#view.accepted.boundMs)
  }

  /**
   * As `verify`, with another answer to staleness. It waits only when stale: `introspect` for the authority's answer,
   * and each mode for a moment if the token has a position of the revocation log that is not known yet. A token that
   * stays ahead, such as one with an invented claim, is never allowed.
   */
  async verifyWith(token: string, required: string | null, mode: Mode): Promise<Decision> {
    checkRequired(required)
    checkMode(mode)
    const isOpen = typeof mode === 'object'
    const boundMs = Math.max(this.#view.accepted.boundMs, isOpen ? mode.failOpenMs : 0)
    const unheardSince = isOpen ? performance.now() : undefined
    let decision = this.#view.decide(token, required, boundMs)
    if (decision.kind === 'stale') {
      await this.#view.catchUp(token)
      decision = this.#view.decide(token, required, boundMs, unheardSince)
    }
    return decision.kind === 'stale' && mode === 'introspect'
      ? ((await this.#introspect(token, required)) ?? decision)
      : decision
  }

  /** Whether it has ever been fresh. */
  get isReady(): boolean {
    return this.#view.isReady
  }

  /** Whether it is ready and within its staleness bound now: for a readiness endpoint. */
  get isFresh(): boolean {
    const behindMs = this.#view.behindMs()
    return behindMs !== undefined && behindMs <= this.#view.accepted.boundMs
  }

  /** Its state. */
  get status(): VerifierStatus {
    const { isReady, through, revoked, told: problem, at: address, snapshots } = this.#view
    const { isFresh } = this
    const behindMs = this.#view.behindMs()
    return { isReady, isFresh, behindMs, through, entries: revoked.size, problem, address, snapshots }
  }

  /** Ends the following. From then on nothing is allowed. */
  close(): void {
    this.#closed.abort()
    this.#view.close()
    this.#session?.stop()
    this.#client.close()
  }

  #checkOpen(): void {
    if (this.#closed.signal.aborted) {
      throw new ClosedError('the verifier is closed')
    }
  }

  /** One session after another. */
  async #follow(following: Following): Promise<void> {
    const { signal } = this.#closed
    while (!signal.aborted) {
      const end = await this.#runSession(following)
      if (signal.aborted) {
        return
      }
      const waitMs = following.after(end)
      this.#onProblem(this.#view.told ?? '')
      await sleep(waitMs, signal)
    }
  }

  async #runSession(following: Following): Promise<End> {
    try {
      this.#session = new Session(following)
      return await this.#session.run()
    } catch (error) {
      // After any error, the next session may begin.
      return new End(String(error))
    }
  }

  /** Asks the authority; undefined if it does not answer. */
  async #introspect(token: string, required: string | null): Promise<Decision | undefined> {
    let answer: IntrospectResponse
    try {
      answer = await this.#client.introspect({ token })
    } catch (error) {
      log().warn(`tessera: the authority could not be asked about a token: ${(error as Error).message}`)
      return undefined
    }
    const untrusted = takeApart(token)
    const claims = untrusted && decodeClaims(untrusted.payload)
    if (claims === undefined || !answer.active || answer.jti !== claims.tokenId) {
      return { kind: 'deny', reason: 'inactive' }
    }
    return this.#view.checkIntrospected(claims, new Set(answer.scope.split(' ')), required)
  }
}

function checkRequired(required: unknown): void {
  if (required !== null && typeof required !== 'string') {
    throw new ConfigurationError(`the required scope is a text, or null for any good token: not ${shown(required)}`)
  }
}

function check({ accepted }: View, subscriber: string, required: boolean): void {
  const { realm, audience, boundMs, leewayMs } = accepted
  // It may be undefined, like a variable of the environment that is not set.
  if (!realm || !audience) {
    throw new ConfigurationError('a verifier needs the realm and the audience of its tokens')
  }
  if (!(boundMs >= 100 && boundMs <= 3_600_000)) {
    throw new ConfigurationError('the staleness bound must be between 100 ms and 1 h')
  }
  if (!(leewayMs >= 0 && leewayMs <= 60_000)) {
    throw new ConfigurationError('the leeway must be at most a minute')
  }
  if (!/^[A-Za-z0-9._:-]{0,64}$/.test(subscriber)) {
    throw new ConfigurationError("a subscriber's name has 1 to 64 characters of `A-Za-z0-9._:-`")
  }
  if (required && subscriber === '') {
    throw new ConfigurationError('a required verifier needs a subscriber name')
  }
}
