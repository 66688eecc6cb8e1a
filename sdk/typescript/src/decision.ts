/** The answers of a verifier. */

import type { Claims } from './claims.js'
import { ConfigurationError } from './errors.js'
import { shown } from './options.js'

/**
 * Why a token is refused. Tell the bearer only that it is.
 *
 * `scope_missing`: it lacks the required scope. `scope_taken`: it had the scope, and a change of policy removed it.
 * `inactive`: the authority answers that it is not active, or that this client may not introspect it.
 */
export type DenyReason =
  | 'malformed'
  | 'unknown_key'
  | 'bad_signature'
  | 'expired'
  | 'not_yet_valid'
  | 'wrong_audience'
  | 'wrong_realm'
  | 'revoked'
  | 'scope_missing'
  | 'scope_taken'
  | 'inactive'

/** The token is valid. Scopes that policy removed after it was issued are left out of the claims. */
export interface Allow {
  readonly kind: 'allow'
  readonly claims: Claims
}

/** The token is refused, however fresh the verifier is. */
export interface Deny {
  readonly kind: 'deny'
  readonly reason: DenyReason
}

/**
 * The token would be valid, but a revocation may not be known here yet; or the key that signed it is not known here,
 * and may be new. Refuse it for now.
 */
export interface Stale {
  readonly kind: 'stale'
  /** How stale the verifier may be and still allow. */
  readonly boundMs: number
  /** How stale it actually may be; undefined before it has ever been fresh, and after it was closed. */
  readonly behindMs: number | undefined
}

export type Decision = Allow | Deny | Stale

/**
 * What to do with a token that would be valid while the verifier is stale.
 *
 * `fail-closed`: refuse. `introspect`: ask the authority about this token; if it does not answer, refuse. `failOpenMs`:
 * allow up to this staleness, and no further; never before the first snapshot. AwaitPropagation does not wait until
 * such a route refuses.
 */
export type Mode = 'fail-closed' | 'introspect' | { readonly failOpenMs: number }

/** Refuses a value that is not a mode, such as a misspelled one. */
export function checkMode(mode: unknown): void {
  const isName = mode === 'fail-closed' || mode === 'introspect'
  if (!isName && !isOpenMode(mode)) {
    const modes = "'fail-closed', 'introspect' or { failOpenMs } with 0 or more"
    throw new ConfigurationError(`${shown(mode)} is not a mode: use ${modes}`)
  }
}

function isOpenMode(mode: unknown): boolean {
  if (typeof mode !== 'object' || mode === null || Object.keys(mode).join() !== 'failOpenMs') {
    return false
  }
  const { failOpenMs } = mode as { failOpenMs: unknown }
  // NaN is not 0 or more.
  return typeof failOpenMs === 'number' && failOpenMs >= 0
}

/** Whether the token is valid, but not for this. */
export function isAboutScope(reason: DenyReason): boolean {
  return reason === 'scope_missing' || reason === 'scope_taken'
}
