/**
 * Scopes whose parameters come from the path of a request: `videos/{id}:play`.
 *
 * A hook decides by the path, and the service behind it reads the path again. So a path that two readers may read
 * differently is refused, and never guessed.
 */

import { ConfigurationError } from './errors.js'
import { shown } from './options.js'

const PARAMETER = /^\{([A-Za-z0-9_]+)\}$/
/** The allowed value of a parameter in a scope: one segment of its resource. */
const VALUE = /^[A-Za-z0-9._~:@-]+$/
const ACTION = /^[A-Za-z0-9_-]+$/
const ENCODED = /%[0-9A-Fa-f]{2}/
const BAD_PERCENT = /%(?![0-9A-Fa-f]{2})/
const LENGTH_MAX = 8 * 1024

/** No scope can be made from a path: it does not match, is ambiguous, or has a value that no scope can have. */
export class PathError extends Error {}

/** A scope for each path: the values of its parameters are in the path of the request. */
export class ScopeFromPath {
  readonly #parts: string[]
  readonly #hasMore: boolean
  readonly #scope: string

  /** `path` is a pattern such as `/videos/{id}/play`; `/*` at its end matches everything beneath. */
  constructor(path: string, scope: string) {
    if (typeof path !== 'string') {
      throw notAPattern(path)
    }
    this.#hasMore = path.endsWith('/*')
    const plain = this.#hasMore ? path.slice(0, -2) : path
    this.#parts = plain === '' || plain === '/' ? [] : plain.slice(1).split('/')
    const names = this.#parts.flatMap((part) => PARAMETER.exec(part)?.[1] ?? [])
    if (!path.startsWith('/') || new Set(names).size < names.length || !this.#parts.every(isPart)) {
      throw notAPattern(path)
    }
    const missing = parametersOf(scope).filter((name) => !names.includes(name))
    if (missing.length > 0) {
      throw new ConfigurationError(`the path ${path} has no parameter ${missing.join(', ')}`)
    }
    this.#scope = scope
  }

  /** The scope for a path as it was sent; it may have a query. */
  of(target: string): string {
    const segments = called(target)
    const isLong = segments.length > this.#parts.length && !this.#hasMore
    const found: Record<string, string> = {}
    const matches = this.#parts.every((part, position) => {
      const name = PARAMETER.exec(part)?.[1]
      const segment = segments[position]
      if (name !== undefined && segment !== undefined) {
        found[name] = segment
      }
      return segment !== undefined && (name !== undefined || part === segment)
    })
    if (isLong || !matches) {
      throw new PathError('the path is another one')
    }
    return fill(this.#scope, found)
  }
}

/**
 * The names of a scope's parameters; a ConfigurationError if it is not a scope even with them filled in: no token could
 * have it.
 */
export function parametersOf(scope: string): string[] {
  const [segments, action] = typeof scope === 'string' ? split(scope) : [[], '']
  if (!ACTION.test(action) || !segments.every((segment) => PARAMETER.test(segment) || isValue(segment))) {
    const right = 'write one `resource:action`, such as `videos:read`'
    throw new ConfigurationError(`${shown(scope)} is not a scope that a token can have: ${right}`)
  }
  return segments.flatMap((segment) => PARAMETER.exec(segment)?.[1] ?? [])
}

/** The scope with these parameters; a PathError if one is missing, or has a value that no scope can have. */
export function fill(scope: string, parameters: Record<string, unknown>): string {
  const [segments, action] = split(scope)
  const filled = segments.map((segment) => {
    const name = PARAMETER.exec(segment)?.[1]
    const value = name === undefined ? segment : Object.hasOwn(parameters, name) ? parameters[name] : undefined
    if (typeof value !== 'string' || !isValue(value)) {
      throw new PathError(`no scope can have the value that is given for ${segment}`)
    }
    return value
  })
  return `${filled.join('/')}:${action}`
}

/** The segments of a path as it was sent; it may have a query. One `/` at the end is ignored. */
export function called(target: string): string[] {
  const path = target.split('?', 1)[0] ?? ''
  if (!path.startsWith('/') || path.length > LENGTH_MAX) {
    throw new PathError('the path does not begin with `/`, or is too long')
  }
  if (path === '/') {
    return []
  }
  const inner = path.endsWith('/') ? path.slice(1, -1) : path.slice(1)
  return inner.split('/').map(readSegment)
}

function notAPattern(path: unknown): ConfigurationError {
  return new ConfigurationError(`${shown(path)} is not a pattern of paths such as \`/videos/{id}/play\``)
}

function readSegment(raw: string): string {
  if (!/^[!-~]+$/.test(raw) || BAD_PERCENT.test(raw)) {
    throw new PathError('the path has an empty segment, a character that may not be there, or a wrong encoding')
  }
  let text
  try {
    text = decodeURIComponent(raw)
  } catch {
    throw new PathError('the path is not UTF-8')
  }
  if (isDots(text) || raw.includes('#') || /[/\\;\p{Cc}]/u.test(text) || ENCODED.test(text)) {
    throw new PathError('the path can be read in more than one way')
  }
  return text
}

function split(scope: string): [string[], string] {
  const colon = scope.lastIndexOf(':')
  return [scope.slice(0, Math.max(colon, 0)).split('/'), scope.slice(colon + 1)]
}

function isPart(part: string): boolean {
  return PARAMETER.test(part) || (part !== '' && !isDots(part) && !/[{}*%?#;\\\p{Cc}]/u.test(part))
}

function isValue(text: string): boolean {
  return VALUE.test(text) && !isDots(text)
}

function isDots(text: string): boolean {
  return text === '.' || text === '..'
}
