/** Calling services over HTTP. */

import type { AccessToken, TokenSource } from './token-source.js'

/**
 * A `fetch` that sends a token of the source with each request.
 *
 * After an answer 401 the source gives the token up, and the request is sent once more with a new one, if there is one
 * and the body can be sent again. Without a token, it rejects with the error of `TokenSource.token`. A redirect to
 * another origin is followed without the token, as `fetch` does.
 */
export function fetchWithToken(source: TokenSource, inner: typeof fetch = fetch): typeof fetch {
  return async (input, init) => {
    const token = await source.token()
    // A `Request` carries its body, which can be read once.
    const repeated = input instanceof Request && input.body !== null ? input.clone() : input
    const response = await inner(input, withToken(input, init, token))
    // After a redirect to another origin the token was not sent.
    if (response.status !== 401 || isElsewhere(response, input)) {
      return response
    }
    source.invalidate(token)
    const fresh = await source.token().catch(() => token)
    if (fresh === token || !canRepeat(init?.body)) {
      return response
    }
    await response.body?.cancel()
    return inner(repeated, withToken(repeated, init, fresh))
  }
}

function withToken(input: Parameters<typeof fetch>[0], init: RequestInit | undefined, token: AccessToken): RequestInit {
  const headers = new Headers(init?.headers ?? (input instanceof Request ? input.headers : undefined))
  headers.set('authorization', `Bearer ${token.expose()}`)
  return { ...init, headers }
}

function isElsewhere(response: Response, input: Parameters<typeof fetch>[0]): boolean {
  const asked = input instanceof Request ? input.url : String(input)
  return response.redirected && new URL(response.url).origin !== new URL(asked).origin
}

/** Whether a body can be sent again: a streamed body is gone. */
function canRepeat(body: unknown): boolean {
  const isStream = body instanceof ReadableStream
  const isIterable = typeof body === 'object' && body !== null && Symbol.asyncIterator in body
  return !isStream && !isIterable
}
