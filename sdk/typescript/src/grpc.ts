/** gRPC servers that accept tokens, and clients that send them. */

import {
  type CallCredentials,
  InterceptingCall,
  type Interceptor,
  Metadata,
  type ServiceDefinition,
  type StatusObject,
  type UntypedHandleCall,
  type UntypedServiceImplementation,
  credentials,
  status,
} from '@grpc/grpc-js'

import type { Claims } from './claims.js'
import { type Mode, checkMode } from './decision.js'
import { CallError, ConfigurationError } from './errors.js'
import { log } from './logger.js'
import { checkDefined, checkOptions, shown } from './options.js'
import { parametersOf } from './path-scope.js'
import {
  type Refusal,
  admit,
  isRefusal,
  logRefusal,
  refusalOfScope,
  statusOf,
  unlisted,
} from './refusal.js'
import { type Requirement, requirementOf } from './requirement.js'
import type { TokenSource } from './token-source.js'
import type { Verifier } from './verifier.js'

/** What the methods of a service need. */
export interface Protection {
  verifier: Verifier
  /**
   * The requirement of each method, by its name in the proto: a scope; null for any valid token; or a scope with what
   * to do while stale.
   */
  required: Record<string, string | Requirement | null>
  /** Methods that need no token. */
  public?: readonly string[]
  /** What to do while the verifier is stale, for methods that don't specify it. */
  mode?: Mode
}

/** The call of a handler, as far as this module needs it. */
interface Call {
  metadata: Metadata
  getPath?(): string
  emit(event: 'error', error: Partial<StatusObject>): boolean
}

type Callback = (error: Partial<StatusObject>) => void
type Handler = (call: Call, callback?: Callback) => void

const claims = new WeakMap<object, Claims>()

/** The claims of a call's token, in a handler of a protected service. */
export function claimsOfCall(call: object): Claims {
  const found = claims.get(call)
  if (found === undefined) {
    throw new Error('the method is not protected')
  }
  return found
}

/**
 * The status with which to refuse a call whose token lacks a scope with parameters from its message; undefined if the
 * token has it: `const refused = lacksScope(call, 'videos/{id}:play', { id: call.request.film })`. A handler passes the
 * status to its callback, or emits it as `error` if it answers with a stream.
 *
 * A call is admitted before its handler sees the message. So list the method with null (any valid token), and call this
 * first in its handler. A value must be one segment of a resource: a value that no scope can have, such as `a/b`, is
 * refused too.
 */
export function lacksScope(
  call: object,
  scope: string,
  parameters: Record<string, string>,
): Partial<StatusObject> | undefined {
  const refused = refusalOfScope(claimsOfCall(call), scope, parameters)
  if (refused === undefined) {
    return undefined
  }
  logRefusal(refused, scope)
  return statusOf(refused)
}

/**
 * The implementation of a service behind tokens, for `server.addService(definition, …)`.
 *
 * A method that is neither in `required` nor public is refused, so that a new one is not open by accident. A stream is
 * checked when it opens. Refusals have a google.rpc.ErrorInfo, and the log has the reason. Throws a
 * `ConfigurationError` if `protection` is not valid.
 */
export function protectService<I extends UntypedServiceImplementation>(
  definition: ServiceDefinition,
  implementation: I,
  protection: Protection,
): UntypedServiceImplementation {
  const requirements = requirementsOf(definition, protection)
  const guarded: UntypedServiceImplementation = {}
  for (const [name, { originalName, responseStream }] of Object.entries(definition)) {
    const handler = implementation[name] ?? implementation[originalName ?? name]
    if (handler !== undefined) {
      const isPublic = protection.public?.includes(name) ?? false
      guarded[name] = isPublic ? handler : guard(name, handler.bind(implementation), responseStream, protection.verifier, requirements)
    }
  }
  return guarded
}

