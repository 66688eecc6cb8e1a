/** Certificates, trusted roots, and why a service can't reach its authority. */

import { X509Certificate, createPrivateKey } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import tls from 'node:tls'

import { isEncrypted } from './addresses.js'
import { ConfigurationError } from './errors.js'

/** The locations of the certificates that systems trust. */
const SYSTEM_ROOTS = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
]
const DIAGNOSIS_MAX_MS = 1_000

/** The roots of this system, or of the file that SSL_CERT_FILE names; null if they are not found: then Node's own. */
export function systemRoots(): Buffer | null {
  const named = process.env['SSL_CERT_FILE']
  if (named !== undefined && named !== '') {
    if (!existsSync(named)) {
      throw new ConfigurationError(`SSL_CERT_FILE names a file that does not exist: ${named}`)
    }
    return readFileSync(named)
  }
  // Newer than Node 20.
  const { getCACertificates } = tls as { getCACertificates?: (kind: string) => string[] }
  const found = getCACertificates?.('system') ?? []
  if (found.length > 0) {
    return Buffer.from(found.join('\n'))
  }
  const file = SYSTEM_ROOTS.find((file) => existsSync(file))
  return file === undefined ? null : readFileSync(file)
}

/** A PEM that is given as bytes or as text, as bytes; undefined if none is given. */
export function pemOf(given: unknown, what: string): Buffer | undefined {
  if (given === undefined) {
    return undefined
  }
  if (typeof given !== 'string' && !(given instanceof Uint8Array)) {
    throw new ConfigurationError(`${what} is a PEM as a Buffer or a text: not of type ${given === null ? 'null' : typeof given}`)
  }
  const pem = Buffer.from(given as string)
  if (/^(\xef\xbb\xbf|\xff\xfe|\xfe\xff)/.test(pem.toString('latin1', 0, 3))) {
    throw new ConfigurationError(`${what} begins with a byte order mark: save it as plain text without one`)
  }
  return pem
}

/** Refuses a key that does not belong to the first certificate. */
export function checkPair(certificate: Buffer, key: Buffer): void {
  if (!new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key))) {
    throw new ConfigurationError('`clientCertificate` and `clientKey`: the private key is not the key of the certificate')
  }
}

/** Refuses a text without a certificate. Node accepts DER as a certificate too, and then trusts nothing. */
export function checkCertificate(pem: Buffer, what: string): void {
  if (!pem.includes('-----BEGIN ')) {
    const right = 'give the content of a PEM file, not its name and not DER'
    throw new ConfigurationError(`${what} is not a PEM certificate (\`-----BEGIN CERTIFICATE-----\`): ${right}`)
  }
  try {
    new X509Certificate(pem)
  } catch {
    throw new ConfigurationError(`${what} is not a PEM certificate (\`-----BEGIN CERTIFICATE-----\`)`)
  }
}

/** Refuses a key that can't be used, and gives the reason; the error contains nothing of the key. */
export function checkKey(pem: Buffer): void {
  if (pem.includes('ENCRYPTED')) {
    throw new ConfigurationError(
      'the client key is encrypted: decrypt it first, for example with `openssl pkey -in key.pem -out decrypted.pem`',
    )
  }
  try {
    createPrivateKey(pem)
  } catch {
    throw new ConfigurationError('the client key is not a PEM private key (`-----BEGIN PRIVATE KEY-----`)')
  }
}

/** The meaning of Node's TLS messages for operators. */
const MEANINGS: Array<[RegExp, string]> = [
  [
    /wrong version number|packet length too long|record layer failure/,
    'the port does not speak TLS: use an http:// address, or turn TLS on at the authority',
  ],
  [/certificate required|alert handshake failure/, 'the authority wants a client certificate: see `clientCertificate`'],
  [/tlsv1 alert|sslv3 alert|tlsv13 alert/, 'the authority does not accept the client certificate'],
  [
    /self.signed certificate|unable to verify|unable to get (local )?issuer/,
    "the server's certificate is not of an authority that is trusted here: see `certificateAuthority`",
  ],
  [/does not match certificate's altnames/, "the server's certificate is for another name"],
  [/certificate has expired|certificate is not yet valid/, "the server's certificate is out of its time"],
]

/** Why connecting to an authority fails; undefined if it is not clear. */
export async function diagnose(address: string, details: string): Promise<string | undefined> {
  if (isEncrypted(address)) {
    return MEANINGS.find(([text]) => text.test(details))?.[1]
  }
  const { hostname, port } = new URL(address)
  const host = hostname.replace(/^\[|\]$/g, '')
  const speaksTls = await isTls(host, Number(port || 80))
  return speaksTls ? 'the port speaks TLS: use an https:// address' : undefined
}

/** Whether a port speaks TLS, with any certificate. */
function isTls(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = tls.connect({ host, port, rejectUnauthorized: false, timeout: DIAGNOSIS_MAX_MS })
    const done = (answer: boolean): void => {
      socket.destroy()
      resolve(answer)
    }
    socket.once('secureConnect', () => done(true))
    socket.once('timeout', () => done(false))
    socket.once('error', () => done(false))
  })
}
