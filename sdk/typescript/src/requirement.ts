/**
 * The requirement of a request. A mistake is refused when a guard is made: it must not admit all requests, nor none.
 */

import { type Mode, checkMode } from './decision.js'
import { ConfigurationError } from './errors.js'
import { checkDefined, checkOptions, shown } from './options.js'
import { parametersOf } from './path-scope.js'

/** The requirement of a request beyond a valid token. */
export interface Requirement {
  /**
   * The scope that the token must have; null: any valid token. Over HTTP it may have parameters, `videos/{id}:play`:
   * they are parameters of the route with Express, otherwise segments of `path`.
   */
  scope: string | null
  /** The pattern of the path that has the scope's parameters: `/videos/{id}/play`. Over HTTP only. */
  path?: string
  /** What to do while the verifier is stale. */
  mode?: Mode
}

/**
 * The requirement that a scope, or null, represents.
 *
 * A `ConfigurationError` if it is undefined or of another type, if an option is misspelled or undefined, or if no token
 * could ever have the scope.
 */
export function requirementOf(what: string, given: string | Requirement | null): Requirement {
  if (given === undefined) {
    throw new ConfigurationError(`${what} is undefined: say a scope, or null where any good token will do`)
  }
  const requirement = typeof given === 'string' || given === null ? { scope: given } : given
  checkOptions(what, requirement, ['scope', 'path', 'mode'])
  if (requirement.scope === undefined) {
    throw new ConfigurationError(`${what} has no scope: say one, or null where any good token will do`)
  }
  checkDefined(what, requirement)
  const { scope, path, mode } = requirement
  if (scope !== null) {
    parametersOf(scope)
  }
  if (path !== undefined && scope === null) {
    throw new ConfigurationError(`${what}: the path ${shown(path)} needs a scope whose parameters it has`)
  }
  if (mode !== undefined) {
    checkMode(mode)
  }
  return requirement
}