/** The checked requirement of each method. */
function requirementsOf(definition: ServiceDefinition, protection: Protection): Map<string, Requirement> {
  const what = 'the protection of a service'
  checkOptions(what, protection, ['verifier', 'required', 'public', 'mode'])
  checkDefined(what, protection)
  const { required, public: open = [], mode = 'fail-closed' } = protection
  checkMode(mode)
  checkOptions('required', required, Object.keys(definition))
  if (!Array.isArray(open)) {
    throw new ConfigurationError(`public is a list of methods: not ${shown(open)}`)
  }
  for (const name of open) {
    if (!Object.hasOwn(definition, name) || Object.hasOwn(required, name)) {
      const why = Object.hasOwn(required, name) ? 'is required, too' : 'is no method of the service'
      throw new ConfigurationError(`${shown(name)} in public ${why}: its methods are ${Object.keys(definition).join(', ')}`)
    }
  }
  return new Map(Object.entries(required).map(([name, given]) => [name, { mode, ...requirementOfMethod(name, given) }]))
}

/** The requirement of a method. Scopes can't have parameters here: see `lacksScope`. */
function requirementOfMethod(name: string, given: string | Requirement | null): Requirement {
  const requirement = requirementOf(`what ${name} requires`, given)
  const { scope, path } = requirement
  if (path !== undefined) {
    throw new ConfigurationError(`${name}: ${shown(path)} is a path of HTTP: a method of gRPC has none`)
  }
  if (scope !== null && parametersOf(scope).length > 0) {
    const instead = `list the method with null, and begin its handler with lacksScope(call, '${scope}', …)`
    throw new ConfigurationError(`${name}: nothing fills in the parameters of ${shown(scope)}: ${instead}`)
  }
  return requirement
}

function guard(
  name: string,
  handler: unknown,
  isStream: boolean,
  verifier: Verifier,
  requirements: ReadonlyMap<string, Requirement>,
): UntypedHandleCall {
  const handle = handler as Handler
  const guarded: Handler = (call, callback) => {
    const refuse = (refusal: Partial<StatusObject>) => {
      if (isStream) {
        call.emit('error', refusal)
      } else {
        callback?.(refusal)
      }
    }
    admitCall(verifier, call, requirements.get(name))
      .then((admitted) => {
        if (isRefusal(admitted)) {
          logRefusal(admitted, call.getPath?.() ?? name)
          refuse(statusOf(admitted))
        } else {
          claims.set(call, admitted)
          handle(call, callback)
        }
      })
      .catch((error: unknown) => {
        log().warn(`tessera: the handler of ${name} failed: ${String(error)}`)
        refuse({ code: status.INTERNAL, details: 'the handler failed' })
      })
  }
  return guarded as unknown as UntypedHandleCall
}

function admitCall(
  verifier: Verifier,
  { metadata }: Call,
  requirement: Requirement | undefined,
): Promise<Claims | Refusal> {
  if (requirement === undefined) {
    return Promise.resolve(unlisted())
  }
  return admit(verifier, metadata.get('authorization').map(String), requirement.scope, requirement.mode)
}

/**
 * Sends a token of the source with each call of a client, in place of any credential that it had, as `{ interceptors:
 * [sendToken(source)] }` among its options. Without a token, the call fails with the status of the reason.
 *
 * A call that ends with UNAUTHENTICATED tells the source that its token is no longer valid, so that the next call has a
 * new one: see `TokenSource.invalidate`. The refused call is not repeated, because only its caller knows whether it may
 * be.
 */
export function sendToken(source: TokenSource): Interceptor {
  return (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start(metadata, listener, next) {
        source.token().then(
          (token) => {
            metadata.set('authorization', `Bearer ${token.expose()}`)
            next(metadata, {
              onReceiveStatus(ended, pass) {
                if (ended.code === status.UNAUTHENTICATED) {
                  source.invalidate(token)
                }
                pass(ended)
              },
            })
          },
          (error: Error) => {
            const code = error instanceof CallError ? error.code : status.UNAVAILABLE
            listener.onReceiveStatus({ code, details: `no token: ${error.message}`, metadata: new Metadata() })
          },
        )
      },
    })
}

/**
 * Sends tokens as call credentials, which works over TLS only. Call credentials are not told how a call ends: after
 * UNAUTHENTICATED, tell the source explicitly.
 */
export function callCredentials(source: TokenSource): CallCredentials {
  return credentials.createFromMetadataGenerator((_, callback) => {
    source.token().then(
      (token) => {
        const metadata = new Metadata()
        metadata.set('authorization', `Bearer ${token.expose()}`)
        callback(null, metadata)
      },
      (error: Error) => callback(error),
    )
  })
}
