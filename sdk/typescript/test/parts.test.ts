/** The parts of a verifier that no authority would show: forgeries, odd claims and odd events. */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'

import { type Claims, decodeClaims } from '../src/claims.js'
import { ConfigurationError } from '../src/errors.js'
import type { RevocationEvent__Output as RevocationEvent } from '../src/generated/tessera/v1/RevocationEvent.js'
import { isSignedBy, publicKey, takeApart } from '../src/paseto.js'
import { PathError, ScopeFromPath, called } from '../src/path-scope.js'
import { type Kind, Revocations } from '../src/revocations.js'
import { checkRealm } from '../src/session.js'
import { readStatusDetails } from '../src/status-details.js'
import { understand } from '../src/wire.js'
import { SigningKey, detailsOf, said } from './fake.js'

const ID = '0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b'

function decoded(changes: object = {}): Claims {
  return decodeClaims(Buffer.from(JSON.stringify(said({ sid: ID, ...changes }))))!
}

describe('claims', () => {
  const good = JSON.stringify(said())
  const { rev: _, ...missing } = said()
  const wrong: Record<string, string | Buffer> = {
    'an unknown one': JSON.stringify(said({ admin: true })),
    'a missing one': JSON.stringify(missing),
    'one twice': `${good.slice(0, -1)},"sub":"user:bob"}`,
    'one twice, with the same value': `${good.slice(0, -1)},"gen":1}`,
    'a truth for a number': JSON.stringify(said({ rev: true })),
    'a fraction': JSON.stringify(said({ rev: 7.5 })),
    negative: JSON.stringify(said({ rev: -1 })),
    'too large': good.replace('"rev":1', '"rev":18446744073709551615'),
    'a text for a list': JSON.stringify(said({ roles: 'role:admin' })),
    'a number in a list': JSON.stringify(said({ labels: [1] })),
    'a number for a time': JSON.stringify(said({ exp: 1767225600 })),
    'a time without zone': JSON.stringify(said({ exp: '2026-01-01T01:00:00' })),
    'no time': JSON.stringify(said({ exp: '2026-13-01T01:00:00Z' })),
    'an id of another form': JSON.stringify(said({ jti: ID.toUpperCase() })),
    'a list': '[]',
    'no text': Buffer.from([0xff]),
    nothing: 'null',
  }
  it('are read where they are exactly ours', () => {
    assert.deepEqual(decoded({ labels: ['stream:"1"\u2028é'] }).labels, ['stream:"1"\u2028é'])
  })
  for (const [what, payload] of Object.entries(wrong)) {
    it(`are refused: ${what}`, () => assert.equal(decodeClaims(Buffer.from(payload)), undefined))
  }
})

describe('PASETO', () => {
  const key = new SigningKey()
  const verifies = (token: string) => {
    const parts = takeApart(token)
    return parts?.kid === key.kid && isSignedBy(parts, publicKey(key.paserk)!)
  }

  it('verifies our form only', () => {
    const { kid } = key
    assert.ok(verifies(key.sign('{}')))
    const footers = [`{"kid": "${kid}"}`, `{"kid":"${kid}","a":1}`, kid, '', `{"kid":"k4.lid.${kid.slice(7)}"}`]
    for (const footer of footers) {
      assert.ok(!verifies(key.sign('{}', footer)), footer)
    }
    assert.ok(!verifies(key.sign('{}', undefined, 'v3.public.')))
    assert.ok(!verifies(key.sign('{}', undefined, undefined, 'checkpoint')))
    assert.ok(!verifies(`${key.sign('{}')}.`))
    assert.ok(!verifies(`v4.public.${'A'.repeat(90)}`))
  })

  it('reads a key only where it is one', () => {
    const { paserk } = key
    for (const wrong of ['', 'k4.public.AAAA', paserk.replace('k4', 'k3'), `${paserk}=`, paserk.slice(0, -1)]) {
      assert.equal(publicKey(wrong), undefined, wrong)
    }
  })
})

/** An event, as far as it is looked at. */
function event(fields: Partial<RevocationEvent>): RevocationEvent {
  const read: Partial<RevocationEvent> = {
    sequence: 9,
    kind: 'EVENT_KIND_SESSION_REVOKED',
    relevantUntil: { seconds: 0, nanos: 0 },
    realm: 'production',
    lostScopes: [],
    ...fields,
  }
  return read as RevocationEvent
}

