/** Converting the wire's events and keys to what a verifier keeps. Unknown content is never skipped. */

import type { KeyObject } from 'node:crypto'

import { isUuid } from './claims.js'
import type { Timestamp__Output as Timestamp } from './generated/google/protobuf/Timestamp.js'
import type { EventKind__Output as EventKind } from './generated/tessera/v1/EventKind.js'
import type { RevocationEvent__Output as RevocationEvent } from './generated/tessera/v1/RevocationEvent.js'
import type { VerifyingKey__Output as WireKey } from './generated/tessera/v1/VerifyingKey.js'
import { publicKey } from './paseto.js'
import type { Kind, Revocation } from './revocations.js'

type Field = NonNullable<RevocationEvent['target']>

/** The meaning of a kind of event for a verifier. */
interface Meaning {
  revokes?: [Kind, Field]
  changesKeys?: true
}

/** A kind that is not here is not understood. */
const MEANINGS: Record<Exclude<EventKind, 'EVENT_KIND_UNSPECIFIED'>, Meaning> = {
  EVENT_KIND_TOKEN_REVOKED: { revokes: ['token', 'jti'] },
  EVENT_KIND_SESSION_REVOKED: { revokes: ['session', 'sessionId'] },
  EVENT_KIND_SCOPES_NARROWED: { revokes: ['narrowed', 'sessionId'] },
  EVENT_KIND_SUBJECT_REVOKED: { revokes: ['subject', 'subject'] },
  EVENT_KIND_CLIENT_REVOKED: { revokes: ['client', 'client'] },
  EVENT_KIND_LABEL_REVOKED: { revokes: ['label', 'label'] },
  EVENT_KIND_REALM_REVOKED: { revokes: ['realm', 'wholeRealm'] },
  EVENT_KIND_KEY_REVOKED: { revokes: ['key', 'keyId'], changesKeys: true },
  EVENT_KIND_KEY_PUBLISHED: { changesKeys: true },
  EVENT_KIND_KEY_ACTIVATED: { changesKeys: true },
  EVENT_KIND_POLICY_APPLIED: {},
  // The sessions that the key began are ended one by one.
  EVENT_KIND_API_KEY_REVOKED: {},
}

const VERIFYING: ReadonlySet<string> = new Set(['KEY_STATUS_PUBLISHED', 'KEY_STATUS_ACTIVE', 'KEY_STATUS_RETIRED'])

/** An event, as far as a verifier needs it. */
export interface Understood {
  revocation: Revocation | undefined
  changesKeys: boolean
}

/** The public half of a signing key, and the realm whose tokens it verifies. */
export interface VerifyingKey {
  kid: string
  public: KeyObject
  realm: string
  issuer: string
  /** Until when it verifies, in ms since the epoch. */
  notAfter: number
}

/** The meaning of an event; undefined if this verifier does not know it. */
export function understand(event: RevocationEvent, realm: string): Understood | undefined {
  // A kind that the proto does not have arrives as a number.
  const meaning = (MEANINGS as Partial<Record<string | number, Meaning>>)[event.kind]
  if (meaning === undefined || event.realm !== realm) {
    return undefined
  }
  const changesKeys = meaning.changesKeys ?? false
  if (meaning.revokes === undefined) {
    return { revocation: undefined, changesKeys }
  }
  const revocation = revocationOf(event, ...meaning.revokes)
  return revocation && { revocation, changesKeys }
}

function revocationOf(event: RevocationEvent, kind: Kind, field: Field): Revocation | undefined {
  const { relevantUntil, sequence, lostScopes } = event
  const value = event.target === field ? event[field] : undefined
  if (relevantUntil === null || value === undefined || value === false || value === '') {
    return undefined
  }
  const name = value === true ? '' : value
  const isNoId = (field === 'jti' || field === 'sessionId') && !isUuid(name)
  if (isNoId || (kind === 'narrowed' && lostScopes.length === 0)) {
    return undefined
  }
  return { kind, name, sequence, until: moment(relevantUntil), lostScopes }
}

/** A time on the wire, in ms since the epoch. */
export function moment(timestamp: Timestamp): number {
  return timestamp.seconds * 1000 + Math.floor(timestamp.nanos / 1e6)
}

/**
 * The keys of the realm that verify, by their id. A key that can't be read, or whose use is not known here, verifies
 * nothing. A retired key still verifies for the leeway of its last token.
 */
export function keyring(keys: WireKey[], realm: string, leewayMs: number): Map<string, VerifyingKey> {
  const ring = new Map<string, VerifyingKey>()
  for (const key of keys) {
    const parsed = key.realm === realm && VERIFYING.has(key.status) ? publicKey(key.paserk) : undefined
    if (parsed !== undefined) {
      const notAfter = key.notAfter === null ? Infinity : moment(key.notAfter) + leewayMs
      ring.set(key.kid, { kid: key.kid, public: parsed, realm, issuer: key.issuer, notAfter })
    }
  }
  return ring
}
