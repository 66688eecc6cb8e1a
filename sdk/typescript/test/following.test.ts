/** How a verifier follows: what only an authority that follows a script would show. */

import assert from 'node:assert/strict'
import crypto, { randomUUID } from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import { afterEach, beforeEach, it } from 'node:test'

import type { RevocationEvent } from '../src/generated/tessera/v1/RevocationEvent.js'
import type { WatchResponse } from '../src/generated/tessera/v1/WatchResponse.js'
import type { Mode, Verifier, VerifierOptions } from '../src/index.js'
import { Fake, SigningKey, TOKEN_ID, type Stream, revoked, timestamp } from './fake.js'
import { Cleanups, EVER_MS, allows, isStale, reason, reasonOf, startVerifier, until } from './support.js'

const SESSION = randomUUID()
const HOUR_MS = 3_600_000
/** A kind that this version does not know. */
const STRANGE = { kind: 99 as never, realm: 'production' } satisfies RevocationEvent

let fake: Fake
let key: SigningKey
let doomed: string
let good: string
const cleanups = new Cleanups()

beforeEach(async () => {
  fake = cleanups.add(await Fake.start())
  key = fake.keys[0]!
  doomed = key.token({ sid: SESSION })
  good = key.token()
})
afterEach(() => cleanups.run())

async function follow(options: Partial<VerifierOptions> = {}): Promise<[Verifier, Stream]> {
  const verifier = cleanups.add(startVerifier(fake.connection, { stalenessBoundMs: 5_000, ...options }))
  return [verifier, await fake.nextStream()]
}

async function ready(
  items: RevocationEvent[] = [],
  options: Partial<VerifierOptions> = {},
): Promise<[Verifier, Stream]> {
  const [verifier, stream] = await follow(options)
  stream.snapshot(...items)
  await stream.echo()
  await verifier.ready()
  return [verifier, stream]
}

async function neverFresh(verifier: Verifier): Promise<void> {
  const modes: Mode[] = ['fail-closed', { failOpenMs: EVER_MS }]
  for (const mode of modes) {
    const decision = await verifier.verifyWith(good, null, mode)
    assert.ok(decision.kind === 'stale' && decision.behindMs === undefined)
  }
  assert.ok(!verifier.status.isReady)
}

/** How many signatures are checked from now on. */
function countSignatureChecks(): () => number {
  const { verify } = crypto
  let count = 0
  const put = (replaced: typeof verify) => {
    crypto.verify = replaced
    syncBuiltinESMExports()
  }
  put(((...given: Parameters<typeof verify>) => {
    count += 1
    return verify(...given)
  }) as typeof verify)
  cleanups.then(() => put(verify))
  return () => count
}

const inAnHour = () => Date.now() + HOUR_MS

it('begins the stream as the options say', async () => {
  const [, { start }] = await follow({ subscriber: 'api-1', required: true, stalenessBoundMs: 1_500 })
  assert.deepEqual([start.snapshot, start.filter?.audiences], [true, ['api']])
  assert.deepEqual([start.subscriber, start.required], ['api-1', true])
  assert.deepEqual(start.stalenessBound, { seconds: 1, nanos: 500_000_000 })
})

it('is not fresh by a snapshot that never ends', async () => {
  const [verifier, stream] = await follow({ stalenessBoundMs: 300 })
  stream.say({ snapshotBegin: {} })
  await until('it gave up', () => verifier.status.problem)
  await neverFresh(verifier)
})

it('lets a token of a place that was not heard of wait for it', async () => {
  const [verifier, stream] = await ready()
  const ahead = key.token({ rev: 2 })
  const [answer] = await Promise.all([verifier.verifyWith(ahead, null, 'fail-closed'), stream.echo(2)])
  assert.equal(answer.kind, 'allow')
  // One that says what nobody issued: an answer without that place shows that there is none.
  const madeUp = key.token({ rev: 2 ** 52 })
  const [refused] = await Promise.all([verifier.verifyWith(madeUp, null, { failOpenMs: EVER_MS }), stream.echo(2)])
  assert.equal(refused.kind, 'stale')
})

it('is not fresh by a checkpoint that answers no ping', async () => {
  const [verifier, stream] = await follow()
  stream.snapshot(revoked(SESSION, 1, inAnHour()))
  stream.checkpoint()
  stream.checkpoint(1, { nonce: Buffer.from('of another') })
  await until('in force', () => reason(verifier, doomed) === 'revoked')
  await neverFresh(verifier)
  await stream.echo()
  await until('fresh', () => allows(verifier, good))
})

