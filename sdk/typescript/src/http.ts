/** HTTP servers that accept tokens: middleware for Express, Connect and node:http. */

import type { IncomingMessage, ServerResponse } from 'node:http'

import type { Claims } from './claims.js'
import { type Refusal, type Requirement, admit, isRefusal, logRefusal } from './refusal.js'
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

/** Lets requests through that carry a good token: else 401, 403 without the scope, 503 when stale. The log says why. */
export function requireToken(verifier: Verifier, requirement: Requirement = {}): Middleware {
  return (request, response, next) => {
    // What `next` throws is its own affair: it must not be called a second time for it.
    admit(verifier, request.headersDistinct['authorization'] ?? [], requirement).then((admitted) => {
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

/** An answer of RFC 6750, which says no more of a token than that it is not good. */
function refuse(response: ServerResponse, { status, error, header }: Refusal): void {
  response.statusCode = status
  if (header !== undefined) {
    response.setHeader(...header)
  }
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify({ error }))
}
