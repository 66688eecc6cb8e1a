/** What a verifier says when it does not work, and when it works again. */

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, it } from 'node:test'
import { promisify } from 'node:util'

import { Server, ServerCredentials, status } from '@grpc/grpc-js'

import {
  Client,
  ClosedError,
  ConfigurationError,
  Connection,
  NotReadyError,
  OtherLogError,
  PassingError,
  Verifier,
  setLogger,
} from '../src/index.js'
import { ProblemLog } from '../src/logger.js'
import { Authority, Cleanups, collectWarnings, isStale, issue, readyVerifier, reason, startForAll, until } from './support.js'

const PATIENCE_MS = 20_000

const { authority, client } = await startForAll()
const cleanups = new Cleanups()

afterEach(() => cleanups.run())
const warnings = collectWarnings()

/** Why a verifier does not become ready, of which it warns. */
async function notReady(connection: Connection, audience = 'api', timeoutMs = PATIENCE_MS): Promise<NotReadyError> {
  const verifier = cleanups.add(new Verifier({ connection, realm: 'production', audience, stalenessBoundMs: 5_000 }))
  const error = await verifier.ready({ timeoutMs }).then(
    () => undefined,
    (error: unknown) => error,
  )
  assert.ok(error instanceof NotReadyError, String(error))
  assert.ok(!verifier.isReady && !verifier.isFresh && !verifier.status.isFresh)
  assert.match(warnings[0] ?? '', /following the revocations was interrupted/)
  return error
}

it('ends at once where waiting does not help', async () => {
  const { address } = authority
  const cases: Array<[string, Connection, string, RegExp]> = [
    ['a key', new Connection({ address, apiKey: `tsk_production_${'0'.repeat(50)}` }), 'api', /CLIENT_AUTH_FAILED/],
    ['a policy', new Connection({ address, apiKey: await authority.apiKey('shop') }), 'api', /CALL_NOT_ALLOWED/],
    ['an audience', authority.connection(), 'apo', /AUDIENCE_UNKNOWN.*did you mean `api`\?/],
    ['a realm', authority.connection('sandbox'), 'api', /of the realm `sandbox`/],
  ]
  for (const [what, connection, audience, expected] of cases) {
    const startedAt = performance.now()
    const error = await notReady(connection, audience)
    assert.ok(error.isPermanent, what)
    assert.match(error.message, expected)
    assert.ok(error.message.includes(address))
    assert.ok(performance.now() - startedAt < PATIENCE_MS / 2)
    warnings.length = 0
  }
})

it('tells that there is another HTTP server', async () => {
  const server = createServer((_, response) => response.end())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  cleanups.then(() => server.close())
  const other = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  for (const address of [authority.adminAddress, other]) {
    const expected = `no Tessera answers at ${address}: is this the admin socket, or another HTTP server?`
    const connection = new Connection({ address, apiKey: 'tsk_x' })
    const calling = cleanups.add(new Client(connection, { deadlineMs: 1_000 }))
    await assert.rejects(calling.listKeys('production'), (error: Error) => error.message.includes(expected))
    const error = await notReady(connection, 'api', 1_000)
    assert.ok(error.message.includes(expected), error.message)
    warnings.length = 0
  }
})

it('tells that there is another gRPC server', async () => {
  const server = new Server()
  const bound = promisify(server.bindAsync.bind(server))
  const port = await bound('127.0.0.1:0', ServerCredentials.createInsecure())
  cleanups.then(() => server.forceShutdown())
  const address = `http://127.0.0.1:${port}`
  const expected = `the server at ${address} does not have this call: is it another gRPC server, or an older Tessera?`
  const connection = new Connection({ address, apiKey: 'tsk_x' })
  const calling = cleanups.add(new Client(connection))
  await assert.rejects(calling.listKeys('production'), (error: Error) => error.message.includes(expected))
  const error = await notReady(connection, 'api')
  assert.ok(error.isPermanent)
  assert.ok(error.message.includes(expected), error.message)
  warnings.length = 0
})

it('tells an error whose diagnosis fails', async () => {
  const error = new PassingError(status.UNAVAILABLE, undefined, 'no connection')
  const diagnosis = () => Promise.reject(new TypeError('Invalid URL'))
  assert.equal(await error.explained('http://127.0.0.1:1', diagnosis), error)
})