it('may ask the authority while it is stale', async () => {
  const [verifier] = await follow()
  const both = key.token({ scope: 'videos:read videos:write' })
  const active = { active: true, jti: TOKEN_ID, scope: 'videos:read' }
  const asked: Array<[string, object, string | null, string | undefined]> = [
    [both, active, 'videos:read', undefined],
    [both, active, 'videos:write', 'scope_taken'],
    [both, active, 'analytics:read', 'scope_missing'],
    [both, { ...active, jti: randomUUID() }, null, 'inactive'],
    [both, {}, null, 'inactive'],
    [key.token({ aud: 'player' }), active, null, 'wrong_audience'],
    [new SigningKey().token({ realm: 'sandbox' }), active, null, 'wrong_realm'],
  ]
  for (const [token, answer, scope, expected] of asked) {
    fake.introspected = answer
    const decision = await verifier.verifyWith(token, scope, 'introspect')
    assert.equal(reasonOf(decision), expected)
    if (expected === undefined) {
      assert.ok(decision.kind === 'allow' && [...decision.claims.scopes].join() === 'videos:read')
    }
  }
})

it('counts staleness from the ping and not from its answer', async () => {
  const [verifier, stream] = await follow()
  stream.snapshot()
  const nonce = await stream.ping()
  const pingedAt = performance.now()
  await until('a slow answer', () => performance.now() - pingedAt > 200)
  stream.checkpoint(1, { nonce })
  await verifier.ready()
  assert.ok(verifier.status.behindMs! > 200)
})

it('starts again at what it does not understand', async () => {
  let [verifier, stream] = await ready([revoked(SESSION, 1, inAnHour())])
  const odd: WatchResponse[] = [
    { event: STRANGE },
    { event: { kind: 'EVENT_KIND_SUBJECT_REVOKED', realm: 'production' } },
    { snapshotItem: revoked(SESSION, 2, inAnHour()) },
    { checkpoint: { through: 'x', keySet: '1' } },
    {},
  ]
  for (const message of odd) {
    stream.say(message)
    stream = await fake.nextStream()
    assert.ok(stream.start.snapshot)
    assert.match(verifier.status.problem ?? '', /not understood/)
    assert.equal(reason(verifier, doomed), 'revoked')
    stream.snapshot(revoked(SESSION, 1, inAnHour()))
    await stream.echo()
    await until('again', () => verifier.status.problem === undefined)
  }
})

it('takes no snapshot with a hole', async () => {
  const [verifier, stream] = await follow()
  stream.say({ snapshotBegin: {} })
  stream.say({ snapshotEnd: { cursor: 'x', items: 1 } })
  assert.ok((await fake.nextStream()).start.snapshot)
  await neverFresh(verifier)
})

it('puts a snapshot in force only once it is complete', async () => {
  let [verifier, stream] = await ready([revoked(SESSION, 1, inAnHour())])
  stream.end('CURSOR_EXPIRED')
  stream = await fake.nextStream()
  assert.ok(stream.start.snapshot)
  // All of an empty snapshot, but no checkpoint before the stream breaks off.
  stream.snapshot()
  stream.say({ event: STRANGE })
  stream = await fake.nextStream()
  assert.equal(reason(verifier, doomed), 'revoked')
  stream.snapshot()
  stream.say({ event: revoked(randomUUID(), 5, inAnHour()) })
  await stream.echo(5)
  await until('in force', () => reason(verifier, doomed) === undefined)
  assert.deepEqual([verifier.status.entries, verifier.status.through], [1, 5])
})

it('acknowledges where it is required, and only there', async () => {
  const [, required] = await ready([], { subscriber: 'api-1', required: true })
  const [other, stream] = await ready()
  for (const told of [stream, required]) {
    told.say({ event: revoked(SESSION, 2, inAnHour()) })
  }
  await until('revoked', () => reason(other, doomed) === 'revoked')
  await until('acknowledged', () => required.acks.includes('event-2'))
  // It pings again once it is answered: what it had to say of the event comes before its second ping.
  await stream.echo(2)
  await stream.echo(2)
  assert.deepEqual(stream.acks, [])
})

