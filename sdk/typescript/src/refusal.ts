/**
 * How a request is refused: the same reasons for every framework; details that the bearer is not told are in the log.
 */

import { Metadata, type StatusObject, status } from '@grpc/grpc-js'

import { type Claims } from './claims.js'
import { type Deny, type Mode, type Stale, isAboutScope } from './decision.js'
import { ConfigurationError } from './errors.js'
import { log } from './logger.js'
import { fill, parametersOf } from './path-scope.js'
import { writeStatusDetails } from './status-details.js'
import type { Verifier } from './verifier.js'

/** When to ask again while the verifier is stale. It reconnects by itself in less time, if an address answers. */
const RETRY_AFTER_SECONDS = 1
/** The text for the bearer. */
const NOT_GOOD = 'a good access token is needed'
const LACKS = 'the access token lacks a scope'

/** Why a request is refused. */
export interface Refusal {
  /** For the log only: the bearer is told only that the token is not valid. */
  why: string
  level: 'debug' | 'info' | 'warn'
  /** The HTTP status, as in RFC 6750 §3. */
  status: number
  error: string
  header?: [string, string]
  /** The gRPC status. */
  code: status
  reason: string
  message: string
  scope?: string
}

/** The claims of a request's token, or why it is refused. */
export async function admit(
  verifier: Verifier,
  headers: readonly string[],
  scope: string | null,
  mode: Mode | undefined,
): Promise<Claims | Refusal> {
  const token = tokenOf(headers)
  if (typeof token !== 'string') {
    return token
  }
  const decision = mode === undefined ? verifier.verify(token, scope) : await verifier.verifyWith(token, scope, mode)
  return decision.kind === 'allow' ? decision.claims : refusalOf(decision, scope)
}

/** Whether a request is refused. */
export function isRefusal(admitted: Claims | Refusal): admitted is Refusal {
  return 'why' in admitted
}

/** Logs why a request is refused. Never the token. */
export function logRefusal({ why, level }: Refusal, path: string): void {
  log()[level](`tessera: refused ${JSON.stringify(path)}: ${why}`)
}

/** A refusal as a gRPC status, with a google.rpc.ErrorInfo. */
export function statusOf({ code, message, reason, scope }: Refusal): Partial<StatusObject> {
  const metadata = new Metadata()
  const retryAfterSeconds = code === status.UNAVAILABLE ? RETRY_AFTER_SECONDS : undefined
  metadata.set('grpc-status-details-bin', writeStatusDetails({ code, message, reason, scope, retryAfterSeconds }))
  return { code, details: message, metadata }
}

/** No requirement is set for this method. */
export function unlisted(): Refusal {
  return {
    why: 'no requirement is listed for this method',
    level: 'warn',
    status: 403,
    error: 'forbidden',
    code: status.PERMISSION_DENIED,
    reason: 'CALL_NOT_ALLOWED',
    message: 'no caller is permitted to do this',
  }
}

/** No scope can be made from the path; the reason is for the log only. */
export function unclear(why: string): Refusal {
  return { ...unlisted(), why, level: 'info' }
}

/**
 * The refusal of a token that lacks a scope with these parameters, if it does; a ConfigurationError if it is not a
 * scope, or if a parameter is not given.
 */
export function refusalOfScope(claims: Claims, scope: string, parameters: Record<string, string>): Refusal | undefined {
  const missing = parametersOf(scope).filter((name) => !Object.hasOwn(parameters, name))
  if (missing.length > 0) {
    throw new ConfigurationError(`no value is given for ${missing.join(', ')} of ${scope}`)
  }
  try {
    const needed = fill(scope, parameters)
    return claims.scopes.has(needed) ? undefined : noScope('scope_missing', needed)
  } catch (error) {
    return unclear((error as Error).message)
  }
}

/** The one bearer token in the `authorization` headers of a request (RFC 6750 §2.1). */
function tokenOf(headers: readonly string[]): string | Refusal {
  if (headers.length > 1) {
    // It is not known which of them another reader of this request would use.
    return noGoodToken('more than one authorization header')
  }
  if (!/^bearer( |$)/i.test(headers[0] ?? '')) {
    // No error code: the client may not have known that it needs a token.
    return unauthenticated('no bearer token', 'debug', 'token_required', challenge())
  }
  const [, token] = /^bearer +(\S+) *$/i.exec(headers[0] ?? '') ?? []
  return token ?? noGoodToken('an authorization header of another form')
}

function refusalOf(decision: Deny | Stale, scope: string | null): Refusal {
  if (decision.kind === 'stale') {
    return stale(decision)
  }
  return isAboutScope(decision.reason)
    ? noScope(decision.reason, scope ?? '')
    : noGoodToken(`the token is not good: ${decision.reason}`)
}

/** `WWW-Authenticate`, as in RFC 6750 §3, and as every other SDK and the authority send it. */
function challenge(parameters: Record<string, string> = {}): string {
  const all = Object.entries({ realm: 'tessera', ...parameters })
  return `Bearer ${all.map(([name, value]) => `${name}="${value}"`).join(', ')}`
}

function noGoodToken(why: string): Refusal {
  return unauthenticated(why, 'info', 'invalid_token', challenge({ error: 'invalid_token', error_description: NOT_GOOD }))
}

function unauthenticated(why: string, level: Refusal['level'], error: string, header: string): Refusal {
  return {
    why,
    level,
    status: 401,
    error,
    header: ['www-authenticate', header],
    code: status.UNAUTHENTICATED,
    reason: 'CLIENT_AUTH_FAILED',
    message: NOT_GOOD,
  }
}

function noScope(reason: string, scope: string): Refusal {
  return {
    why: `the token does not have, or no longer has, \`${scope}\` (${reason})`,
    level: 'info',
    status: 403,
    error: 'insufficient_scope',
    header: ['www-authenticate', challenge({ error: 'insufficient_scope', error_description: LACKS, scope })],
    code: status.PERMISSION_DENIED,
    reason: 'SCOPE_DENIED',
    message: LACKS,
    scope,
  }
}

function stale({ behindMs, boundMs }: Stale): Refusal {
  const behind =
    behindMs === undefined
      ? 'has never been fresh, or is closed'
      : `is ${Math.round(behindMs)} ms behind, and may be ${boundMs} ms`
  return {
    why: `the verifier ${behind}`,
    level: 'warn',
    status: 503,
    error: 'temporarily_unavailable',
    header: ['retry-after', String(RETRY_AFTER_SECONDS)],
    code: status.UNAVAILABLE,
    reason: 'NOT_FRESH_ENOUGH',
    message: "revocations can't be checked now",
  }
}

