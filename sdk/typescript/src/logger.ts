/** The messages of the SDK, and their destination. */

/** A logger; `console` is one, and so are pino, winston and similar ones. */
export interface Logger {
  debug(message: string): void
  info(message: string): void
  warn(message: string): void
}

/** Warnings and refusals are shown by default, and details are not. */
const DEFAULT: Logger = {
  debug: () => {},
  info: (message) => console.info(message),
  warn: (message) => console.warn(message),
}

const INTERVAL_MS = 60_000

let current = DEFAULT

/**
 * Sets the logger for all messages of the SDK; without an argument, `console` again. No token or API key is in them.
 */
export function setLogger(logger: Logger = DEFAULT): void {
  current = logger
}

/** The current logger. */
export function log(): Logger {
  return current
}

/** Warns of a failure at once, then once a minute with the number of failures, and reports when it is over. */
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