describe('events', () => {
  const session = { target: 'sessionId', sessionId: ID } as const
  const subject = { kind: 'EVENT_KIND_SUBJECT_REVOKED' } as const
  const wrong: Record<string, Partial<RevocationEvent>> = {
    'an unknown kind': { kind: 99 as never, ...session },
    'no kind': { kind: 'EVENT_KIND_UNSPECIFIED', ...session },
    'no target': subject,
    'another target': { ...subject, target: 'client', client: 'client:app' },
    'no session': { target: 'sessionId', sessionId: 'x' },
    'no end': { ...session, relevantUntil: null },
    'nothing lost': { ...session, kind: 'EVENT_KIND_SCOPES_NARROWED' },
    'not the realm': { kind: 'EVENT_KIND_REALM_REVOKED', target: 'wholeRealm', wholeRealm: false },
    'another realm': { ...session, realm: 'sandbox' },
  }
  it('are understood', () => {
    const understood = understand(event(session), 'production')
    assert.deepEqual([understood?.revocation?.name, understood?.changesKeys], [ID, false])
    for (const kind of ['PUBLISHED', 'ACTIVATED'] as const) {
      assert.ok(understand(event({ kind: `EVENT_KIND_KEY_${kind}` }), 'production')?.changesKeys)
    }
    const revoked = { kind: 'EVENT_KIND_KEY_REVOKED', target: 'keyId', keyId: 'k4.pid.x' } as const
    assert.ok(understand(event(revoked), 'production')?.changesKeys)
  })
  for (const [what, fields] of Object.entries(wrong)) {
    it(`are not passed over: ${what}`, () => assert.equal(understand(event(fields), 'production'), undefined))
  }

  it('come on a stream whose realm is checked where it is said', () => {
    for (const said of [{}, { realm: '' }, { realm: 'production' }]) {
      checkRealm(said, 'production')
    }
    assert.throws(() => checkRealm({ realm: 'sandbox' }, 'production'), { startsAgain: true, message: /`sandbox`/ })
  })
})

describe('revocations', () => {
  function applied(...entries: Array<[Kind, string, number, number, ...string[]]>): Revocations {
    const revocations = new Revocations()
    for (const [kind, name, sequence, minute, ...lostScopes] of entries) {
      revocations.apply({ kind, name, sequence, until: minute * 60_000, lostScopes })
    }
    return revocations
  }

  it('end what was issued before and not what is issued after', () => {
    const revocations = applied(['subject', 'user:ann', 8, 100])
    assert.ok(revocations.revokes(decoded({ rev: 7 }), 'k'))
    assert.ok(!revocations.revokes(decoded({ rev: 8 }), 'k'))
    assert.ok(!revocations.revokes(decoded({ sub: 'user:bob' }), 'k'))
  })

  it('add losses up, of older tokens of the session only', () => {
    const first: [Kind, string, number, number, string] = ['narrowed', ID, 5, 100, 'videos:read']
    const revocations = applied(first, ['narrowed', ID, 9, 90, 'videos:write'], first)
    const taken = (rev: number) => [...revocations.taken(decoded({ rev, scope: 'videos:read videos:write' }))]
    assert.deepEqual([taken(4), taken(5), taken(9)], [['videos:read', 'videos:write'], ['videos:write'], []])
    revocations.forgetBefore(95 * 60_000)
    assert.equal(taken(4).length, 2)
    revocations.forgetBefore(101 * 60_000)
    assert.deepEqual([taken(4).length, revocations.size], [0, 0])
  })

  it('replace the earlier event of a target, and its end', () => {
    const revocations = applied(['subject', 'user:ann', 8, 100], ['subject', 'user:ann', 9, 200], [
      'subject',
      'user:ann',
      8,
      100,
    ])
    revocations.forgetBefore(150 * 60_000)
    assert.ok(revocations.revokes(decoded({ rev: 8 }), 'k'))
    revocations.forgetBefore(201 * 60_000)
    assert.equal(revocations.size, 0)
  })
})

it('reads the reason in the details of a status, and nothing else', () => {
  const details = detailsOf('CURSOR_EXPIRED')
  assert.deepEqual(readStatusDetails(details), { message: 'scripted', reason: 'CURSOR_EXPIRED' })
  assert.deepEqual(readStatusDetails(details.subarray(0, -1)), {})
  const another = Buffer.from(details.toString('latin1').replace('tessera', 'another'), 'latin1')
  assert.deepEqual(readStatusDetails(another), { message: 'scripted' })
})

it('reads paths in one way or not at all', () => {
  const unclear = [
    ...'* videos http://h/v // //videos /videos//v1 /videos// /videos/. /videos/../a /v/%2e%2E/a /v%2fv1'.split(' '),
    ...'/v%5Cv1 /v\\v1 /v;a=b/v1 /v/..;/a /v/%3b /v#a /v/% /v/%2 /v/%zz /v/%252e /v/%ff /v/%00 /v/%0a /vidéos'.split(' '),
    '',
    '/a b',
    `/${'a'.repeat(9000)}`,
  ]
  for (const path of unclear) {
    assert.throws(() => called(path), PathError, path)
  }
  assert.deepEqual(called('/f%C3%BCr/a%20b/100%25/?x=/..'), ['für', 'a b', '100%'])
  const wrong = 'videos /videos/ // /a//b /*/ /a* /*/a /a/{id /{} /{a}b /{a}/{a} /. /a/.. /a%20b /a?b /a#b /a;b /{a-b}'
  for (const pattern of [...wrong.split(' '), '']) {
    assert.throws(() => new ScopeFromPath(pattern, 'videos:read'), ConfigurationError, pattern)
  }
  for (const scope of ['videos', 'videos/{id}', 'videos/{id}:', 'videos/a{id}:play', 'videos:{action}', '']) {
    assert.throws(() => new ScopeFromPath('/{id}', scope), ConfigurationError, scope)
  }
  assert.equal(new ScopeFromPath('/files/*', 'videos:read').of('/files'), 'videos:read')
  assert.equal(new ScopeFromPath('/v/{id}', 'videos/{id}:play').of('/v/a:b'), 'videos/a:b:play')
})