it('resumes a stream that ended where it was', async () => {
  let [verifier, stream] = await ready()
  stream.say({ event: revoked(SESSION, 2, inAnHour()) })
  await until('revoked', () => reason(verifier, doomed) === 'revoked')
  stream.end()
  stream = await fake.nextStream()
  assert.equal(stream.start.cursor, 'event-2')
  stream.end('CURSOR_INVALID')
  assert.ok((await fake.nextStream()).start.snapshot)
})

/** This machine's clock stands still an hour before. */
it("forgets by the authority's clock", async () => {
  const [before, end] = [Date.now(), inAnHour()]
  const options = { clock: () => before, stalenessBoundMs: 1_000 }
  const over = key.token({ sid: SESSION, exp: new Date(end).toISOString() })
  let [verifier, stream] = await ready([revoked(SESSION, 1, end)], options)
  await stream.echo(2, { serverTime: timestamp(end + 29_000) })
  await until('heard', () => verifier.status.through === 2)
  assert.equal(reason(verifier, over), 'revoked')
  // Entries go a minute at a time.
  await stream.echo(3, { serverTime: timestamp(end + 30_000 + 60_001) })
  await until('forgotten', () => verifier.status.entries === 0)
  // However this machine sees it, the token is over.
  assert.equal(reason(verifier, over), 'expired')
})

it('refuses what a snapshot may have left out', async () => {
  const expired = key.token({ exp: new Date(Date.now() - 10_000).toISOString() })
  const [verifier] = await ready()
  assert.equal(reason(verifier, expired), 'expired')
})

it('starts again with an authority whose clock goes back', async () => {
  const [, stream] = await ready([], { stalenessBoundMs: 1_000 })
  await stream.echo(2, { serverTime: timestamp(Date.now() - HOUR_MS) })
  assert.ok((await fake.nextStream()).start.snapshot)
})

it('reads the keys again for an unknown one, but not often', async () => {
  const [seldom, stream] = await ready()
  const [often] = await ready([], { rereadIntervalMs: 0 })
  assert.equal(fake.keyReads, 2)
  fake.keys.push(new SigningKey())
  const token = fake.keys[1]!.token()
  for (let round = 0; round < 100; round++) {
    assert.equal(reason(seldom, token), 'unknown_key')
  }
  stream.checkpoint(2)
  await until('what came before is handled', () => seldom.status.through === 2)
  assert.equal(fake.keyReads, 2)
  await until('the second page of keys', () => allows(often, token))
  assert.ok(allows(often, good))
})

it('does not say that a key is unknown while it is stale', async () => {
  const [verifier] = await ready([], { stalenessBoundMs: 300 })
  await until('stale', () => isStale(verifier, good))
  const token = new SigningKey().token()
  const decision = verifier.verify(token)
  assert.ok(decision.kind === 'stale' && decision.boundMs === 300 && decision.behindMs! > 300)
  // As stale as is allowed here, the key is unknown.
  assert.equal(reasonOf(await verifier.verifyWith(token, null, { failOpenMs: EVER_MS })), 'unknown_key')
  fake.introspected = { active: true, jti: TOKEN_ID, scope: 'videos:read' }
  assert.equal((await verifier.verifyWith(token, null, 'introspect')).kind, 'allow')
})

it('keeps the tokens that the same keys verified', async () => {
  const [verifier, stream] = await ready([], { stalenessBoundMs: 1_000 })
  assert.ok(allows(verifier, good))
  const checked = countSignatureChecks()
  await stream.echo(2, { keySet: '2' })
  await until('the same keys', () => verifier.status.through === 2)
  assert.ok(allows(verifier, good))
  assert.deepEqual([fake.keyReads, checked()], [2, 0])
  fake.keys.push(new SigningKey())
  await stream.echo(3, { keySet: '3' })
  await until('another key', () => verifier.status.through === 3)
  assert.ok(allows(verifier, good))
  assert.deepEqual([fake.keyReads, checked()], [3, 1])
})

it('reads the keys once at a time, so that an older answer replaces no newer keys', async () => {
  const options = { rereadIntervalMs: 0, subscriber: 'node-1', required: true }
  const [verifier, stream] = await ready([], options)
  const next = new SigningKey()
  const release = fake.holdNextKeys()
  assert.equal(reason(verifier, next.token()), 'unknown_key')
  await until('the first reading', () => fake.keyReads === 2)
  fake.keys = [next]
  // Once it has acknowledged the event, the checkpoint that came with it is all that there is to do.
  stream.say({ event: revoked(SESSION, 2, inAnHour()) })
  stream.checkpoint(3, { keySet: '2' })
  await until('acknowledged', () => stream.acks.includes('event-2'))
  release()
  await until('the checkpoint', () => verifier.status.through === 3)
  assert.ok(allows(verifier, next.token()))
  assert.equal(reason(verifier, good), 'unknown_key')
  assert.deepEqual([fake.keyReads, fake.keyReadsAtOnce], [3, 1])
})

