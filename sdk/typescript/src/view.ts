/** A verifier's knowledge: keys, revocations, and since when it may have missed something. */

import { createHash } from 'node:crypto'

import { type Claims, decodeClaims } from './claims.js'
import { type Allow, type Decision, type Deny, type DenyReason } from './decision.js'
import { isSignedBy, takeApart } from './paseto.js'
import { Revocations } from './revocations.js'
import type { VerifyingKey } from './wire.js'

/**
 * How long a token waits for its position of the revocation log. An answer to a ping takes milliseconds.
 */
const CATCH_UP_MAX_MS = 500
/** How long before `iat` a token may be used: the authority backdates `nbf` by this. */
const NBF_BACKDATE_MS = 10_000
/** The longest that a timer of Node can wait. */
const TIMER_MAX_MS = 2 ** 31 - 1

/** What is accepted. */
export interface Accepted {
  realm: string
  audience: string
  /** How stale a verifier may be and still allow. */
  boundMs: number
  leewayMs: number
  cacheCapacity: number
  /** The authority's addresses, for messages. */
  addresses: readonly string[]
  /** The time that tokens are compared with, in ms since the epoch. */
  clock: () => number
}

/** A token with a correct signature. */
interface Signed {
  claims: Claims
  key: VerifyingKey
}

type Checked = Allow | Deny

/** Shared by a verifier and its follower. */
export class View {
  isReady = false
  /** Whether nothing is allowed any longer. */
  isClosed = false
  /** Why it does not follow now, and whether waiting helps. */
  problem: string | undefined
  isPermanent = false
  /** The address of the problem. */
  problemAt: string
  /** The address that it follows, or tries. */
  at = ''
  /** Asks the follower to read the keys again. */
  onUnknownKey: () => void = () => {}
  /** Asks the follower to ask the authority for the end of the log. */
  onAhead: () => void = () => {}
  /** Called when the authority reported the end of the log, and when it can't be followed. */
  readonly heard = new Set<() => void>()
  revoked = new Revocations()
  /** Everything durable before this moment of the monotonic clock has been applied. */
  freshAsOf: number | undefined
  /**
   * Revocations of tokens that expired before this may have been left out or removed, so no leeway goes back beyond it.
   * In ms since the epoch.
   */
  forgottenThrough = 0
  /** The last event of the revocation log that has been applied, and the identity of that log. */
  through = 0
  log: string | undefined
  /** How many snapshots were taken. */
  snapshots = 0
  #keys: Keys

  constructor(readonly accepted: Accepted) {
    this.#keys = new Keys(new Map(), accepted.cacheCapacity)
    this.problemAt = accepted.addresses.join(', ')
  }

  /** The problem, with its address if there are several. */
  get told(): string | undefined {
    const hasOne = this.accepted.addresses.length < 2
    return hasOne || this.problem === undefined ? this.problem : `${this.problemAt}: ${this.problem}`
  }

