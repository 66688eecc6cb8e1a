/** HTTP servers that accept tokens: middleware for Express, Connect and node:http. */

import type { IncomingMessage, ServerResponse } from 'node:http'

import type { Claims } from './claims.js'
import { PathError, ScopeFromPath, fill, parametersOf } from './path-scope.js'
import { type Refusal, admit, isRefusal, logRefusal, unclear } from './refusal.js'
import { type Requirement, requirementOf } from './requirement.js'
import type { Verifier } from './verifier.js'

/** As Express and Connect call it; with node:http, `next` is what goes on. */
export type Middleware = (
  request: IncomingMessage,
  response: ServerResponse,
  next: (error?: unknown) => void,
) => void

const claims = new WeakMap<IncomingMessage, Claims>()

/** The claims of the token that a request came with, behind `requireToken`. */
export function claimsOf(request: IncomingMessage): Claims {
  const found = claims.get(request)
  if (found === undefined) {
    throw new Error('the request did not pass requireToken')
  }
  return found
}

/**
 * Lets requests through that carry a good token: else 401, 403 without the scope, 503 when stale. The log says why.
 *
 * `required` is a scope, null where any good token will do, or a scope with more. Throws a `ConfigurationError` where it
 * can't be right.
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
    // What `next` throws is its own affair: it must not be called a second time for it.
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
    // Express takes off `url` what a router is mounted at.
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

/** An answer of RFC 6750, which says no more of a token than that it is not good. */
function refuse(response: ServerResponse, { status, error, header }: Refusal): void {
  response.statusCode = status
  if (header !== undefined) {
    response.setHeader(...header)
  }
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify({ error }))
}
