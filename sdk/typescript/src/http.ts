/** HTTP servers that accept tokens: middleware for Express, Connect and node:http. */

import type { IncomingMessage, ServerResponse } from 'node:http'

import type { Claims } from './claims.js'
import { PathError, ScopeFromPath, fill, parametersOf } from './path-scope.js'
import { type Refusal, admit, isRefusal, logRefusal, unclear } from './refusal.js'
import { type Requirement, requirementOf } from './requirement.js'
import type { Verifier } from './verifier.js'

/** As Express and Connect call it; with node:http, `next` is the function that continues. */
export type Middleware = (
  request: IncomingMessage,
  response: ServerResponse,
  next: (error?: unknown) => void,
) => void

const claims = new WeakMap<IncomingMessage, Claims>()

/** The claims of a request's token, behind `requireToken`. */
export function claimsOf(request: IncomingMessage): Claims {
  const found = claims.get(request)
  if (found === undefined) {
    throw new Error('the request did not pass requireToken')
  }
  return found
}

/**
 * Admits requests with a valid token. Others get 401, 403 without the scope, or 503 when stale. The log has the reason.
 *
 * `required` is a scope, null for any valid token, or a scope with options. Throws a `ConfigurationError` if it is not
 * valid.
 */
export function requireToken(verifier: Verifier, required: string | Requirement | null): Middleware {
  const requirement = requirementOf('what requireToken requires', required)
  const scopeOf = scopeByRequest(requirement)
  const guard = async (request: IncomingMessage): Promise<Claims | Refusal> => {
    let scope
    try {
      scope = scopeOf(request)
    } catch (error) {
      if (error instanceof PathError) {
        return unclear(error.message)
      }
      throw error
    }
    return admit(verifier, request.headersDistinct['authorization'] ?? [], scope, requirement.mode)
  }
  return (request, response, next) => {
    // An error that `next` throws is its own: it must not be called a second time for it.
    guard(request).then((admitted) => {
      if (isRefusal(admitted)) {
        logRefusal(admitted, request.url?.split('?')[0] ?? '')
        refuse(response, admitted)
      } else {
        claims.set(request, admitted)
        next()
      }
    }, next)
  }
}

/** The scope that a request needs. */
function scopeByRequest({ scope, path }: Requirement): (request: IncomingMessage) => string | null {
  if (scope !== null && path !== undefined) {
    const fromPath = new ScopeFromPath(path, scope)
    // Express removes the mount path of a router from `url`.
    return (request) => fromPath.of((request as Routed).originalUrl ?? request.url ?? '')
  }
  if (scope === null || parametersOf(scope).length === 0) {
    return () => scope
  }
  return (request) => fill(scope, (request as Routed).params ?? {})
}

/** What Express adds to a request. */
interface Routed extends IncomingMessage {
  originalUrl?: string
  params?: Record<string, unknown>
}

/** An answer of RFC 6750, which says only that the token is not valid. */
function refuse(response: ServerResponse, { status, error, header }: Refusal): void {
  response.statusCode = status
  if (header !== undefined) {
    response.setHeader(...header)
  }
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify({ error }))
}
