/** Several addresses: verifiers and calls go on at another one where one does not work. */

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'

import { status } from '@grpc/grpc-js'

import { Addresses, Round, targetOf } from '../src/addresses.js'
import { End, Following } from '../src/following.js'
import {
  CallError,
  Client,
  type ClientOptions,
  ClosedError,
  ConfigurationError,
  Connection,
  NotReadyError,
  PassingError,
  TokenSource,
  type Verifier,
  setLogger,
} from '../src/index.js'
import { View } from '../src/view.js'
import { Fake, type Stream, revoked } from './fake.js'
import { Proxy } from './proxy.js'
import { Authority, Cleanups, Gate, VIEWER, allows, collectWarnings, reason, startVerifier, until } from './support.js'

/** Nobody listens there. */
const NOBODY = 'http://127.0.0.1:1'
const SESSION = randomUUID()
/** The wait between two attempts is so long that a test which waits for one fails. */
const IMPATIENT: ClientOptions = { deadlineMs: 10_000, backoffMs: 60_000, backoffMaxMs: 60_000 }
/** Addresses by what is wrong with them. */
const WRONG = {
  'it begins neither with https:// nor with http://': ['a:1', 'ftp://a:1', '//a:1', 'https:/a', 'tsk_secret'],
  'it has a user': ['http://user:secret@a:1', 'https://secret@a', 'https://a:1/@secret@b'],
  'it has a path': ['http://a:1/api', 'http://a:1//', 'https://a/x/'],
  'it has a query': ['http://a:1?b=c', 'http://a:1/?b'],
  'it has a fragment': ['http://a:1#b', 'http://a:1/#'],
  'it has no host': ['http://', 'http://:1', 'https:///'],
  "its host can't be read": ['http://a:b:1', 'http://::1:7600', 'http://[::1', 'http://[g]:1', 'http://a\\b:1'],
  'its port is not between 1 and 65535': ['http://a:', 'http://a:0', 'http://127.0.0.1:99999', 'https://a:65536'],
  'a space or a control character': ['http://a b:1', 'http://a\n:1', 'http://a\x00:1'],
}
const NAMES = Array.from({ length: 17 }, (_, number) => `http://h${number}:1`)

const cleanups = new Cleanups()

afterEach(() => cleanups.run())
const warnings = collectWarnings()

