/** A source of tokens against the real authority. */

import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, it } from 'node:test'
import { inspect } from 'node:util'

import { status } from '@grpc/grpc-js'

import {
  CallError,
  Client,
  type ClientOptions,
  ClosedError,
  ConfigurationError,
  Connection,
  PassingError,
  PermanentError,
  SignInError,
  type TokenRequest,
  TokenSource,
} from '../src/index.js'
import { Authority, Cleanups, Gate, VIEWER, until } from './support.js'

/** A call gives up soon, and waits little. */
const IMPATIENT: ClientOptions = { deadlineMs: 500, backoffMs: 5, backoffMaxMs: 20 }

let authority: Authority
let gate: Gate
const cleanups = new Cleanups()

before(async () => {
  authority = await Authority.start()
})
after(() => authority.close())
beforeEach(async () => {
  gate = cleanups.add(await Gate.before(authority))
})
afterEach(() => cleanups.run())

function start(request: TokenRequest = {}, options: ClientOptions = {}): TokenSource {
  const client = cleanups.add(new Client(gate.connection, options))
  return cleanups.add(new TokenSource(client, { ...VIEWER, ...request }))
}

async function textOf(source: TokenSource): Promise<string> {
  return (await source.token()).expose()
}

async function errorOf(source: TokenSource): Promise<Error | undefined> {
  return source.token().then(
    () => undefined,
    (error: Error) => error,
  )
}

it('makes one call for a thousand callers', async () => {
  const source = start()
  gate.hold()
  const callers = Array.from({ length: 1000 }, () => textOf(source))
  await until('the call', () => gate.calls.issue)
  gate.release()
  assert.equal(new Set(await Promise.all(callers)).size, 1)
  assert.deepEqual(gate.calls, { issue: 1, refresh: 0 })
  const token = await source.token()
  assert.ok(token.remainingMs > 3_590_000)
  const shown = inspect([token, source], { depth: 9, showHidden: true }) + JSON.stringify([token, source]) + token
  assert.ok(!shown.includes(token.expose()))
})

it('serves the old token while it renews, and then the new', async () => {
  const source = start({ accessTtlSeconds: 3 })
  const old = await textOf(source)
  const beganAt = performance.now()
  gate.hold()
  await until('renewing', () => gate.calls.refresh === 1)
  const renewedAfter = performance.now() - beganAt
  // Two thirds of 3 s, give or take a tenth; the rest is this machine's scheduling.
  assert.ok(renewedAfter > 1_750 && renewedAfter < 2_800, `${renewedAfter}`)
  for (let round = 0; round < 100; round++) {
    assert.equal(await textOf(source), old)
  }
  gate.release()
  await until('the new one', async () => (await textOf(source)) !== old)
  assert.deepEqual(gate.calls, { issue: 1, refresh: 1 })
})

it('replaces a session that is gone', async () => {
  const source = start({ accessTtlSeconds: 1 })
  const old = await textOf(source)
  await cleanups.add(new Client(authority.connection())).revoke({ subject: 'user:ann' })
  await until('issued again', () => gate.calls.issue === 2 && gate.calls.refresh === 1)
  await until('the new one', async () => (await textOf(source)) !== old)
})

it('gives a token up that a service refuses, but not often', async () => {
  const [source, another] = [start(), start()]
  const refused = await source.token()
  // Who was refused with another token says nothing of this one.
  source.invalidate(await another.token())
  assert.equal(await source.token(), refused)
  for (let round = 0; round < 10; round++) {
    source.invalidate(refused)
  }
  const token = await source.token()
  assert.notEqual(token.expose(), refused.expose())
  assert.deepEqual(gate.calls, { issue: 2, refresh: 1 })
  // The next is given up no sooner than 10 s later.
  source.invalidate(token)
  assert.equal(await source.token(), token)
  assert.deepEqual(gate.calls, { issue: 2, refresh: 1 })
})

it('retries what passes, and leaves the old token in use', async () => {
  gate.faults = [status.UNAVAILABLE, status.ABORTED]
  const source = start({ accessTtlSeconds: 2 }, IMPATIENT)
  const old = await source.token()
  assert.equal(gate.calls.issue, 3)
  gate.faults = Array<status>(10_000).fill(status.UNAVAILABLE)
  await until('renewing fails', () => gate.calls.refresh > 2)
  await until('it is over', async () => (await errorOf(source)) !== undefined)
  assert.ok(old.remainingMs <= 0)
  // Beyond its life there is none, and waiting helps.
  await until('an error', async () => (await errorOf(source)) instanceof PassingError)
  gate.faults = []
  await until('it passes', async () => (await errorOf(source)) === undefined)
  assert.equal(gate.calls.issue, 3, 'the session went on')
})

it('retries nothing else', async () => {
  gate.faults = [status.INTERNAL]
  assert.ok((await errorOf(start())) instanceof PassingError)
  assert.equal(gate.calls.issue, 1)
})

it('tells an error that stays to all without a call each', async () => {
  const source = start({ scopes: ['videos:write'], requireAll: true })
  for (let round = 0; round < 10; round++) {
    const error = await errorOf(source)
    assert.ok(error instanceof PermanentError && !(error instanceof SignInError), inspect(error))
    assert.deepEqual([error.code, error.reason], [status.PERMISSION_DENIED, 'SCOPE_DENIED'])
  }
  assert.equal(gate.calls.issue, 1)
})

it('has a permanent error for a wrong API key, which is in no text', async () => {
  const connection = new Connection({ address: authority.address, apiKey: `tsk_production_${'0'.repeat(50)}` })
  const client = cleanups.add(new Client(connection))
  const error = await errorOf(cleanups.add(new TokenSource(client)))
  assert.ok(error instanceof SignInError && error instanceof PermanentError && error instanceof CallError)
  assert.equal(error.reason, 'CLIENT_AUTH_FAILED')
  assert.ok(!inspect(error, { depth: 9 }).includes('0000'))
})

it('refuses a request of other types when it is made', async () => {
  const wrong: Array<[string, unknown[]]> = [
    ['audience', [null, 1, ['api']]],
    ['subject', [null, 1]],
    ['accessTtlSeconds', ['60', 1.5, NaN, null]],
    ['requireAll', ['no', null, 0]],
    ['scope', ['videos:read']],
  ]
  for (const name of ['scopes', 'roles', 'labels']) {
    wrong.push([name, ['videos:read', null, 1, [1], {}]])
  }
  for (const [name, values] of wrong) {
    for (const value of values) {
      assert.throws(() => start({ [name]: value }), (error) => {
        return error instanceof ConfigurationError && error.message.includes(name)
      }, `${name} ${inspect(value)}`)
    }
  }
  start({ scopes: ['a:b'], roles: [], accessTtlSeconds: 60, requireAll: false, labels: undefined })
  // The request of a call by hand, too.
  const client = cleanups.add(new Client(gate.connection))
  await assert.rejects(client.issue({ ...VIEWER, scopes: 'videos:read' as unknown as string[] }), ConfigurationError)
  assert.equal(gate.calls.issue, 0)
})

it('gives nothing once it is closed', async () => {
  const source = start()
  gate.hold()
  const waiting = errorOf(source)
  await until('the call', () => gate.calls.issue)
  source.close()
  gate.release()
  assert.ok((await waiting) instanceof ClosedError)
  assert.ok((await errorOf(source)) instanceof ClosedError)
})
