/** HTTP servers that accept tokens: middleware for Express, Connect and node:http. */

import type { IncomingMessage, ServerResponse } from 'node:http'

import { tokenOf } from './bearer.js'
import type { Claims } from './claims.js'
import { type Decision, type Mode, isAboutScope } from './decision.js'
import type { Verifier } from './verifier.js'

/** What a request needs beyond a good token. */
export interface Requirement {
  /** The scope that the token must have. */
  scope?: string
  /** What to do while the verifier is stale. */
  mode?: Mode
}

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

/** Lets requests through that carry a good token: else 401, 403 without the scope, 503 when stale. */
export function requireToken(verifier: Verifier, { scope, mode }: Requirement = {}): Middleware {
  return (request, response, next) => {
    const headers = request.headersDistinct['authorization'] ?? []
    const token = headers.length === 1 ? tokenOf(headers[0]) : undefined
    const answer = (decision: Decision | undefined) => {
      if (decision?.kind === 'allow') {
        claims.set(request, decision.claims)
        next()
      } else {
        refuse(response, decision, scope)
      }
    }
    if (token === undefined || mode === undefined) {
      answer(token === undefined ? undefined : verifier.verify(token, scope))
    } else {
      verifier.verifyWith(token, scope, mode).then(answer).catch(next)
    }
  }
}

/** An answer of RFC 6750, which says no more of a token than that it is not good. */
function refuse(response: ServerResponse, decision: Decision | undefined, scope: string | undefined): void {
  if (decision === undefined) {
    send(response, 401, 'token_required', ['www-authenticate', 'Bearer'])
  } else if (decision.kind !== 'deny') {
    send(response, 503, 'temporarily_unavailable', ['retry-after', '1'])
  } else if (isAboutScope(decision.reason)) {
    const challenge = `Bearer error="insufficient_scope", scope="${scope}"`
    send(response, 403, 'insufficient_scope', ['www-authenticate', challenge])
  } else {
    send(response, 401, 'invalid_token', ['www-authenticate', 'Bearer error="invalid_token"'])
  }
}

function send(response: ServerResponse, code: number, error: string, [name, value]: [string, string]): void {
  response.statusCode = code
  response.setHeader(name, value)
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify({ error }))
}