describe('addresses', () => {
  it('can be given as a table says', () => {
    const [none, mixed] = ['no address: name at least one', 'some of the addresses have encryption']
    const wrong = Object.entries(WRONG).flatMap(([problem, addresses]) => [
      ...addresses.map((address): [string, string] => [address, problem]),
      // One of several.
      [`http://a:1,${addresses[0]}`, problem] as [string, string],
    ])
    const table: Array<[unknown, string]> = [
      ['http://a:1', ''],
      [['https://a:1', 'https://b:1'], ''],
      ['http://a:1,http://b:1', ''],
      [[], none],
      [['https://a:1', 'http://b:1'], mixed],
      [['https://a:1', 'b:1'], '`b:1` is not an address'],
      ['http://a:1,', '`` is not an address'],
      ['', none],
      [' , ', '`` is not an address'],
      [undefined, none],
      [null, none],
      [[undefined], none],
      [1, 'an address is a text'],
      [['http://a:1', undefined], 'an address is a text'],
      ['HTTPS://a:1', ''],
      ['http://a', ''],
      ['https://a/', ''],
      ['http://[::1]:7600', ''],
      ['http://a:65535', ''],
      ...wrong,
      [NAMES.slice(0, 16), ''],
      [NAMES, '17 addresses are more than 16'],
    ]
    for (const [address, expected] of table) {
      let problem = ''
      try {
        new Addresses(address as string)
      } catch (error) {
        assert.ok(error instanceof ConfigurationError)
        problem = error.message
      }
      assert.equal(problem === '', expected === '', problem)
      assert.ok(problem.includes(expected) && !problem.includes('secret'), problem)
    }
    const certificateAuthority = Buffer.from('none')
    const options = { address: ['http://a:1', 'http://b:1'], apiKey: 'tsk_x', certificateAuthority }
    assert.throws(() => new Connection(options), ConfigurationError)
  })

  it('have the port of their scheme', () => {
    const targets = ['HTTP://a:1/', 'http://a', 'http://[::1]', 'HTTPS://a'].map(targetOf)
    assert.deepEqual(targets, ['a:1', 'a:80', '[::1]:80', 'a'])
  })

  it('are tried once, however often they are given', () => {
    const addresses = new Addresses(['http://a:1', 'http://b:1 , HTTP://A:1/', 'http://b:1'])
    assert.deepEqual(addresses.given, ['http://a:1', 'http://b:1'])
  })

  it('spread many clients over the nodes, and each client tries all', () => {
    const given = ['http://a:1', 'http://b:1', 'http://c:1']
    const orders = new Map<string, number>()
    for (let count = 0; count < 600; count++) {
      const { tried } = new Addresses(given)
      assert.deepEqual([...tried].sort(), given)
      orders.set(tried.join(), (orders.get(tried.join()) ?? 0) + 1)
    }
    // Each of the six orders, by chance: none is rare.
    assert.equal(orders.size, 6)
    assert.ok(Math.min(...orders.values()) > 40, JSON.stringify([...orders]))
    assert.deepEqual(new Addresses(given, true).tried, given)
  })

  it('are next as a table says', () => {
    // For each count of addresses: where it is after each failure, and whether it waits there.
    const table: Array<Array<[number, boolean]>> = [
      [[0, true], [0, true], [0, true]],
      [[1, false], [0, true], [1, false], [0, true]],
      [[1, false], [2, false], [0, true], [1, false], [2, false]],
    ]
    table.forEach((expected, index) => {
      const round = new Round(new Addresses(NAMES.slice(0, index + 1), true))
      expected.forEach(([at, waits], step) => {
        assert.deepEqual([round.isOver, round.isAtLast], [step > index, waits], `${index} ${step}`)
        assert.deepEqual([round.leave(), round.at], [waits, at], `${index} ${step}`)
      })
    })
  })

  it('are tried first where they worked last', () => {
    const addresses = new Addresses(NAMES.slice(0, 3), true)
    const [round, other] = [new Round(addresses), new Round(addresses)]
    assert.deepEqual([round.leave(), round.leave(), round.at], [false, false, 2])
    // What never failed prefers nothing: another one may have moved meanwhile.
    assert.ok(!other.worked())
    assert.ok(round.worked() && !round.isOver)
    assert.equal(new Round(addresses).address, NAMES[2])
    // One that comes late with an old failure moves nobody.
    addresses.leave(0)
    assert.equal(new Round(addresses).at, 2)
    addresses.leave(2)
    assert.equal(new Round(addresses).at, 0)
    // A round that worked begins anew: it waits only when each has failed again.
    assert.deepEqual([round.leave(), round.leave(), round.leave()], [false, false, true])
  })
})