it('takes no keys from a reading of a stream that is over', async () => {
  const [verifier, stream] = await ready([], { rereadIntervalMs: 0 })
  const next = new SigningKey()
  const release = fake.holdNextKeys()
  assert.equal(reason(verifier, next.token()), 'unknown_key')
  await until('the reading', () => fake.keyReads === 2)
  stream.end()
  fake.keys = [next]
  const second = await fake.nextStream()
  await second.echo(2, { keySet: '2' })
  await until('newer keys', () => verifier.status.through === 2)
  release()
  // What was said before is heard before, as both are in this process.
  await second.echo(3, { keySet: '2' })
  await until('the next checkpoint', () => verifier.status.through === 3)
  assert.equal(reason(verifier, good), 'unknown_key')
  assert.ok(allows(verifier, next.token()))
})

it('reads the keys again where a checkpoint has another key set', async () => {
  const [verifier, stream] = await ready([], { stalenessBoundMs: 1_000 })
  fake.keys = [new SigningKey()]
  assert.ok(allows(verifier, good))
  await stream.echo(2, { keySet: '2' })
  await until('the keys', () => reason(verifier, good) === 'unknown_key')
  assert.ok(allows(verifier, fake.keys[0]!.token()))
})

it('refuses what a key may not say', async () => {
  const [verifier] = await ready()
  assert.ok(allows(verifier, good))
  assert.equal(reason(verifier, key.token({ iss: 'urn:other' })), 'bad_signature')
  assert.equal(reason(verifier, key.token({ admin: true })), 'malformed')
  assert.equal(reason(verifier, key.token({ labels: ['x'.repeat(24 * 1024)] })), 'malformed')
  assert.equal(reason(verifier, key.token({ aud: 'player' })), 'wrong_audience')
})

it('accepts a new token without leeway by a clock that is late', async () => {
  const issued = Math.floor(Date.now() / 1000) * 1000
  const at = (seconds: number) => new Date(issued + seconds * 1000).toISOString()
  const [verifier] = await ready([], { leewayMs: 0, clock: () => issued - 10_000 })
  assert.ok(allows(verifier, key.token({ iat: at(0), nbf: at(-10) })))
  assert.ok(allows(verifier, key.token({ iat: at(0), nbf: at(-3600) })))
  assert.equal(reason(verifier, key.token({ iat: at(0), nbf: at(0) })), 'not_yet_valid')
  assert.equal(reason(verifier, key.token({ iat: at(1), nbf: at(-3600) })), 'not_yet_valid')
})

it('reads the largest token that is issued', async () => {
  const [verifier] = await ready()
  const numbered = (count: number, text: (number: string) => string) =>
    Array.from({ length: count }, (_, index) => text(String(index).padStart(3, '0')))
  const scopes = numbered(100, (number) => `${number}${'x'.repeat(123)}:r`)
  const largest = key.token({
    sub: 's'.repeat(255),
    scope: scopes.join(' '),
    roles: numbered(32, (number) => `role:${number}${'x'.repeat(61)}`),
    labels: numbered(8, (number) => `${number}${'x'.repeat(125)}`),
    client_id: `client:${'c'.repeat(64)}`,
    gen: Number.MAX_SAFE_INTEGER,
    pol: '0'.repeat(64),
  })
  assert.ok(largest.length > 20_000)
  assert.ok(allows(verifier, largest, scopes[0]!))
})

it('has a bounded cache that is no way around a revocation', async () => {
  const [verifier, stream] = await ready([], { cacheCapacity: 2 })
  for (let round = 0; round < 5; round++) {
    assert.ok(allows(verifier, key.token()))
  }
  assert.ok(allows(verifier, doomed) && allows(verifier, doomed))
  stream.say({ event: revoked(SESSION, 2, inAnHour()) })
  await until('revoked', () => reason(verifier, doomed) === 'revoked')
})

it('tells who waits that it was closed', async () => {
  const [verifier] = await follow()
  const waiting = assert.rejects(verifier.ready(), { name: 'ClosedError' })
  verifier.close()
  await waiting
})
