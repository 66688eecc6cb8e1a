/**
 * The SDK of Tessera, for services.
 *
 * - `Client`: typed calls, each with a deadline, retried only if a retry is safe.
 * - `TokenSource`: an access token that is always valid, from an API key.
 * - `Verifier`: verifies access tokens without a call, and knows how stale its knowledge of revocations may be.
 * - `requireToken`, `protectService`, `sendToken`, `fetchWithToken`: these in servers and clients.
 * - `v1`: the clients of all services.
 */

export { Client, type ClientOptions } from './calls.js'
export type { Claims } from './claims.js'
export { Connection, type ConnectionOptions } from './connection.js'
export { type Allow, type Decision, type Deny, type DenyReason, type Mode, type Stale } from './decision.js'
export {
  CallError,
  ClosedError,
  ConfigurationError,
  NotReadyError,
  OtherLogError,
  PassingError,
  PermanentError,
  SignInError,
  TesseraError,
} from './errors.js'
export { type Protection, callCredentials, claimsOfCall, lacksScope, protectService, sendToken } from './grpc.js'
export { fetchWithToken } from './fetch.js'
export { type Middleware, claimsOf, requireToken } from './http.js'
export { type Logger, setLogger } from './logger.js'
export { v1 } from './proto.js'
export type { Requirement } from './requirement.js'
export { AccessToken, type TokenRequest, TokenSource } from './token-source.js'
export { Verifier, type VerifierOptions, type VerifierStatus } from './verifier.js'
