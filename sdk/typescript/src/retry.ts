/** Waiting between attempts. */

import { setTimeout as sleeping } from 'node:timers/promises'

/** Exponential backoff with jitter. */
export class Backoff {
  #next: number

  constructor(
    readonly firstMs: number,
    readonly longestMs: number,
  ) {
    this.#next = Math.min(firstMs, longestMs)
  }

  /** How long to wait now: between half of the step and all of it. */
  waitMs(): number {
    const step = this.#next
    this.#next = Math.min(step * 2, this.longestMs)
    return step * (0.5 + 0.5 * Math.random())
  }

  /** Begins again with the first step. */
  reset(): void {
    this.#next = Math.min(this.firstMs, this.longestMs)
  }
}

/** Waits; a signal ends the wait early. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await sleeping(ms, undefined, { signal })
  } catch {
    // Ended early, which is not an error.
  }
}