describe('after a stream', () => {
  function following(count = 3): Following {
    const addresses = NAMES.slice(0, count)
    const accepted = { realm: 'production', audience: 'api', boundMs: 10_000, leewayMs: 0, cacheCapacity: 0 }
    const view = new View({ ...accepted, addresses, clock: Date.now })
    const connection = new Connection({ address: addresses, apiKey: 'tsk_x', inOrder: true })
    return new Following(view, connection, '', false, 0)
  }

  it('goes on, and waits, as a table says', () => {
    // How it ended; where it goes on, whether it waits before, and whether it keeps its place.
    const table: Array<[End, number, boolean, boolean]> = [
      [new End('gone'), 1, false, true],
      [new End('not understood', true), 2, false, false],
      [new End('gone'), 0, true, true],
      [new End('permanent', false, true), 1, true, true],
      [new End('gone'), 2, false, true],
      [new End('expired', true, false, true), 2, true, false],
      [new End('gone'), 0, true, true],
    ]
    const tried = following()
    table.forEach(([end, at, waits, keeps], step) => {
      tried.place = 'a place'
      const waitMs = tried.after(end)
      assert.deepEqual([tried.round.at, waitMs > 0, tried.place !== undefined], [at, waits, keeps], String(step))
    })
  })

  it('waits where each ends after its first answer', () => {
    const tried = following()
    const waits = (ageMs: number) => {
      tried.answered(ageMs)
      return tried.after(new End('gone')) > 0
    }
    const [first, second] = [[2_499, 2_499, 2_499].map(waits), [2_499, 2_499, 2_499].map(waits)]
    assert.deepEqual([first, second], [[false, false, true], [false, false, true]])
    // One that lasted has earned the whole round.
    assert.deepEqual([2_500, 2_500, 2_500, 2_500].map(waits), [false, false, false, false])
  })

  it('is silent for as long as a table says', () => {
    const longest = (of: Following) => [of.silenceMsMax(true), of.silenceMsMax(false)]
    const [one, two] = [following(1), following(2)]
    assert.deepEqual(longest(one), [10_000, 10_000])
    one.after(new End('gone'))
    assert.deepEqual(longest(one), [10_000, 10_000])
    // One that is frozen, and each of the others: within the bound.
    assert.deepEqual(longest(following(3)), [5_000, 2_500])
    assert.deepEqual(longest(two), [5_000, 5_000])
    two.after(new End('gone'))
    assert.deepEqual(longest(two), [5_000, 5_000])
    // Each was tried: one may just be slow.
    two.after(new End('gone'))
    assert.deepEqual(longest(two), [10_000, 10_000])
    two.answered(3_000)
    assert.deepEqual(longest(two), [5_000, 5_000])
  })
})

describe('a verifier', () => {
  let one: Fake
  let two: Fake
  let good: string
  let doomed: string

  beforeEach(async () => {
    one = cleanups.add(await Fake.start())
    two = cleanups.add(await Fake.start())
    two.keys = one.keys
    const key = one.keys[0]!
    good = key.token()
    doomed = key.token({ sid: SESSION })
  })

  function start(...address: string[]): Verifier {
    const connection = new Connection({ address, apiKey: 'tsk_production_fake', inOrder: true })
    return cleanups.add(startVerifier(connection, { stalenessBoundMs: 4_000 }))
  }

  async function movesFrom(verifier: Verifier, stops: () => void): Promise<void> {
    /** Waits until something holds; at each look a good token is allowed. */
    const allAlong = (what: string, holds: () => unknown) =>
      until(what, () => {
        assert.ok(allows(verifier, good), `${what}: ${JSON.stringify(verifier.status)}`)
        return holds()
      })
    const stream = await one.nextStream()
    stream.snapshot()
    await stream.echo()
    await verifier.ready()
    assert.equal(verifier.status.address, one.address)
    stops()
    let moved: Stream | undefined
    void two.nextStream().then((stream) => (moved = stream))
    await allAlong('the move', () => moved)
    // It goes on at its place, and takes no snapshot.
    assert.deepEqual([moved!.start.cursor, moved!.start.snapshot], ['place-1', undefined])
    moved!.say({ event: revoked(SESSION, 2, Date.now() + 3_600_000) })
    await allAlong('the revocation', () => reason(verifier, doomed) === 'revoked')
    // It says so when the other one has worked for a while.
    const told = () => warnings.find((warning) => warning.includes('another address'))
    for (let echoes = 0; told() === undefined && echoes < 10; echoes++) {
      await moved!.echo(2)
      await allAlong('the answer', () => verifier.status.problem === undefined)
    }
    assert.ok(told()?.includes(`${two.address}: ${one.address} was left: `), told())
    const { address, snapshots, problem } = verifier.status
    assert.deepEqual([address, snapshots, problem], [two.address, 1, undefined])
  }

  it('whose node freezes moves within its bound', async () => {
    // One that refuses, too: it costs no time.
    await movesFrom(start(one.address, NOBODY, two.address), () => {})
  })

  it('whose node is gone moves', async () => {
    await movesFrom(start(one.address, two.address), () => one.close())
  })

  it('whose node is not ready moves', async () => {
    one.refuses = status.UNAVAILABLE
    const verifier = start(one.address, two.address)
    await two.nextStream()
    assert.equal(one.refused, 1)
    assert.equal(verifier.status.problem, `${one.address}: UNAVAILABLE: scripted`)
  })

  it('is told at once what waiting does not help', async () => {
    one.refuses = status.PERMISSION_DENIED
    const verifier = start(one.address, two.address)
    await assert.rejects(verifier.ready(), (error) => {
      assert.ok(error instanceof NotReadyError && error.isPermanent)
      assert.equal(error.problem, `${one.address}: PERMISSION_DENIED: scripted`)
      return true
    })
  })
})

