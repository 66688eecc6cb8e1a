/** What is revoked now: the log as look-ups that cost the same for any number of entries. */

import type { Claims } from './claims.js'

/** The kind of a revocation's target; `narrowed`: some scopes of a session. */
export type Kind = 'token' | 'session' | 'narrowed' | 'key' | 'subject' | 'client' | 'label' | 'realm'

/** One event that revokes. */
export interface Revocation {
  kind: Kind
  /** The id or the name of the target; the realm has none. */
  name: string
  sequence: number
  /** When it stops mattering, in ms since the epoch. */
  until: number
  lostScopes: readonly string[]
}

/** Entries that stop mattering within the same time are removed together, so that no search is needed. */
const BUCKET_MS = 60_000

/** The revocations of a realm that can still matter. */
export class Revocations {
  readonly #entries = new Map<string, Revocation>()
  /** The scopes that sessions lost, each with the last event that removed it. */
  readonly #taken = new Map<string, Map<string, number>>()
  /** The targets whose entries stop mattering in a bucket of time. An entry that was replaced since is skipped. */
  readonly #expiry = new Map<number, Set<string>>()

  get size(): number {
    return this.#entries.size
  }

  /** Applies one event. */
  apply(revocation: Revocation): void {
    const target = targetOf(revocation.kind, revocation.name)
    const older = this.#entries.get(target)
    // A replayed event changes nothing; a later one of the same target replaces the earlier.
    if (older !== undefined && older.sequence > revocation.sequence) {
      return
    }
    let { until } = revocation
    if (revocation.kind === 'narrowed') {
      this.#take(revocation)
      // Scopes that were lost before stay lost: a later loss adds to them and replaces nothing.
      until = Math.max(until, older?.until ?? until)
    }
    this.#entries.set(target, { ...revocation, until })
    const bucket = Math.floor(until / BUCKET_MS)
    const targets = this.#expiry.get(bucket) ?? new Set()
    this.#expiry.set(bucket, targets.add(target))
  }

  /** Whether a token with the signing key `kid` is revoked. */
  revokes(claims: Claims, kid: string): boolean {
    return (
      this.#entries.has(targetOf('token', claims.tokenId)) ||
      this.#entries.has(targetOf('session', claims.sessionId)) ||
      this.#entries.has(targetOf('key', kid)) ||
      this.#isBefore('realm', '', claims) ||
      this.#isBefore('subject', claims.subject, claims) ||
      this.#isBefore('client', claims.client, claims) ||
      claims.labels.some((label) => this.#isBefore('label', label, claims))
    )
  }

  /** The scopes of the token that changes of policy removed after it was issued. */
  taken(claims: Claims): ReadonlySet<string> {
    const taken = this.#taken.get(claims.sessionId)
    const scopes = taken === undefined ? [] : [...claims.scopes]
    return new Set(scopes.filter((scope) => claims.rev < (taken?.get(scope) ?? 0)))
  }

  /** Removes entries that stopped mattering before `horizon`, up to a bucket's length later. */
  forgetBefore(horizon: number): void {
    for (const [bucket, targets] of this.#expiry) {
      if ((bucket + 1) * BUCKET_MS <= horizon) {
        this.#expiry.delete(bucket)
        targets.forEach((target) => this.#forget(target, horizon))
      }
    }
  }

  #take(revocation: Revocation): void {
    const taken = this.#taken.get(revocation.name) ?? new Map<string, number>()
    revocation.lostScopes.forEach((scope) => taken.set(scope, revocation.sequence))
    this.#taken.set(revocation.name, taken)
  }

  #forget(target: string, horizon: number): void {
    const entry = this.#entries.get(target)
    if (entry === undefined || entry.until >= horizon) {
      return
    }
    this.#entries.delete(target)
    if (entry.kind === 'narrowed') {
      this.#taken.delete(entry.name)
    }
  }

  /** Whether the token was issued before everything of this target ended: exact, with no clock. */
  #isBefore(kind: Kind, name: string, claims: Claims): boolean {
    const entry = this.#entries.get(targetOf(kind, name))
    return entry !== undefined && claims.rev < entry.sequence
  }
}

function targetOf(kind: Kind, name: string): string {
  return `${kind} ${name}`
}