  /**
   * Other keys, another cache. The same keys keep their cache: anyone can cause them to be read again, with a token of
   * an unknown key.
   */
  putKeys(ring: Map<string, VerifyingKey>): void {
    if (isSameRing(ring, this.#keys.ring)) {
      return
    }
    this.#keys = new Keys(ring, this.accepted.cacheCapacity)
  }

  /** Whether any token can be verified. */
  get hasKeys(): boolean {
    return this.#keys.ring.size > 0
  }

  /** From now on nothing is fresh: no further revocation is received. */
  close(): void {
    this.isClosed = true
    this.tell()
  }

  /** The authority can't be followed now. */
  fail(address: string, problem: string, isPermanent: boolean): void {
    this.problemAt = address
    this.problem = problem
    this.isPermanent = isPermanent
    this.tell()
  }

  /** The authority is followed, and has reported how fresh all this is. */
  follow(): void {
    this.problem = undefined
    this.isPermanent = false
    this.isReady = true
    this.tell()
  }

  /** Tells the waiting callers. */
  tell(): void {
    this.heard.forEach((hear) => hear())
  }

  /** Whether a condition holds within a time; it is checked whenever something arrives. Closing ends the wait. */
  async until(holds: () => boolean, timeoutMs: number): Promise<boolean> {
    if (holds() || this.isClosed) {
      return holds()
    }
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer)
        this.heard.delete(hear)
        resolve(holds())
      }
      const hear = (): void => {
        if (holds() || this.isClosed) {
          done()
        }
      }
      const timer = timeoutMs === Infinity ? undefined : setTimeout(done, Math.min(timeoutMs, TIMER_MAX_MS))
      this.heard.add(hear)
    })
  }

  /** Removes what matters to no token that this verifier would accept. */
  forgetBefore(horizon: number): void {
    this.forgottenThrough = Math.max(this.forgottenThrough, horizon)
    this.revoked.forgetBefore(this.forgottenThrough)
  }

  /**
   * The answer to `token` if a staleness up to `boundMs` is allowed.
   *
   * A token with a position of the log that is not known here is not allowed: it may have been issued a moment ago, or
   * be invented, so that no revocation could reach it. If `unheardSince` is given, such a token is allowed for as long
   * as the authority has not answered since that moment of the monotonic clock.
   */
  decide(token: string, required: string | null, boundMs: number, unheardSince?: number): Decision {
    if (typeof token !== 'string') {
      return deny('malformed')
    }
    const keys = this.#keys
    const digest = createHash('sha256').update(token).digest('base64')
    const signed = keys.signed(token, digest)
    const checked = signed === undefined ? deny(this.#whyNotSigned(token, keys)) : this.#decide(signed, required)
    if (checked.kind === 'allow' && checked.claims.rev > this.through) {
      const isUnheard = unheardSince !== undefined && (this.freshAsOf === undefined || this.freshAsOf < unheardSince)
      if (!isUnheard) {
        this.onAhead()
        return { kind: 'stale', boundMs, behindMs: this.behindMs() }
      }
    }
    // The authority may have a key that is not known here yet.
    if (checked.kind === 'allow' || checked.reason === 'unknown_key') {
      // The time is taken last: the time that the decision took counts as staleness.
      const behindMs = this.behindMs()
      return behindMs !== undefined && behindMs <= boundMs ? checked : { kind: 'stale', boundMs, behindMs }
    }
    if (checked.reason === 'revoked' || checked.reason === 'expired') {
      keys.forget(digest)
    }
    return checked
  }

  /** Resolves a moment later, or when the log's position of `token` is known, if it is ahead. */
  async catchUp(token: string): Promise<void> {
    const untrusted = takeApart(token)
    const claims = untrusted && decodeClaims(untrusted.payload)
    const since = performance.now()
    const isTold = (rev: number): boolean =>
      this.isClosed || rev <= this.through || (this.freshAsOf ?? -Infinity) >= since
    if (claims !== undefined) {
      await this.until(() => isTold(claims.rev), CATCH_UP_MAX_MS)
    }
  }

  /** How stale all this may be. */
  behindMs(): number | undefined {
    return this.freshAsOf === undefined || this.isClosed ? undefined : performance.now() - this.freshAsOf
  }

  /**
   * The authority has verified this very token and reports that it is active, with these scopes; this checks its realm
   * and audience.
   */
  checkIntrospected(claims: Claims, active: ReadonlySet<string>, required: string | null): Checked {
    const taken = new Set([...claims.scopes].filter((scope) => !active.has(scope)))
    return this.#forAnother(claims) ?? leftOf(claims, taken, required)
  }

  /** What a signed token may be used for now. */
  #decide({ claims, key }: Signed, required: string | null): Checked {
    const { leewayMs, clock } = this.accepted
    const [now, expiresAt] = [clock(), claims.expiresAt.getTime()]
    if (now > key.notAfter || now >= expiresAt + leewayMs || expiresAt < this.forgottenThrough) {
      return deny('expired')
    }
    if (now + leewayMs < Math.max(claims.notBefore.getTime(), claims.issuedAt.getTime() - NBF_BACKDATE_MS)) {
      return deny('not_yet_valid')
    }
    const another = this.#forAnother(claims)
    if (another !== undefined) {
      return another
    }
    if (this.revoked.revokes(claims, key.kid)) {
      return deny('revoked')
    }
    return leftOf(claims, this.revoked.taken(claims), required)
  }

  #forAnother(claims: Claims): Deny | undefined {
    if (claims.realm !== this.accepted.realm) {
      return deny('wrong_realm')
    }
    return claims.audience === this.accepted.audience ? undefined : deny('wrong_audience')
  }

  /**
   * Distinguishes the refusals of a token that no key signed: by its own claims, which is enough to refuse it.
   */
  #whyNotSigned(token: string, keys: Keys): DenyReason {
    const untrusted = takeApart(token)
    const claims = untrusted && decodeClaims(untrusted.payload)
    if (untrusted === undefined || claims === undefined) {
      return 'malformed'
    }
    if (keys.ring.has(untrusted.kid)) {
      return 'bad_signature'
    }
    if (claims.realm !== this.accepted.realm) {
      return 'wrong_realm'
    }
    this.onUnknownKey()
    return 'unknown_key'
  }
}

