/** Servers that accept tokens, and clients that send them. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, it } from 'node:test'

import {
  Client as GrpcClient,
  Metadata,
  Server,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type ServiceError,
  credentials,
  makeGenericClientConstructor,
  status,
} from '@grpc/grpc-js'

import { callError } from '../src/errors.js'
import {
  type CallError,
  Client,
  ConfigurationError,
  TokenSource,
  type Verifier,
  claimsOf,
  claimsOfCall,
  fetchWithToken,
  lacksScope,
  protectService,
  requireToken,
  sendToken,
  setLogger,
} from '../src/index.js'
import { Cleanups, EVER_MS, VIEWER, isStale, issue, listen, readyVerifier, reason, startForAll, until } from './support.js'

const { authority, client } = await startForAll()
let verifier: Verifier
let token: string
const cleanups = new Cleanups()

beforeEach(async () => {
  verifier = cleanups.add(await readyVerifier(authority.connection(), { calls: { deadlineMs: 300 } }))
  token = (await issue(client)).token
})
afterEach(() => cleanups.run())

async function stall(): Promise<void> {
  authority.stall()
  cleanups.then(() => authority.goOn())
  await until('stale', () => isStale(verifier, token))
}

// === HTTP ===

/** A row of `sdk/challenges.json`. */
interface Case {
  name: string
  authorization: string[]
  scope: string
  status: number
  www_authenticate: string | null
}

type Get = ((path: string, ...authorization: string[]) => Promise<Response>) & { url: string }

