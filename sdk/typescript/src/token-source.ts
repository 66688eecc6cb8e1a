/**
 * A source of access tokens that are always valid.
 *
 * One call is in progress at a time, so callers can't stampede: they get the current token, or wait for that call.
 * Expiry is `expiresIn` on the monotonic clock from when the request was sent, never the wall clock.
 */

import { type Client, protocolError } from './calls.js'
import { type CallError, ClosedError, ConfigurationError, PassingError, SignInError } from './errors.js'
import type { TokenSet__Output as TokenSet } from './generated/tessera/v1/TokenSet.js'
import { ProblemLog } from './logger.js'
import { checkOptions, shown } from './options.js'
import { Backoff } from './retry.js'

const BACKOFF_MS = 250
const BACKOFF_MAX_MS = 15_000
/** The shortest time between two renewals, for tokens with a very short life. */
const RENEWAL_PAUSE_MS = 250
/** How long a permanent error is repeated before the authority is asked again: it may have been fixed. */
const PERMANENT_FOR_MS = 30_000
/**
 * The shortest time between two tokens that are given up because a service refused them: a service that always refuses
 * causes no more calls than this.
 */
const INVALIDATION_PAUSE_MS = 10_000
/** The longest that a timer of Node can wait. */
const TIMER_MAX_MS = 2 ** 31 - 1

/** The tokens to get, as in an IssueRequest. */
export interface TokenRequest {
  /** The audience; may be left out if the realm has exactly one. */
  audience?: string
  /** The subject. Unset: the client itself. */
  subject?: string
  roles?: string[]
  /** Unset: all scopes that the policy grants. */
  scopes?: string[]
  /** The life of each access token, in whole seconds. Unset: the realm's default. */
  accessTtlSeconds?: number
  labels?: string[]
  /** Fail unless every scope is granted. */
  requireAll?: boolean
}

/** An access token; only `expose` shows it. */
export class AccessToken {
  readonly scopes: readonly string[]
  readonly #text: string
  readonly #sentAt: number
  readonly #validUntil: number

  constructor(tokens: TokenSet, sentAt: number) {
    this.scopes = tokens.scopes
    this.#text = tokens.accessToken
    this.#sentAt = sentAt
    this.#validUntil = sentAt + tokens.expiresIn * 1000
  }

  /** The token itself. */
  expose(): string {
    return this.#text
  }

  /** The rest of its life; 0 or less: it has ended. */
  get remainingMs(): number {
    return this.#validUntil - performance.now()
  }

  /** When to renew it, on the monotonic clock: at two thirds of its life, plus or minus a tenth of that. */
  renewsAt(): number {
    const life = this.#validUntil - this.#sentAt
    return this.#sentAt + (life * (0.9 + 0.2 * Math.random()) * 2) / 3
  }
}

/** The last attempt failed; before `until` there is no other attempt. */
interface Failed {
  error: CallError
  until: number
}

/**
 * Gives a valid access token at any time.
 *
 * The first `token` issues. At two thirds of a token's life it is renewed in the background, while the old one is used;
 * if the session is gone, a new one is issued with the API key. After an error that may be temporary, the old token
 * stays in use for as long as it lives. `close` ends the renewal, which does not keep the process alive.
 */
export class TokenSource {
  readonly #client: Client
  readonly #request: TokenRequest
  readonly #backoff = new Backoff(BACKOFF_MS, BACKOFF_MAX_MS)
  readonly #problems = new ProblemLog('renewing the access token failed', 'the access token is renewed')
  #refreshToken = ''
  #held: AccessToken | undefined
  #failed: Failed | undefined
  #underWay: Promise<AccessToken> | undefined
  #timer: NodeJS.Timeout | undefined
  #isClosed = false
  #invalidatedAt = -Infinity

  /** Throws a `ConfigurationError` if the request is not valid. */
  constructor(client: Client, request: TokenRequest = {}) {
    checkRequest(request)
    this.#client = client
    this.#request = request
  }

  /**
   * A valid token: at once if there is one, otherwise when the call in progress has answered.
   *
   * Rejects with a `PassingError` if trying later may help, with a `PermanentError` if it does not.
   */
  async token(): Promise<AccessToken> {
    if (this.#isClosed) {
      throw new ClosedError('the source of tokens is closed')
    }
    if (this.#held !== undefined && this.#held.remainingMs > 0) {
      return this.#held
    }
    if (this.#failed !== undefined && performance.now() < this.#failed.until) {
      throw this.#failed.error
    }
    return this.#renew()
  }

