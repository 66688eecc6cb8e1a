/** Positions in the revocation log. */

import { ConfigurationError } from './errors.js'

const VERSION = 3
const TAG_LENGTH = 16
/** A version, a log and a sequence; the digest of a filter may follow. */
const LENGTHS = [25, 57]

/** A position, as far as a verifier needs it. */
export interface Cursor {
  log: string
  sequence: number
}

/** The content of a cursor of the authority. Throws a `ConfigurationError` if it is not a cursor. */
export function parseCursor(text: string): Cursor {
  const bytes = Buffer.from(text, 'base64url')
  const body = bytes.subarray(0, Math.max(0, bytes.length - TAG_LENGTH))
  if (bytes.toString('base64url') !== text || !LENGTHS.includes(body.length) || body[0] !== VERSION) {
    throw new ConfigurationError('not a cursor: pass one on exactly as the authority gave it')
  }
  return { log: body.toString('hex', 1, 17), sequence: Number(body.readBigUInt64BE(17)) }
}
