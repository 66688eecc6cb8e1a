/** Requirements that can't be right: each is refused when it is made, and not when the first request comes. */

import assert from 'node:assert/strict'
import { afterEach, it } from 'node:test'

import type { ServiceDefinition } from '@grpc/grpc-js'

import {
  ConfigurationError,
  Connection,
  type Protection,
  type Requirement,
  Verifier,
  protectService,
  requireToken,
  setLogger,
} from '../src/index.js'
import { Cleanups } from './support.js'

const cleanups = new Cleanups()
afterEach(() => cleanups.run())

/** It is never asked, and nobody answers it. */
function verifier(): Verifier {
  setLogger({ debug: () => {}, info: () => {}, warn: () => {} })
  cleanups.then(() => setLogger())
  const connection = new Connection({ address: 'http://127.0.0.1:1', apiKey: 'tsk_production_x' })
  return cleanups.add(new Verifier({ connection, realm: 'production', audience: 'api' }))
}

/** What is made is refused, and the error names what is wrong. */
function refused(make: () => unknown, ...named: string[]): void {
  assert.throws(make, (error) => {
    assert.ok(error instanceof ConfigurationError, String(error))
    for (const name of named) {
      assert.ok(error.message.includes(name), error.message)
    }
    return true
  }, named.join())
}

/** Of these, a token has none; of the last, nobody knows which one is meant. */
const NO_SCOPES = ['videos', '', 'videos:', ':read', 'videos:*', '*', 'videos:read videos:write', 'a//b:c', 'a b:c']
const OTHER_TYPES = [1, true, ['a:b'], ['a:b', 'c:d'], {}, () => 'a:b']

it('refuses what is no requirement of a request', () => {
  const required = verifier()
  const guard = (...given: unknown[]) => requireToken(required, ...(given as [Requirement]))
  refused(() => guard(), 'undefined', 'null')
  refused(() => guard(undefined), 'undefined', 'null')
  refused(() => guard({}), 'no scope', 'null')
  refused(() => guard({ mode: 'introspect' }), 'no scope', 'null')
  refused(() => guard({ scope: undefined }), 'no scope', 'null')
  refused(() => guard({ scopes: 'videos:write' }), '`scopes`', 'scope, path, mode')
  refused(() => guard({ Scope: 'videos:write' }), '`Scope`')
  refused(() => guard({ scope: 'videos:write', mod: 'introspect' }), '`mod`')
  refused(() => guard({ scope: 'videos:write', path: undefined }), 'path', 'undefined')
  refused(() => guard({ scope: 'videos:write', mode: undefined }), 'mode', 'undefined')
  refused(() => guard({ scope: 'videos:write', path: 1 }), '1')
  refused(() => guard({ scope: null, path: '/videos/{id}' }), '/videos/{id}')
  for (const scope of [...NO_SCOPES, ...OTHER_TYPES]) {
    refused(() => guard({ scope }), 'resource:action')
  }
  for (const scope of [...NO_SCOPES, ['a:b'], 1, () => 'a:b']) {
    refused(() => guard(scope))
  }
  for (const right of ['videos:read', 'videos/v1/a:b:play', 'videos/{id}:play', null]) {
    guard({ scope: right })
    guard(right)
  }
})

it('refuses what is no protection of a service', () => {
  const definition = { List: {}, Watch: {} } as unknown as ServiceDefinition
  const asked = verifier()
  const protect = (protection: object) =>
    protectService(definition, {}, { verifier: asked, ...protection } as Protection)
  refused(() => protect({}), 'required')
  refused(() => protect({ required: undefined }), 'required', 'undefined')
  refused(() => protect({ required: { Lst: 'videos:read' } }), '`Lst`', 'List, Watch')
  refused(() => protect({ required: { List: {} } }), 'List', 'no scope')
  refused(() => protect({ required: { List: undefined } }), 'List', 'undefined')
  refused(() => protect({ required: { List: { scope: undefined } } }), 'List', 'no scope')
  refused(() => protect({ required: { List: { scop: 'x:y' } } }), 'List', '`scop`')
  refused(() => protect({ required: { List: 'videos/{id}:play' } }), 'List', 'lacksScope')
  refused(() => protect({ required: { List: { scope: 'videos:play', path: '/videos' } } }), 'List', '/videos')
  refused(() => protect({ required: {}, requird: {} }), '`requird`')
  refused(() => protect({ required: {}, public: 'List' }), 'public', '`List`')
  refused(() => protect({ required: {}, public: undefined }), 'public')
  refused(() => protect({ required: {}, public: ['Lst'] }), '`Lst`', 'List, Watch')
  refused(() => protect({ required: { List: null }, public: ['List'] }), '`List`')
  for (const scope of [...NO_SCOPES, ['a:b'], 1, true]) {
    refused(() => protect({ required: { List: scope } }))
    refused(() => protect({ required: { List: { scope } } }), 'resource:action')
  }
  protect({ required: { List: null, Watch: { scope: null, mode: 'introspect' } } })
  protect({ required: { List: 'videos:read' }, public: ['Watch'] })
})

it('refuses options of another name', () => {
  const connection = new Connection({ address: 'http://127.0.0.1:1', apiKey: 'tsk_production_x' })
  const options = { connection, realm: 'production', audience: 'api' }
  for (const misspelled of [{ stalenessBound: 1_000 }, { requried: true }, { calls: { deadline: 1 } }]) {
    refused(() => new Verifier({ ...options, ...(misspelled as object) }), Object.keys(misspelled.calls ?? misspelled)[0]!)
  }
  refused(() => new Verifier({ ...options, realm: undefined as unknown as string }), 'realm')
  const misspelled = { address: 'https://a', apiKey: 'tsk_x', certificateAuthoriy: 'x' }
  refused(() => new Connection(misspelled), '`certificateAuthoriy`', 'certificateAuthority')
})

it('refuses what is no mode', async () => {
  const asked = verifier()
  const definition = { List: {} } as unknown as ServiceDefinition
  const wrong = ['fail-open', 'Introspect', '', 1, null, {}, { failOpenMs: -1 }, { failOpenMs: NaN }, { failOpenMs: '60' }]
  for (const given of [...wrong, { failOpenMs: 1, also: 1 }, ['introspect']]) {
    const mode = given as 'introspect'
    refused(() => requireToken(asked, { scope: 'videos:read', mode }), 'is not a mode')
    refused(() => protectService(definition, {}, { verifier: asked, required: {}, mode }), 'is not a mode')
    await assert.rejects(asked.verifyWith('x', null, mode), ConfigurationError)
  }
  requireToken(asked, { scope: 'videos:read', mode: { failOpenMs: 0 } })
})

it('refuses a question about no scope', async () => {
  const asked = verifier()
  for (const given of [undefined, ...OTHER_TYPES]) {
    const scope = given as unknown as string
    refused(() => asked.verify('x', scope), 'null')
    await assert.rejects(asked.verifyWith('x', scope, 'fail-closed'), ConfigurationError)
  }
  for (const decision of [asked.verify('x'), asked.verify('x', null), asked.verify('x', 'videos:read')]) {
    assert.deepEqual(decision, { kind: 'deny', reason: 'malformed' })
  }
})