  /**
   * Gives `token` up, because a service refused it: most likely it is revoked. The next `token()` waits for a new one,
   * from the same session if it still lives.
   *
   * Does nothing if `token` is no longer the current one, so that many callers that are refused at once cost one call.
   * Also does nothing within 10 s of the last token that was given up, so that a service that refuses every token can't
   * cause calls to the authority without end.
   */
  invalidate(token: AccessToken): void {
    const now = performance.now()
    if (token === this.#held && now - this.#invalidatedAt >= INVALIDATION_PAUSE_MS) {
      this.#invalidatedAt = now
      this.#held = undefined
    }
  }

  /** Ends the renewal. */
  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
  }

  /** The call in progress, or a new one. */
  #renew(): Promise<AccessToken> {
    this.#underWay ??= this.#attempt().finally(() => {
      this.#underWay = undefined
    })
    return this.#underWay
  }

  async #attempt(): Promise<AccessToken> {
    clearTimeout(this.#timer)
    let token: AccessToken
    try {
      token = await this.#obtain()
    } catch (error) {
      this.#fail(error as CallError)
      throw error
    }
    if (this.#isClosed) {
      throw new ClosedError('the source of tokens is closed')
    }
    this.#backoff.reset()
    this.#problems.worked()
    this.#held = token
    this.#failed = undefined
    this.#renewAt(Math.max(token.renewsAt(), performance.now() + RENEWAL_PAUSE_MS))
    return token
  }

  /** The successor of the session, or a new session if there is none any longer. */
  async #obtain(): Promise<AccessToken> {
    if (this.#refreshToken !== '') {
      try {
        const { answer, sentAt } = await this.#client.refreshTimed({ refreshToken: this.#refreshToken })
        return this.#take(answer.tokens, sentAt)
      } catch (error) {
        if (!(error instanceof SignInError)) {
          throw error
        }
        this.#refreshToken = ''
      }
    }
    const { accessTtlSeconds, ...request } = this.#request
    const accessTtl = accessTtlSeconds === undefined ? null : { seconds: accessTtlSeconds }
    const { answer, sentAt } = await this.#client.issueTimed({ ...request, accessTtl })
    return this.#take(answer.tokens, sentAt)
  }

  #take(tokens: TokenSet | null, sentAt: number): AccessToken {
    if (tokens === null || tokens.accessToken === '') {
      throw protocolError('an answer without tokens')
    }
    this.#refreshToken = tokens.refreshToken
    return new AccessToken(tokens, sentAt)
  }

  /** After an error that may be temporary, the old token stays in use while it lives; otherwise callers are told. */
  #fail(error: CallError): void {
    this.#problems.failed(error.message)
    const waitMs = Math.max(this.#backoff.waitMs(), error.retryAfterMs ?? 0)
    if (!(error instanceof PassingError)) {
      this.#held = undefined
      this.#failed = { error, until: performance.now() + PERMANENT_FOR_MS }
    } else if (this.#held !== undefined && this.#held.remainingMs > 0) {
      this.#renewAt(performance.now() + Math.min(waitMs, this.#held.remainingMs))
    } else {
      this.#failed = { error, until: performance.now() + waitMs }
    }
  }

  #renewAt(moment: number): void {
    if (this.#isClosed) {
      return
    }
    const waitMs = Math.min(Math.max(0, moment - performance.now()), TIMER_MAX_MS)
    this.#timer = setTimeout(() => {
      // Callers that wait for the attempt get its error; in the background, `#fail` has handled the error.
      this.#renew().catch(() => {})
    }, waitMs)
    this.#timer.unref()
  }
}

/** The type of each option of a request. An undefined option is left out. */
const OPTIONS: Record<keyof TokenRequest, [string, (value: unknown) => boolean]> = {
  audience: ['a text', isText],
  subject: ['a text', isText],
  roles: ['a list of texts', isTexts],
  scopes: ['a list of texts', isTexts],
  labels: ['a list of texts', isTexts],
  accessTtlSeconds: ['a whole number of seconds', Number.isSafeInteger],
  requireAll: ['true or false', (value) => typeof value === 'boolean'],
}

function checkRequest(request: TokenRequest): void {
  checkOptions('a request for tokens', request, Object.keys(OPTIONS))
  for (const [name, value] of Object.entries(request)) {
    const [what, isRight] = OPTIONS[name as keyof TokenRequest]
    if (value !== undefined && !isRight(value)) {
      throw new ConfigurationError(`${name} is ${what}: not ${shown(value)}`)
    }
  }
}

function isText(value: unknown): boolean {
  return typeof value === 'string'
}

function isTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every(isText)
}
