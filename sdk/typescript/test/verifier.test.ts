/** A verifier against the real authority. */

import assert from 'node:assert/strict'
import { after, afterEach, before, describe, it } from 'node:test'
import { inspect } from 'node:util'

import { Client, ConfigurationError, Connection, type Mode, type Verifier, v1 } from '../src/index.js'
import { Proxy } from './proxy.js'
import {
  Authority,
  BOUND_MS,
  Cleanups,
  EVER_MS,
  allows,
  isStale,
  issue,
  readyVerifier,
  reason,
  reasonOf,
  startForAll,
  startVerifier,
  until,
} from './support.js'

const { authority, client } = await startForAll()
const cleanups = new Cleanups()

afterEach(() => cleanups.run())

/** The text with another character at a place. */
function changed(text: string, at: number): string {
  return text.slice(0, at) + (text[at] === 'A' ? 'B' : 'A') + text.slice(at + 1)
}

describe('judging', () => {
  let verifier: Verifier

  before(async () => {
    verifier = await readyVerifier(authority.connection(), { stalenessBoundMs: 5_000 })
  })
  after(() => verifier.close())

  it('says who a good token is for', async () => {
    const { token, sessionId } = await issue(client, { labels: ['stream:1'] })
    const decision = verifier.verify(token, 'videos:read')
    assert.ok(decision.kind === 'allow', inspect(decision))
    const { claims } = decision
    assert.deepEqual([claims.subject, claims.audience, claims.realm], ['user:ann', 'api', 'production'])
    assert.deepEqual([claims.client, claims.roles, claims.sessionId], ['client:dev', ['role:viewer'], sessionId])
    assert.deepEqual([...claims.scopes], ['analytics:read', 'live-streams:read', 'videos:read'])
    assert.deepEqual(claims.labels, ['stream:1'])
    assert.equal(claims.expiresAt.getTime() - claims.issuedAt.getTime(), 3_600_000)
    assert.equal(reason(verifier, token, 'videos:write'), 'scope_missing')
  })

  it('has a reason for every wrong token', async () => {
    const { token } = await issue(client)
    const dot = token.lastIndexOf('.')
    const [body, footer] = [token.slice(0, dot), token.slice(dot + 1)]
    const wrong: Array<[string, string, string]> = [
      ['nothing', '', 'malformed'],
      ['garbage', 'v4.public.garbage', 'malformed'],
      ['too long', `v4.public.${'A'.repeat(24 * 1024)}`, 'malformed'],
      ['another header', token.replace('v4.public', 'v3.public'), 'malformed'],
      ['no footer', body, 'malformed'],
      ['another footer', `${body}.${footer}AA`, 'malformed'],
      ['padding', `${token}=`, 'malformed'],
      ['a changed signature', changed(token, dot - 5), 'bad_signature'],
      ['of another audience', (await issue(client, { audience: 'player' })).token, 'wrong_audience'],
    ]
    for (const [what, text, expected] of wrong) {
      assert.equal(reason(verifier, text), expected, what)
    }
    for (const given of [undefined, null, 1, Buffer.from(token), [token], {}]) {
      const none = given as unknown as string
      assert.equal(reason(verifier, none), 'malformed')
      assert.equal(reasonOf(await verifier.verifyWith(none, null, 'introspect')), 'malformed')
    }
    assert.ok(reason(verifier, changed(token, 'v4.public.'.length + 30)), 'a changed claim')
  })

  it('refuses a token of another realm or authority', async () => {
    const sandbox = cleanups.add(new Client(authority.connection('sandbox')))
    assert.equal(reason(verifier, (await issue(sandbox)).token), 'wrong_realm')
    const elsewhere = cleanups.add(await Authority.start())
    const other = cleanups.add(new Client(elsewhere.connection()))
    assert.equal(reason(verifier, (await issue(other)).token), 'unknown_key')
  })

  it('compares times with leeway on both sides', async () => {
    let now = Date.now()
    const options = { stalenessBoundMs: 5_000, clock: () => now }
    const verifier = cleanups.add(await readyVerifier(authority.connection(), options))
    const { token } = await issue(client)
    const decision = verifier.verify(token)
    assert.ok(decision.kind === 'allow', inspect(decision))
    const [notBefore, expiresAt] = [decision.claims.notBefore.getTime(), decision.claims.expiresAt.getTime()]
    const moments: Array<[number, string | undefined]> = [
      [notBefore - 31_000, 'not_yet_valid'],
      [notBefore - 30_000, undefined],
      [expiresAt + 29_000, undefined],
      [expiresAt + 30_000, 'expired'],
    ]
    for (const [moment, expected] of moments) {
      now = moment
      assert.equal(reason(verifier, token), expected)
    }
  })

  const kinds = ['token', 'sessionId', 'subject', 'label', 'client', 'wholeRealm'] as const
  for (const kind of kinds) {
    it(`turns allow into deny by ${kind}`, async () => {
      const labels = ['stream:1']
      const other = (await issue(client, { subject: 'user:bob' })).token
      const { token, sessionId } = await issue(client, { labels })
      const targets = { token, sessionId, subject: 'user:ann', label: 'stream:1', client: 'client:dev' }
      // Twice, so that the second answer is about a token whose signature is remembered.
      assert.ok(allows(verifier, token) && allows(verifier, token) && allows(verifier, other))
      await client.revoke(kind === 'wholeRealm' ? { wholeRealm: true } : { [kind]: targets[kind] })
      await until(kind, () => reason(verifier, token) === 'revoked', 5_000)
      const othersToo = kind === 'client' || kind === 'wholeRealm'
      assert.equal(reason(verifier, other), othersToo ? 'revoked' : undefined)
      // What is issued after is good.
      assert.ok(allows(verifier, (await issue(client, { labels })).token))
    })
  }

  it('knows a revoked signing key, and the next', async () => {
    const { token } = await issue(client)
    assert.ok(allows(verifier, token))
    const active = (await client.listKeys('production')).find((key) => key.status === 'KEY_STATUS_ACTIVE')
    await client.revoke({ keyId: active!.kid })
    await until('the key', () => ['revoked', 'unknown_key'].includes(reason(verifier, token) ?? ''))
    const next = (await issue(client)).token
    await until('the next key', () => allows(verifier, next), 5_000)
  })

  it('knows what was revoked before it started', async () => {
    const [revoked, good] = [await issue(client), await issue(client)]
    await client.revoke({ sessionId: revoked.sessionId })
    const late = cleanups.add(await readyVerifier(authority.connection(), { stalenessBoundMs: 5_000 }))
    assert.equal(reason(late, revoked.token), 'revoked')
    assert.ok(allows(late, good.token))
  })

  it('is heard by the fence where it is required', async () => {
    const options = { stalenessBoundMs: 60_000, subscriber: 'node-1', required: true }
    const required = cleanups.add(await readyVerifier(authority.connection(), options))
    for (let round = 0; round < 5; round++) {
      const { token, sessionId } = await issue(client)
      const { cursor } = await client.revoke({ sessionId })
      assert.deepEqual(await client.awaitPropagation(cursor), { acknowledged: 1, failedClosed: 0 })
      assert.equal(reason(required, token), 'revoked')
    }
  })

  const { field } = v1.Checkpoint.type as { field: Array<{ name: string }> }
  const saysTheRealm = field.some(({ name }) => name === 'realm')
  it('needs an API key of the realm', { skip: !saysTheRealm }, async () => {
    const verifier = cleanups.add(startVerifier(authority.connection('sandbox')))
    await until('told', () => verifier.status.problem?.includes('`sandbox`'))
    assert.ok(!verifier.status.isReady)
  })

  it('has keys in no text and refuses wrong options', () => {
    const connection = authority.connection()
    for (const thing of [connection, client, verifier]) {
      const shown = `${inspect(thing, { depth: 9, showHidden: true })} ${JSON.stringify(thing)}`
      assert.ok(!shown.includes('tsk_'), shown)
    }
    const wrong = { address: 'http://127.0.0.1:1', apiKey: 'secret' }
    assert.throws(
      () => new Connection(wrong),
      (error: Error) => error instanceof ConfigurationError && !error.message.includes('secret'),
    )
    for (const options of [{ stalenessBoundMs: 99 }, { required: true }, { leewayMs: 60_001 }, { subscriber: 'a b' }]) {
      assert.throws(() => startVerifier(connection, options), ConfigurationError)
    }
  })
})