describe('an API key', () => {
  const connect = (apiKey: unknown) => new Connection({ address: 'http://127.0.0.1:1', apiKey: apiKey as string })

  it('is taken out of what is around it', () => {
    for (const given of ['tsk_x', 'tsk_x\n', ' \ttsk_x\r\n\v\f']) {
      assert.deepEqual(connect(given).credential().get('authorization'), ['Bearer tsk_x'])
    }
  })

  it('that is none is refused with a true reason', () => {
    const [missing, inside] = ['the API key is missing', 'a space or a line break inside']
    const [other, type] = ['this is not an API key', 'the API key is a text']
    const cases: Array<[unknown, string]> = [
      [undefined, missing],
      [null, missing],
      ['', missing],
      [' \n', missing],
      ['tsk_x tsk_y', inside],
      ['tsk_x\ntsk_y', inside],
      ['secret', other],
      ['tsk_\u00fc', other],
      ['tsk_\x00', other],
      [Buffer.from('tsk_secret'), type],
      [1, type],
    ]
    for (const [given, expected] of cases) {
      assert.throws(() => connect(given), (error) => {
        assert.ok(error instanceof ConfigurationError, String(error))
        return error.message.includes(expected) && !error.message.includes('secret')
      }, expected)
    }
  })
})

describe('a client that is closed', () => {
  it('ends the calls that are under way, and makes no other', async () => {
    const fake = cleanups.add(await Fake.start())
    const client = cleanups.add(new Client(fake.connection, IMPATIENT))
    const release = fake.holdNextKeys()
    const calling = client.listKeys('production')
    await until('a call', () => fake.keyReadsAtOnce === 1)
    client.close()
    await assert.rejects(calling, ClosedError)
    release()
    await assert.rejects(client.listKeys('production'), ClosedError)
  })
})

