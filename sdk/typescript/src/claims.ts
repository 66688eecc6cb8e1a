/** The content of an access token. */

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const TEXTS = ['iss', 'sub', 'aud', 'jti', 'iat', 'nbf', 'exp', 'scope', 'realm', 'client_id', 'sid', 'pol']
const NUMBERS = ['gen', 'rev']
const KNOWN: ReadonlySet<string> = new Set([...TEXTS, ...NUMBERS, 'roles', 'labels'])

/** The claims of an access token. */
export interface Claims {
  readonly issuer: string
  readonly subject: string
  readonly audience: string
  readonly tokenId: string
  readonly issuedAt: Date
  readonly notBefore: Date
  readonly expiresAt: Date
  readonly scopes: ReadonlySet<string>
  readonly roles: readonly string[]
  readonly realm: string
  /** The client that it was issued to (`client:<name>`). */
  readonly client: string
  /** The session. */
  readonly sessionId: string
  readonly generation: number
  /** The last sequence of the revocation log when it was issued. */
  readonly rev: number
  readonly policyRevision: string
  readonly labels: readonly string[]
}

/** The claims in the form of a token. */
type Wire = Record<
  'iss' | 'sub' | 'aud' | 'jti' | 'iat' | 'nbf' | 'exp' | 'scope' | 'realm' | 'client_id' | 'sid' | 'pol',
  string
> & { gen: number; rev: number; roles: string[]; labels?: string[] }

/** The claims in a payload; undefined if anything in it is not exactly right. */
export function decodeClaims(payload: Uint8Array): Claims | undefined {
  const wire = parseExactly(payload)
  return wire !== undefined && hasTheForm(wire) ? claimsOf(wire) : undefined
}

/**
 * JSON in the exact form in which the authority writes it. `JSON.parse` keeps the last of two members with one name, so
 * such a text differs when it is written again.
 */
function parseExactly(payload: Uint8Array): unknown {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(payload)
    const value: unknown = JSON.parse(text)
    return JSON.stringify(value) === text ? value : undefined
  } catch {
    return undefined
  }
}

function hasTheForm(value: unknown): value is Wire {
  if (typeof value !== 'object' || value === null) {
    return false
  }
  const wire = value as Record<string, unknown>
  return (
    Object.keys(wire).every((name) => KNOWN.has(name)) &&
    TEXTS.every((name) => typeof wire[name] === 'string') &&
    NUMBERS.every((name) => Number.isSafeInteger(wire[name]) && (wire[name] as number) >= 0) &&
    isTexts(wire['roles']) &&
    (!('labels' in wire) || isTexts(wire['labels'])) &&
    [wire['iat'], wire['nbf'], wire['exp']].every((time) => isTime(time as string)) &&
    isUuid(wire['jti'] as string) &&
    isUuid(wire['sid'] as string)
  )
}

function isTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every((item) => typeof item === 'string')
}

function isTime(text: string): boolean {
  return TIME.test(text) && !Number.isNaN(Date.parse(text))
}

/** Whether it is a UUID in its usual form: then equal ids are equal texts. */
export function isUuid(text: string): boolean {
  return UUID.test(text)
}

function claimsOf(wire: Wire): Claims {
  return {
    issuer: wire.iss,
    subject: wire.sub,
    audience: wire.aud,
    tokenId: wire.jti,
    issuedAt: new Date(wire.iat),
    notBefore: new Date(wire.nbf),
    expiresAt: new Date(wire.exp),
    scopes: new Set(wire.scope.split(' ').filter((scope) => scope !== '')),
    roles: wire.roles,
    realm: wire.realm,
    client: wire.client_id,
    sessionId: wire.sid,
    generation: wire.gen,
    rev: wire.rev,
    policyRevision: wire.pol,
    labels: wire.labels ?? [],
  }
}
