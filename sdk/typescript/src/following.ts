/** What a verifier keeps from one stream of revocations to the next, and the address of the next stream. */

import { Round } from './addresses.js'
import type { Connection } from './connection.js'
import { type CallError, PermanentError } from './errors.js'
import type { WatchRequest } from './generated/tessera/v1/WatchRequest.js'
import { ProblemLog, log } from './logger.js'
import { Backoff } from './retry.js'
import type { View } from './view.js'

const BACKOFF_MS = 50
const BACKOFF_MAX_MS = 5_000
const ANOTHER_LOG: ReadonlySet<string | undefined> = new Set(['CURSOR_EXPIRED', 'CURSOR_INVALID'])

/**
 * Why a session ended, in words for a log. The next one continues at the same position, or `startsAgain` with a
 * snapshot; the current knowledge stays in force until that is complete.
 */
export class End extends Error {
  constructor(
    problem: string,
    readonly startsAgain = false,
    /** Waiting does not help. */
    readonly isPermanent = false,
    /** The authority does not have the requested position: the address is good. */
    readonly isAboutPlace = false,
  ) {
    super(problem)
  }

  /**
   * The end by a failed call. Also after SLOW_CONSUMER and DRAINING, the next session continues after the last applied
   * message.
   */
  static of(failure: CallError, what = ''): End {
    const startsAgain = ANOTHER_LOG.has(failure.reason)
    return new End(`${what}${failure.message}`, startsAgain, failure instanceof PermanentError && !startsAgain, startsAgain)
  }
}

/** The state that outlives a session. */
export class Following {
  /** The cursor of the last message that was applied; undefined: a snapshot is needed. */
  place: string | undefined
  /** The key set that the keys were read for; undefined: it may have changed. */
  keySet: string | undefined
  keysReadAt = -Infinity
  readonly backoff = new Backoff(BACKOFF_MS, BACKOFF_MAX_MS)
  readonly problems = new ProblemLog('following the revocations was interrupted', 'the revocations are followed')

  readonly round: Round
  /** The address that was left, and why, until another one works for long enough. */
  #left: { address: string; problem: string } | undefined

  constructor(
    readonly view: View,
    readonly connection: Connection,
    readonly subscriber: string,
    readonly required: boolean,
    /** How often an unknown key may cause the keys to be read again. */
    readonly rereadIntervalMs: number,
  ) {
    this.round = new Round(connection.addresses)
    this.view.at = this.round.address
  }

  /** How often to ping. */
  get pingIntervalMs(): number {
    return this.view.accepted.boundMs / 4
  }

  /**
   * How long an address may be silent. If it is the only one, or each was tried, up to the bound: then the knowledge is
   * stale anyway. Otherwise, short enough that each of the others can be tried within the bound: half of the bound for
   * the address that is followed, and the rest for all others.
   */
  silenceMsMax(hasAnswered: boolean): number {
    const { count } = this.connection.addresses
    const { boundMs } = this.view.accepted
    const parts = count === 1 || this.round.isOver ? 1 : hasAnswered ? 2 : 2 * (count - 1)
    // A shorter time would fail on a busy machine.
    return Math.max(boundMs / parts, 200)
  }

  /** The failure of a stream, with the reason that the address can't be connected to. */
  explained(failure: CallError): Promise<CallError> {
    const { address, isAtLast } = this.round
    return failure.explained(address, async (details) =>
      // Not while another one is left to try, since it takes time.
      isAtLast ? this.connection.diagnosis(address, details) : undefined,
    )
  }

  /**
   * A ping was answered, on a stream of this age. A young stream does not count yet: an address that fails after each
   * answer is left like one that never answers, so that streams that end at once don't cause attempts without a wait.
   */
  answered(ageMs: number): void {
    this.backoff.reset()
    this.problems.worked()
    if (ageMs >= this.pingIntervalMs && this.round.worked()) {
      this.#tellOfMove()
    }
  }

  #tellOfMove(): void {
    const [left, { address }] = [this.#left, this.round]
    this.#left = undefined
    if (left !== undefined && left.address !== address) {
      const why = `${left.address} was left: ${left.problem}`
      log().warn(`tessera: the revocations are followed at another address, ${address}: ${why}`)
    }
  }

  /** Records how a session ended. Returns how long to wait before the next one. */
  after(end: End): number {
    const { address } = this.round
    if (end.startsAgain) {
      this.place = undefined
    }
    this.#left ??= { address, problem: end.message }
    // A position that one node does not have, no node has. If waiting does not help, another address does not help
    // either: it is tried, as the address may be of another authority by mistake, but not at once.
    const isTimeToWait = end.isAboutPlace || this.round.leave() || end.isPermanent
    this.view.fail(address, end.message, end.isPermanent)
    this.problems.failed(this.view.told ?? '')
    this.view.at = this.round.address
    return isTimeToWait ? this.backoff.waitMs() : 0
  }

  /** The first message. */
  start(): WatchRequest {
    const { audience, boundMs } = this.view.accepted
    const from = this.place === undefined ? { snapshot: true } : { cursor: this.place }
    return {
      start: {
        ...from,
        filter: { audiences: [audience] },
        subscriber: this.subscriber,
        required: this.required,
        stalenessBound: { seconds: Math.floor(boundMs / 1000), nanos: Math.round((boundMs % 1000) * 1e6) },
      },
    }
  }
}
