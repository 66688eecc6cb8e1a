/** What a verifier answers. */

import type { Claims } from './claims.js'
import { ConfigurationError } from './errors.js'
import { shown } from './options.js'

/**
 * Why a token is not good. Tell the bearer no more than that it is not.
 *
 * `scope_missing`: it lacks the scope that is required. `scope_taken`: it had it, and a change of policy took it.
 * `inactive`: the authority says that it is not active, or that this client may not know.
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

/** The token is good. Scopes that policy took since it was issued are left out of the claims. */
export interface Allow {
  readonly kind: 'allow'
  readonly claims: Claims
}

/** The token is not good, however fresh the verifier is. */
export interface Deny {
  readonly kind: 'deny'
  readonly reason: DenyReason
}

/**
 * The token would be good, but a revocation may not be known here yet; or the key that signed it is not known here,
 * and may be a new one. Refuse it for now.
 */
export interface Stale {
  readonly kind: 'stale'
  /** How stale the verifier may be and still allow. */
  readonly boundMs: number
  /** How stale it may be in fact; undefined before it has ever been fresh, and after it was closed. */
  readonly behindMs: number | undefined
}

export type Decision = Allow | Deny | Stale

/**
 * What to do with a token that would be good while the verifier is stale.
 *
 * `fail-closed`: refuse. `introspect`: ask the authority about this token; where it does not answer, refuse.
 * `failOpenMs`: allow up to this staleness, and no further; never before the first snapshot. Calls of
 * AwaitPropagation do not wait for what such a route still allows.
 */
export type Mode = 'fail-closed' | 'introspect' | { readonly failOpenMs: number }

/** Refuses what is no mode, such as one that is misspelled. */
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
  // Not a number is not 0 or more.
  return typeof failOpenMs === 'number' && failOpenMs >= 0
}

/** Whether the token is good, but not for this. */
export function isAboutScope(reason: DenyReason): boolean {
  return reason === 'scope_missing' || reason === 'scope_taken'
}
