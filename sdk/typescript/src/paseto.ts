/** PASETO v4.public, and the keys that verify it: splitting tokens, and checking signatures. */

import { type KeyObject, createPublicKey, verify } from 'node:crypto'

const TOKEN_LENGTH_MAX = 24 * 1024
const HEADER = 'v4.public.'
const KEY_HEADER = 'k4.public.'
const SIGNATURE_LENGTH = 64
const KEY_LENGTH = 32
/**
 * The footer is exactly this text around the id, so it is split without a JSON parser: PASETO advises against parsing
 * JSON that is not authenticated yet.
 */
const FOOTER = /^\{"kid":"(k4\.pid\.[A-Za-z0-9_-]{44})"\}$/

/** The parts of a token whose signature is not checked. */
export interface Untrusted {
  payload: Buffer
  signature: Buffer
  footer: Buffer
  kid: string
}

/** The parts of a token; undefined if it does not have the form of one. */
export function takeApart(token: string): Untrusted | undefined {
  if (token.length > TOKEN_LENGTH_MAX || !token.startsWith(HEADER)) {
    return undefined
  }
  const [body = '', footerText = '', ...rest] = token.slice(HEADER.length).split('.')
  const [message, footer] = [decode(body), decode(footerText)]
  if (rest.length > 0 || message === undefined || footer === undefined || message.length <= SIGNATURE_LENGTH) {
    return undefined
  }
  const [, kid] = FOOTER.exec(footer.toString('latin1')) ?? []
  if (kid === undefined) {
    return undefined
  }
  const end = message.length - SIGNATURE_LENGTH
  return { payload: message.subarray(0, end), signature: message.subarray(end), footer, kid }
}

/** Whether `key` signed the token, with no implicit assertion. */
export function isSignedBy(token: Untrusted, key: KeyObject): boolean {
  const signed = preAuthenticationEncoding(Buffer.from(HEADER), token.payload, token.footer, Buffer.alloc(0))
  return verify(null, signed, key, token.signature)
}

/**
 * The key in a PASERK `k4.public.…`; undefined if it is not one. Its id is not computed again: key and id come from the
 * same answer of the authority, and Node has no BLAKE2b of that length.
 */
export function publicKey(paserk: string): KeyObject | undefined {
  const material = paserk.startsWith(KEY_HEADER) ? decode(paserk.slice(KEY_HEADER.length)) : undefined
  if (material?.length !== KEY_LENGTH) {
    return undefined
  }
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: material.toString('base64url') }
  return createPublicKey({ key: jwk, format: 'jwk' })
}

function preAuthenticationEncoding(...pieces: Buffer[]): Buffer {
  const encoded = [length(pieces.length)]
  for (const piece of pieces) {
    encoded.push(length(piece.length), piece)
  }
  return Buffer.concat(encoded)
}

function length(value: number): Buffer {
  const encoded = Buffer.alloc(8)
  encoded.writeBigUInt64LE(BigInt(value))
  return encoded
}

/** Base64url without padding, in its canonical form: Node accepts others, and several texts would be one token. */
function decode(text: string): Buffer | undefined {
  const decoded = Buffer.from(text, 'base64url')
  return decoded.toString('base64url') === text ? decoded : undefined
}
