/** What the SDK has to say, and where it says it. */

/** Where to log; `console` is one, and so are pino, winston and their like. */
export interface Logger {
  debug(message: string): void
  info(message: string): void
  warn(message: string): void
}

/** Warnings and refusals are shown unless a service says otherwise, and details are not. */
const DEFAULT: Logger = {
  debug: () => {},
  info: (message) => console.info(message),
  warn: (message) => console.warn(message),
}

const INTERVAL_MS = 60_000

let current = DEFAULT

/** Where all that the SDK has to say goes from now on; without an argument, to `console` again. No token or API key is in it. */
export function setLogger(logger: Logger = DEFAULT): void {
  current = logger
}

/** Where to log now. */
export function log(): Logger {
  return current
}

/** Warns of a failure at once, then once a minute with how often it happened, and says when it is over. */
export class ProblemLog {
  #warnedAt: number | undefined
  #failingSince: number | undefined
  #suppressed = 0

  constructor(
    readonly failure: string,
    readonly recovery: string,
    readonly clock: () => number = () => performance.now(),
  ) {}

  /** It failed. */
  failed(problem: string): void {
    const now = this.clock()
    this.#failingSince ??= now
    if (this.#warnedAt !== undefined && now - this.#warnedAt < INTERVAL_MS) {
      this.#suppressed += 1
      return
    }
    const more = this.#suppressed > 0 ? ` (and ${this.#suppressed} times since the last warning)` : ''
    log().warn(`tessera: ${this.failure}: ${problem}${more}`)
    this.#warnedAt = now
    this.#suppressed = 0
  }

  /** It works. */
  worked(): void {
    const since = this.#failingSince
    this.#failingSince = undefined
    // A failure without a warning ends without one.
    if (since !== undefined && this.#warnedAt !== undefined && since <= this.#warnedAt) {
      log().warn(`tessera: ${this.recovery} after ${((this.clock() - since) / 1000).toFixed(1)} s`)
    }
  }
}