it('tells what may pass at the timeout', async () => {
  const connection = new Connection({ address: 'http://127.0.0.1:1', apiKey: 'tsk_x' })
  const error = await notReady(connection, 'api', 500)
  assert.ok(!error.isPermanent)
  assert.match(error.message, /http:\/\/127\.0\.0\.1:1: UNAVAILABLE.*REFUSED/)
})

it('tells freshness beside readiness, and recovery', async () => {
  const { token } = await issue(client)
  const verifier = cleanups.add(await readyVerifier(authority.connection()))
  assert.ok(verifier.isReady && verifier.isFresh && verifier.status.isFresh)
  authority.stall()
  cleanups.then(() => authority.goOn())
  await until('stale', () => isStale(verifier, token))
  assert.ok(verifier.isReady && !verifier.isFresh && !verifier.status.isFresh)
  await until('told', () => warnings.some((line) => line.includes('interrupted')))
  authority.goOn()
  await until('fresh again', () => verifier.isFresh)
  await until('told', () => warnings.some((line) => line.includes('are followed after')))
})

it('lets a service see its own revocations', async () => {
  const verifier = cleanups.add(await readyVerifier(authority.connection(), { stalenessBoundMs: 60_000 }))
  for (let round = 0; round < 5; round++) {
    const { token, sessionId } = await issue(client)
    const { cursor } = await client.revoke({ sessionId })
    assert.ok(await verifier.applied(cursor))
    assert.equal(reason(verifier, token), 'revoked')
  }
  const { cursor } = await client.revoke({ sessionId: (await issue(client)).sessionId })
  const decoded = Buffer.from(cursor, 'base64url')
  decoded[24]! += 1
  assert.equal(await verifier.applied(decoded.toString('base64url'), { timeoutMs: 50 }), false)
  decoded[1]! ^= 1
  await assert.rejects(verifier.applied(decoded.toString('base64url')), OtherLogError)
  for (const wrong of ['', 'x', cursor.slice(0, -1), `${cursor}=`]) {
    await assert.rejects(verifier.applied(wrong), ConfigurationError)
  }
})

it('allows nothing once it is closed', async () => {
  const { token } = await issue(client)
  const verifier = await readyVerifier(authority.connection(), { stalenessBoundMs: 60_000 })
  assert.equal(verifier.verify(token).kind, 'allow')
  verifier.close()
  const stale = { kind: 'stale', boundMs: 60_000, behindMs: undefined }
  assert.deepEqual(verifier.verify(token), stale)
  for (const mode of ['fail-closed', 'introspect', { failOpenMs: 60_000 }] as const) {
    assert.deepEqual(await verifier.verifyWith(token, null, mode), stale)
  }
  assert.equal(reason(verifier, `${token}A`), 'malformed')
  assert.ok(!verifier.isFresh && !verifier.status.isFresh)
  const { cursor } = await client.revoke({ sessionId: (await issue(client)).sessionId })
  const waits = [() => verifier.ready({ timeoutMs: 2 * PATIENCE_MS }), () => verifier.applied(cursor)]
  for (const wait of waits) {
    await assert.rejects(wait, ClosedError)
  }
  verifier.close()
})

it('wakes who waits when it is closed', async () => {
  const connection = new Connection({ address: 'http://127.0.0.1:1', apiKey: 'tsk_x' })
  const verifier = new Verifier({ connection, realm: 'production', audience: 'api' })
  const waiting = assert.rejects(verifier.ready({ timeoutMs: PATIENCE_MS }), ClosedError)
  verifier.close()
  await waiting
  await assert.rejects(verifier.ready({ timeoutMs: PATIENCE_MS }), ClosedError)
})

it('tells a failure at once, then once a minute, and its end', () => {
  let now = 0
  const log = new ProblemLog('it failed', 'it works', () => now)
  for (now of [0, 1_000, 59_000, 60_000, 61_000]) {
    log.failed(`at ${now / 1000}`)
  }
  now = 62_000
  log.worked()
  log.worked()
  // One that follows soon is not logged, and neither is its end.
  log.failed('again')
  log.worked()
  const last = 'tessera: it failed: at 60 (and 2 times since the last warning)'
  assert.deepEqual(warnings, ['tessera: it failed: at 0', last, 'tessera: it works after 62.0 s'])
})