describe('a call', () => {
  let authority: Authority

  before(async () => {
    authority = await Authority.start()
  })
  after(() => authority.close())

  function connection(...address: string[]): Connection {
    return new Connection({ address, apiKey: authority.apiKeyOf('production'), inOrder: true })
  }

  function client(at: Connection, options = IMPATIENT): Client {
    return cleanups.add(new Client(at, options))
  }

  async function startGate(): Promise<Gate> {
    return cleanups.add(await Gate.before(authority))
  }

  /** The code of the error of a call. */
  async function errorOf(call: Promise<unknown>): Promise<CallError | undefined> {
    return call.then(
      () => undefined,
      (error: unknown) => error as CallError,
    )
  }

  async function codeOf(call: Promise<unknown>): Promise<status | undefined> {
    return (await errorOf(call))?.code
  }

  it('goes on at the next address without waiting', async () => {
    const gate = await startGate()
    gate.faults = [status.UNAVAILABLE]
    const app = client(connection(NOBODY, gate.address, authority.address))
    // The next call begins where the last one worked.
    for (let count = 0; count < 2; count++) {
      await app.issue(VIEWER)
      assert.equal(gate.calls.issue, 1)
    }
  })

  it('goes on where an address accepts connections and says nothing', async () => {
    const silent = cleanups.add(new Proxy(NOBODY))
    silent.silence()
    const app = client(connection(await silent.listen(), authority.address), { ...IMPATIENT, deadlineMs: 3_000 })
    await app.issue(VIEWER)
  })

  it('waits when each address was tried', async () => {
    const [one, two] = [await startGate(), await startGate()]
    const options = { deadlineMs: 600, backoffMs: 50, backoffMaxMs: 50 }
    const app = client(connection(one.address, two.address), options)
    one.faults = Array.from({ length: 1000 }, () => status.UNAVAILABLE)
    two.faults = [...one.faults]
    // Its last attempt may be cut off by the deadline.
    const code = await codeOf(app.issue(VIEWER))
    assert.ok(code === status.UNAVAILABLE || code === status.DEADLINE_EXCEEDED, String(code))
    // A wait of 25 ms to 50 ms after each round.
    const rounds = one.calls.issue
    assert.ok(rounds >= 2 && rounds <= 25, String(rounds))
    assert.ok([rounds - 1, rounds].includes(two.calls.issue), `${rounds} ${two.calls.issue}`)
    // What another node would answer in the same way is not asked there.
    for (const code of [status.PERMISSION_DENIED, status.UNAUTHENTICATED, status.INTERNAL]) {
      const before = one.calls.issue + two.calls.issue
      one.faults = [code]
      two.faults = [code]
      assert.equal(await codeOf(app.issue(VIEWER)), code)
      assert.equal(one.calls.issue + two.calls.issue, before + 1)
    }
  })

  it('that was done at a lost node is not done twice', async () => {
    const subject = 'user:lost'
    const lost = async <A>(name: 'issue' | 'refresh', call: (app: Client) => Promise<A>): Promise<A> => {
      const gate = await startGate()
      const proxy = cleanups.add(new Proxy(gate.address))
      gate.hold()
      const calling = call(client(connection(await proxy.listen(), authority.address)))
      await until('done', () => gate.done[name] === 1)
      proxy.close()
      return calling
    }
    const issued = await lost('issue', (app) => app.issue({ ...VIEWER, subject }))
    // The refresh token is spent at the node that is lost.
    const { refreshToken } = issued.tokens!
    const refreshed = await lost('refresh', (app) => app.refresh({ refreshToken }))
    assert.deepEqual([refreshed.generation, refreshed.replayed], [2, true])
    const revoked = await client(authority.connection()).revoke({ subject })
    assert.equal(revoked.matched, 1, 'one session')
  })

  // The same table is in the tests of the other SDKs.
  it('that its deadline cuts off says how the attempt before failed', async () => {
    const cutOff = 'DEADLINE_EXCEEDED: the deadline passed; the call may still have its effect'
    const before = '; the attempt before failed: '
    const { UNAVAILABLE, ABORTED, DEADLINE_EXCEEDED } = status
    const table: [status[], string][] = [
      [[], cutOff],
      [[UNAVAILABLE], `${cutOff}${before}UNAVAILABLE: scripted`],
      [[UNAVAILABLE, ABORTED], `${cutOff}${before}ABORTED: scripted`],
    ]
    const gate = await startGate()
    const app = client(gate.connection, { backoffMs: 5, backoffMaxMs: 20 })
    for (const [faults, expected] of table) {
      // As a timer on the way that is a little early, so that no load of the machine decides which attempt it ends.
      gate.faults = [...faults, DEADLINE_EXCEEDED]
      const error = await errorOf(app.issue(VIEWER))
      assert.ok(error instanceof PassingError, String(error))
      assert.deepEqual([error.code, error.reason, error.message], [DEADLINE_EXCEEDED, undefined, expected])
      assert.deepEqual(gate.faults, [])
    }
  })

  it('that nobody answered makes the next one begin elsewhere', async () => {
    const gate = await startGate()
    gate.hold()
    const shared = connection(gate.address, authority.address)
    const code = await codeOf(client(shared, { deadlineMs: 500 }).issue(VIEWER))
    assert.equal(code, status.DEADLINE_EXCEEDED)
    // All that is made of the connection knows it.
    const source = cleanups.add(new TokenSource(client(shared), VIEWER))
    await source.token()
    assert.equal(gate.calls.issue, 1)
  })
})