describe('weather', () => {
  afterEach(() => authority.goOn())

  it('allows nothing before the first snapshot', async () => {
    const { token } = await issue(client)
    authority.stall()
    const verifier = cleanups.add(startVerifier(authority.connection()))
    await until('it tried', () => verifier.status.problem)
    const modes: Mode[] = ['fail-closed', { failOpenMs: EVER_MS }]
    for (const mode of modes) {
      assert.equal((await verifier.verifyWith(token, null, mode)).kind, 'stale')
    }
    assert.ok(!verifier.status.isReady)
    authority.goOn()
    await until('ready', () => allows(verifier, token))
  })

  it('is stale while the authority stalls, and then fresh again', async () => {
    const [{ token }, doomed] = [await issue(client), await issue(client)]
    const verifier = cleanups.add(await readyVerifier(authority.connection()))
    assert.ok(allows(verifier, token))
    authority.stall()
    const stalledAt = performance.now()
    await until('stale', () => isStale(verifier, token))
    // Its last ping was answered before the stall; the rest is this machine's scheduling.
    assert.ok(performance.now() - stalledAt < 2 * BOUND_MS)
    const stale = verifier.verify(token)
    assert.ok(stale.kind === 'stale' && stale.boundMs === BOUND_MS && stale.behindMs! > BOUND_MS, inspect(stale))
    // Per call: open up to a limit, and no further.
    assert.equal((await verifier.verifyWith(token, null, { failOpenMs: EVER_MS })).kind, 'allow')
    const failOpenMs = BOUND_MS + 1
    await until('beyond the limit', () => verifier.status.behindMs! > failOpenMs)
    assert.equal((await verifier.verifyWith(token, null, { failOpenMs })).kind, 'stale')
    // A connection that stalled is replaced, so that going on is noticed whatever became of the first.
    await until('it gave up', () => verifier.status.problem)
    authority.goOn()
    await until('fresh again', () => allows(verifier, token))
    await client.revoke({ sessionId: doomed.sessionId })
    await until('revoked', () => reason(verifier, doomed.token) === 'revoked', 5_000)
  })

  it('replaces a connection that stalls for ever', async () => {
    const proxy = cleanups.add(new Proxy(authority.address))
    const connection = authority.connection('production', await proxy.listen())
    // Another client of the same address, whose connection stalls too.
    assert.ok(await cleanups.add(new Client(connection)).listKeys('production'))
    const verifier = cleanups.add(await readyVerifier(connection))
    const { token } = await issue(client)
    proxy.stall()
    await until('stale', () => isStale(verifier, token))
    // Long before keep-alive would find the connection dead.
    await until('fresh again', () => allows(verifier, token), 8_000)
  })

  it('goes on when a killed authority comes back on the same data', async () => {
    const [{ token }, revoked] = [await issue(client), await issue(client)]
    await client.revoke({ sessionId: revoked.sessionId })
    const verifier = cleanups.add(await readyVerifier(authority.connection(), { calls: { deadlineMs: 200 } }))
    const { entries } = verifier.status
    await authority.kill()
    await until('stale', () => isStale(verifier, token))
    assert.equal(reason(verifier, revoked.token), 'revoked')
    assert.equal((await verifier.verifyWith(token, null, 'introspect')).kind, 'stale', 'nobody answers')
    await authority.restart()
    await until('fresh again', () => allows(verifier, token))
    assert.deepEqual([verifier.status.entries, verifier.status.problem], [entries, undefined])
  })

  it('knows the scopes that policy takes, and leaves the others', async () => {
    const verifier = cleanups.add(await readyVerifier(authority.connection(), { stalenessBoundMs: 5_000 }))
    const { token } = await issue(client, { scopes: ['videos:read', 'analytics:read'] })
    assert.ok(allows(verifier, token, 'analytics:read'))
    await authority.takeRule('p, role:viewer, *, analytics')
    await until('taken', () => reason(verifier, token, 'analytics:read') === 'scope_taken')
    const decision = verifier.verify(token, 'videos:read')
    assert.ok(decision.kind === 'allow' && [...decision.claims.scopes].join() === 'videos:read', inspect(decision))
    assert.equal(reasonOf(verifier.verify(token, 'videos:write')), 'scope_missing')
  })
})