async function serveHttp(): Promise<Get> {
  const guards = {
    '/': requireToken(verifier, { scope: 'videos:read' }),
    '/write': requireToken(verifier, { scope: 'videos:write' }),
    '/ask': requireToken(verifier, { scope: 'videos:read', mode: 'introspect' }),
  }
  const server = createServer((request, response) => {
    const guard = guards[request.url as keyof typeof guards]
    guard(request, response, () => response.end(claimsOf(request).subject))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  cleanups.then(() => server.close())
  const { port } = server.address() as AddressInfo
  const url = `http://127.0.0.1:${port}`
  const get = (path: string, ...authorization: string[]) => {
    const headers = authorization.map((value): [string, string] => ['authorization', value])
    return fetch(`${url}${path}`, { headers })
  }
  return Object.assign(get, { url })
}

it('guards HTTP: 200, 401, 403, 503', async () => {
  const get = await serveHttp()
  const bearer = `Bearer ${token}`
  const allowed = await get('/', bearer)
  assert.deepEqual([allowed.status, await allowed.text()], [200, 'user:ann'])
  assert.equal((await get('/', `bearer  ${token}`)).status, 200)
  const missing = await get('/')
  assert.deepEqual([missing.status, missing.headers.get('www-authenticate')], [401, 'Bearer realm="tessera"'])
  for (const wrong of [`${bearer}A`, 'Bearer x']) {
    const refused = await get('/', wrong)
    assert.deepEqual(
      [refused.status, refused.headers.get('www-authenticate'), await refused.json()],
      [401, 'Bearer realm="tessera", error="invalid_token", error_description="a good access token is needed"', { error: 'invalid_token' }],
    )
  }
  assert.equal((await get('/', 'Basic eDp5')).status, 401)
  const forbidden = await get('/write', bearer)
  const challenge = 'Bearer realm="tessera", error="insufficient_scope", error_description="the access token lacks a scope", scope="videos:write"'
  assert.deepEqual([forbidden.status, forbidden.headers.get('www-authenticate')], [403, challenge])
  await stall()
  const stale = await get('/', bearer)
  assert.deepEqual([stale.status, stale.headers.get('retry-after')], [503, '1'])
  assert.equal((await get('/ask', bearer)).status, 503, 'the authority does not answer')
})

it('answers with the challenges of the other SDKs', async () => {
  const table = JSON.parse(readFileSync('test/challenges.json', 'utf8')) as { cases: Case[] }
  assert.ok(table.cases.length > 10)
  const { url } = await serveHttp()
  for (const { name, authorization, scope, status, www_authenticate } of table.cases) {
    const path = scope === 'videos:read' ? '/' : '/write'
    const headers = authorization.map((header) => header.replaceAll('{token}', token))
    // `fetch` would make one header of several.
    const answer = await new Promise<[number | undefined, string | null]>((resolve, reject) => {
      const asked = request(`${url}${path}`, (answer) => {
        answer.resume()
        resolve([answer.statusCode, answer.headers['www-authenticate'] ?? null])
      })
      asked.setHeader('authorization', headers)
      asked.on('error', reject).end()
    })
    assert.deepEqual(answer, [status, www_authenticate], name)
  }
})

it('refuses a revoked token over HTTP', async () => {
  const get = await serveHttp()
  await client.revoke({ token })
  await until('revoked', async () => (await get('/', `Bearer ${token}`)).status === 401, 5_000)
})

// === gRPC ===

const text = { serialize: (value: string) => Buffer.from(value), deserialize: (bytes: Buffer) => bytes.toString() }

/** A service with a method of each kind, of plain texts. */
function echo(): ServiceDefinition {
  const method = (name: string, requestStream: boolean, responseStream: boolean) => ({
    path: `/test.Echo/${name}`,
    requestStream,
    responseStream,
    requestSerialize: text.serialize,
    requestDeserialize: text.deserialize,
    responseSerialize: text.serialize,
    responseDeserialize: text.deserialize,
  })
  return {
    Unary: method('Unary', false, false),
    Writes: method('Writes', false, true),
    Reads: method('Reads', true, false),
    Both: method('Both', true, true),
    Write: method('Write', false, false),
    Ask: method('Ask', false, false),
    Forgotten: method('Forgotten', false, false),
    Open: method('Open', false, false),
    Read: method('Read', false, false),
  }
}

type Answer = (error: ServiceError | null, answer?: string) => void

async function serveGrpc(): Promise<string> {
  const subject = (call: object) => claimsOfCall(call).subject
  const unary = (call: ServerUnaryCall<string, string>, answer: Answer) => answer(null, subject(call))
  const writes = (call: ServerWritableStream<string, string> | ServerDuplexStream<string, string>) => {
    call.write(subject(call))
    call.end()
  }
  const handlers = { Unary: unary, Writes: writes, Reads: unary, Both: writes, Write: unary, Ask: unary, Forgotten: unary }
  const open = (_: unknown, answer: Answer) => answer(null, 'open')
  const reads = (call: ServerUnaryCall<string, string>, answer: Answer) => {
    const refused = lacksScope(call, '{kind}:read', { kind: call.request })
    return refused === undefined ? unary(call, answer) : answer(refused as ServiceError)
  }
  const read = 'videos:read'
  const ask = { scope: read, mode: { failOpenMs: EVER_MS } }
  const required = { Unary: read, Writes: read, Reads: read, Both: null, Write: 'videos:write', Ask: ask, Read: null }
  const protection = { verifier, required, public: ['Open'] }
  const server = new Server()
  server.addService(echo(), protectService(echo(), { ...handlers, Open: open, Read: reads }, protection))
  cleanups.then(() => server.forceShutdown())
  return `127.0.0.1:${await listen(server)}`
}

/** The answer of a method of any kind, or the code of its error. */
function ask(service: GrpcClient, name: string, metadata: Metadata): Promise<string | status> {
  const { path, requestStream, responseStream } = echo()[name]!
  return new Promise((resolve) => {
    const answer: Answer = (error, value) => resolve(error?.code ?? value ?? 'nothing')
    const coded = [path, text.serialize, text.deserialize] as const
    if (responseStream) {
      const call = requestStream
        ? service.makeBidiStreamRequest(...coded, metadata)
        : service.makeServerStreamRequest(...coded, 'hello', metadata)
      call.on('data', (value: string) => resolve(value))
      call.on('error', (error: ServiceError) => resolve(error.code))
    } else if (requestStream) {
      service.makeClientStreamRequest(...coded, metadata, answer).end()
    } else {
      service.makeUnaryRequest(...coded, 'hello', metadata, answer)
    }
  })
}

const Echo = makeGenericClientConstructor({}, 'test.Echo')

it('lets a handler require a scope with its parameter from the message', async () => {
  const service = cleanups.add(new Echo(await serveGrpc(), credentials.createInsecure()))
  const table: [string, string | undefined][] = [
    ['videos', undefined],
    ['films', 'SCOPE_DENIED'],
    // Of these no scope can be made, whatever the token has.
    ['a/b', 'CALL_NOT_ALLOWED'],
    ['*', 'CALL_NOT_ALLOWED'],
    ['..', 'CALL_NOT_ALLOWED'],
    ['films:read videos', 'CALL_NOT_ALLOWED'],
  ]
  const metadata = new Metadata()
  metadata.set('authorization', `Bearer ${token}`)
  for (const [kind, expected] of table) {
    const error = await new Promise<ServiceError | null>((resolve) =>
      service.makeUnaryRequest('/test.Echo/Read', text.serialize, text.deserialize, kind, metadata, resolve),
    )
    assert.equal(error?.code, expected && status.PERMISSION_DENIED, kind)
    assert.equal(error === null ? undefined : callError(error).reason, expected, kind)
  }
})

it('guards gRPC: OK, UNAUTHENTICATED, PERMISSION_DENIED, UNAVAILABLE', async () => {
  const service = cleanups.add(new Echo(await serveGrpc(), credentials.createInsecure()))
  const call = (name: string, bearer?: string) => {
    const metadata = new Metadata()
    if (bearer !== undefined) {
      metadata.set('authorization', `Bearer ${bearer}`)
    }
    return ask(service, name, metadata)
  }
  for (const name of ['Unary', 'Writes', 'Reads', 'Both']) {
    assert.equal(await call(name, token), 'user:ann', name)
    for (const wrong of [undefined, '', 'garbage', `${token}A`]) {
      assert.equal(await call(name, wrong), status.UNAUTHENTICATED, name)
    }
  }
  assert.equal(await call('Write', token), status.PERMISSION_DENIED)
  assert.equal(await call('Forgotten', token), status.PERMISSION_DENIED)
  assert.equal(await call('Open'), 'open')
  await client.revoke({ token })
  await until('revoked', async () => (await call('Unary', token)) === status.UNAUTHENTICATED, 5_000)
  token = (await issue(client)).token
  await stall()
  assert.equal(await call('Unary', token), status.UNAVAILABLE)
  assert.equal(await call('Both', token), status.UNAVAILABLE)
  assert.equal(await call('Ask', token), 'user:ann', 'a mode of its own')
})

it('refuses with a reason, and logs why', async () => {
  const service = cleanups.add(new Echo(await serveGrpc(), credentials.createInsecure()))
  const logged: string[] = []
  const keep = (message: string) => void logged.push(message)
  setLogger({ debug: keep, info: keep, warn: keep })
  cleanups.then(() => setLogger())
  const refusal = (name: string, ...tokens: string[]) => {
    const metadata = new Metadata()
    tokens.forEach((bearer) => metadata.add('authorization', `Bearer ${bearer}`))
    return new Promise<CallError>((resolve) => {
      const { path } = echo()[name]!
      service.makeUnaryRequest(path, text.serialize, text.deserialize, 'hello', metadata, (error) =>
        resolve(callError(error!)),
      )
    })
  }
  const refused: Array<[string, string[], string, string]> = [
    ['Unary', [], 'CLIENT_AUTH_FAILED', 'no bearer token'],
    ['Unary', [`${token}A`], 'CLIENT_AUTH_FAILED', 'malformed'],
    ['Write', [token], 'SCOPE_DENIED', '`videos:write` (scope_missing)'],
    ['Forgotten', [token], 'CALL_NOT_ALLOWED', 'no requirement is listed'],
  ]
  for (const [name, tokens, reason, why] of refused) {
    assert.equal((await refusal(name, ...tokens)).reason, reason)
    assert.ok(logged.at(-1)!.includes(`"/test.Echo/${name}"`) && logged.at(-1)!.includes(why), logged.at(-1))
  }
  await stall()
  const stale = await refusal('Unary', token)
  assert.deepEqual([stale.reason, stale.retryAfterMs], ['NOT_FRESH_ENOUGH', 1_000])
  assert.ok(!logged.join().includes(token.slice(0, 40)))
})

it('sends tokens with fetch, and repeats a refused request once', async () => {
  const get = await serveHttp()
  const source = cleanups.add(new TokenSource(client, { ...VIEWER, subject: 'user:bob' }))
  const send = fetchWithToken(source)
  const url = get.url
  assert.equal(await (await send(url)).text(), 'user:bob')
  assert.equal(await (await send(new Request(url, { method: 'POST', body: 'b' }))).text(), 'user:bob')
  const { cursor } = await client.revoke({ subject: 'user:bob' })
  assert.ok(await verifier.applied(cursor))
  // A `Request` is sent again with its body.
  assert.equal(await (await send(new Request(url, { method: 'POST', body: 'b' }))).text(), 'user:bob')
  const again = await client.revoke({ subject: 'user:bob' })
  assert.ok(await verifier.applied(again.cursor))
  assert.equal((await send(url)).status, 401, 'a token is given up every 10 s at most')
})

it('sends a token of the source with every kind of call', async () => {
  const address = await serveGrpc()
  const source = cleanups.add(new TokenSource(client, { ...VIEWER, subject: 'user:bob' }))
  const connect = (source: TokenSource) =>
    cleanups.add(new Echo(address, credentials.createInsecure(), { interceptors: [sendToken(source)] }))
  for (const name of ['Unary', 'Writes', 'Reads', 'Both']) {
    assert.equal(await ask(connect(source), name, new Metadata()), 'user:bob', name)
    // In place of any other credential.
    const other = new Metadata()
    other.set('authorization', `Bearer ${token}`)
    assert.equal(await ask(connect(source), name, other), 'user:bob', name)
  }
  // Where there is no token, the call fails with the status of why.
  const refused = cleanups.add(new TokenSource(client, { ...VIEWER, scopes: ['videos:write'], requireAll: true }))
  for (const name of ['Unary', 'Writes', 'Reads', 'Both']) {
    assert.equal(await ask(connect(refused), name, new Metadata()), status.PERMISSION_DENIED, name)
  }
})

for (const name of ['Unary', 'Writes', 'Reads', 'Both']) {
  it(`gives a token up that was refused to a call of ${name}, for the next call`, async () => {
    const source = cleanups.add(new TokenSource(client, { ...VIEWER, subject: 'user:bob' }))
    const options = { interceptors: [sendToken(source)] }
    const service = cleanups.add(new Echo(await serveGrpc(), credentials.createInsecure(), options))
    const old = await source.token()
    // An answer that says something else about it leaves it in use.
    assert.equal(await ask(service, 'Write', new Metadata()), status.PERMISSION_DENIED)
    assert.equal(await source.token(), old)
    await client.revoke({ subject: 'user:bob' })
    await until('revoked', () => reason(verifier, old.expose()) === 'revoked')
    assert.equal(await ask(service, name, new Metadata()), status.UNAUTHENTICATED)
    assert.equal(await ask(service, name, new Metadata()), 'user:bob')
  })
}

it('guards HTTP by the path', async () => {
  const byPattern = requireToken(verifier, { scope: '{kind}:read', path: '/{kind}/{id}' })
  const byRoute = requireToken(verifier, { scope: '{kind}:read' })
  const server = createServer((request, response) => {
    const guard = request.headers['x-route'] === undefined ? byPattern : byRoute
    // As Express does it for a route.
    Object.assign(request, { params: { kind: request.headers['x-route'] } })
    guard(request, response, () => response.end(claimsOf(request).subject))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  cleanups.then(() => server.close())
  const { port } = server.address() as AddressInfo
  const get = (path: string, headers = {}) =>
    // `fetch` would take dots out of the path.
    new Promise<[number | undefined, string | undefined]>((resolve, reject) => {
      const authorization = `Bearer ${token}`
      const asked = request({ port, host: '127.0.0.1', path, headers: { authorization, ...headers } }, (answer) => {
        answer.resume()
        resolve([answer.statusCode, answer.headers['www-authenticate']])
      })
      asked.on('error', reject).end()
    })
  const lacking = 'Bearer realm="tessera", error="insufficient_scope", error_description="the access token lacks a scope", scope="films:read"'
  for (const path of ['/videos/1', '/videos/1/?a=b', '/%76ideos/a%20b']) {
    assert.deepEqual(await get(path), [200, undefined], path)
  }
  assert.deepEqual(await get('/films/1'), [403, lacking])
  for (const path of ['/videos', '/films/..%2fvideos', '/films/../videos/1', '/videos;a/1', '//videos', '/vi%C3%BC/1']) {
    assert.deepEqual(await get(path), [403, undefined], path)
  }
  assert.deepEqual(await get('/any', { 'x-route': 'videos' }), [200, undefined])
  assert.deepEqual(await get('/any', { 'x-route': 'films' }), [403, lacking])
  assert.deepEqual(await get('/any', { 'x-route': 'a/b' }), [403, undefined])
  assert.throws(() => requireToken(verifier, { scope: 'videos/{id}:play', path: '/videos/{name}' }), ConfigurationError)
})
