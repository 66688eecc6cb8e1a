/** Whom a connection trusts, and what it says where it does not work. */

import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import net, { type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { after, afterEach, before, it } from 'node:test'
import tls from 'node:tls'
import { inspect } from 'node:util'

import { CallError, Client, ConfigurationError, Connection, type ConnectionOptions } from '../src/index.js'
import { Authority, Cleanups } from './support.js'

/** Certificates, which Node can't make: `root.pem`, and what it signed. */
const directory = process.env['TESSERA_TLS']
const skip = directory === undefined && 'TESSERA_TLS is not set'
const read = (name: string): Buffer => readFileSync(join(directory ?? '', name))

let authority: Authority
const cleanups = new Cleanups()

before(async () => {
  authority = await Authority.start()
})
after(() => authority.close())
afterEach(() => cleanups.run())

/** Speaks TLS before the authority, which does not. */
async function serve(options: tls.TlsOptions = {}): Promise<string> {
  const { hostname, port } = new URL(authority.address)
  const identity = { cert: read('server.pem'), key: read('server.key'), ALPNProtocols: ['h2'] }
  const server = tls.createServer({ ...identity, ...options }, (near) => {
    const far = net.connect(Number(port), hostname)
    near.pipe(far).pipe(near)
    near.on('error', () => far.destroy())
    far.on('error', () => near.destroy())
  })
  server.on('tlsClientError', () => {})
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  cleanups.then(() => server.close())
  return `localhost:${(server.address() as AddressInfo).port}`
}

function connect(address: string, options: Partial<ConnectionOptions> = {}): Connection {
  return new Connection({ address, apiKey: 'tsk_production_x', ...options })
}

/** What a call ends with. */
async function ask(connection: Connection): Promise<string> {
  const client = cleanups.add(new Client(connection, { deadlineMs: 1_500 }))
  return client.listKeys('production').then(
    (keys) => `${keys.length} keys`,
    (error: unknown) => (error instanceof CallError ? error.message : String(error)),
  )
}

it('asks each side who it is', { skip }, async () => {
  const trusting = { certificateAuthority: read('root.pem') }
  const known = { clientCertificate: read('client.pem'), clientKey: read('client.key') }
  const [open, asking] = [await serve(), await serve({ requestCert: true, ca: read('root.pem') })]
  assert.equal(await ask(connect(`https://${open}`, trusting)), '1 keys')
  assert.equal(await ask(connect(`https://${asking}`, { ...trusting, ...known })), '1 keys')
  const texts = Object.entries({ ...trusting, ...known }).map(([name, pem]) => [name, String(pem)])
  assert.equal(await ask(connect(`https://${asking}`, Object.fromEntries(texts))), '1 keys')
  const { port } = new URL(authority.address)
  const cases: Array<[Connection, RegExp]> = [
    [connect(`https://${open}`), /is not of an authority that is trusted here/],
    [connect(`https://${asking}`, trusting), /the authority wants a client certificate/],
    [connect(`https://localhost:${port}`, trusting), /the port does not speak TLS/],
    [connect(`http://${open}`), /the port speaks TLS: use an https:\/\/ address/],
  ]
  for (const [connection, expected] of cases) {
    assert.match(await ask(connection), expected)
  }
})

it('leaves one of several addresses whose certificate is wrong', { skip }, async () => {
  // Each address is another name, which its certificate must be for.
  const ports = [await serve(), await serve()].map((address) => address.replace('localhost:', ''))
  const reached = (...names: string[]) => {
    const address = names.map((name, index) => `https://${name}:${ports[index]}`)
    const options = { certificateAuthority: read('root.pem'), inOrder: true }
    return ask(new Connection({ address, apiKey: 'tsk_production_x', ...options }))
  }
  assert.equal(await reached('127.0.0.1', 'localhost'), '1 keys')
  assert.equal(await reached('localhost', '127.0.0.1'), '1 keys')
  const said = await reached('127.0.0.1', '127.0.0.1')
  assert.match(said, /https:\/\/127\.0\.0\.1:\d+: the server's certificate is for another name/)
})

it('trusts what the system trusts', { skip }, async () => {
  process.env['SSL_CERT_FILE'] = join(directory!, 'root.pem')
  cleanups.then(() => delete process.env['SSL_CERT_FILE'])
  assert.equal(await ask(connect(`https://${await serve()}`)), '1 keys')
  process.env['SSL_CERT_FILE'] = '/nowhere'
  assert.throws(() => connect('https://localhost:1'), ConfigurationError)
})

it('refuses certificates that can not be used at once', { skip }, () => {
  const [clientCertificate, clientKey] = [read('client.pem'), read('client.key')]
  const encrypted = Buffer.from('-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n')
  const wrong: Array<[Partial<ConnectionOptions>, RegExp]> = [
    [{ certificateAuthority: Buffer.from('x') }, /is not a PEM certificate/],
    [{ clientCertificate }, /needs its key/],
    [{ clientCertificate, clientKey: Buffer.from('x') }, /is not a PEM private key/],
    [{ clientCertificate, clientKey: encrypted }, /is encrypted: decrypt it first/],
    [{ clientCertificate: Buffer.from('x'), clientKey }, /is not a PEM certificate/],
    [{ clientCertificate, clientKey: read('server.key') }, /`clientCertificate` and `clientKey`.*not the key of the cert/],
    [{ certificateAuthority: new X509Certificate(read('root.pem')).raw }, /not DER/],
    [{ certificateAuthority: '/etc/ssl/root.pem' }, /not its name/],
    [{ certificateAuthority: 1 as unknown as Buffer }, /as a Buffer or a text/],
    [{ certificateAuthority: null as unknown as Buffer }, /as a Buffer or a text/],
    [{ certificateAuthority: `\ufeff${read('root.pem')}` }, /byte order mark/],
    [{ clientCertificate, clientKey: `\ufeff${clientKey}` }, /byte order mark/],
  ]
  for (const [options, expected] of wrong) {
    assert.throws(
      () => connect('https://localhost:1', options),
      (error: Error) => error instanceof ConfigurationError && expected.test(error.message),
    )
  }
  assert.throws(() => connect('http://localhost:1', { certificateAuthority: read('root.pem') }), ConfigurationError)
  const shown = inspect(connect('https://localhost:1', { clientCertificate, clientKey }), { depth: 9, showHidden: true })
  assert.ok(!shown.includes('PRIVATE'))
})