/** The keys of one moment, with the tokens whose signature they verified. */
class Keys {
  readonly #verified = new Map<string, Signed>()

  constructor(
    readonly ring: ReadonlyMap<string, VerifyingKey>,
    readonly capacity: number,
  ) {}

  /** The token, if one of the keys signed it and its claims are allowed for that key. */
  signed(token: string, digest: string): Signed | undefined {
    const cached = this.#verified.get(digest)
    if (cached !== undefined) {
      return cached
    }
    const untrusted = takeApart(token)
    const key = untrusted && this.ring.get(untrusted.kid)
    // No claim is read before the signature is verified.
    if (untrusted === undefined || key === undefined || !isSignedBy(untrusted, key.public)) {
      return undefined
    }
    const claims = decodeClaims(untrusted.payload)
    if (claims === undefined || claims.issuer !== key.issuer || claims.realm !== key.realm) {
      return undefined
    }
    const signed = { claims, key }
    this.#keep(digest, signed)
    return signed
  }

  /** An expired token is rarely presented again. */
  forget(digest: string): void {
    this.#verified.delete(digest)
  }

  #keep(digest: string, signed: Signed): void {
    const [oldest] = this.#verified.keys()
    if (this.#verified.size >= this.capacity && oldest !== undefined) {
      this.#verified.delete(oldest)
    }
    if (this.capacity > 0) {
      this.#verified.set(digest, signed)
    }
  }
}

function isSameRing(ring: ReadonlyMap<string, VerifyingKey>, other: ReadonlyMap<string, VerifyingKey>): boolean {
  return ring.size === other.size && [...ring].every(([kid, key]) => isSameKey(key, other.get(kid)))
}

function isSameKey(key: VerifyingKey, other: VerifyingKey | undefined): boolean {
  return (
    other !== undefined &&
    key.public.equals(other.public) &&
    key.realm === other.realm &&
    key.issuer === other.issuer &&
    key.notAfter === other.notAfter
  )
}

function deny(reason: DenyReason): Deny {
  return { kind: 'deny', reason }
}

/** The claims without the scopes that were removed; the required scope must not be among these. */
function leftOf(claims: Claims, taken: ReadonlySet<string>, required: string | null): Checked {
  if (required !== null && !claims.scopes.has(required)) {
    return deny('scope_missing')
  }
  if (required !== null && taken.has(required)) {
    return deny('scope_taken')
  }
  if (taken.size === 0) {
    return { kind: 'allow', claims }
  }
  const scopes = new Set([...claims.scopes].filter((scope) => !taken.has(scope)))
  return scopes.size === 0 ? deny('revoked') : { kind: 'allow', claims: { ...claims, scopes } }
}
