/**
 * The details of a gRPC status (`google.rpc.Status`), as far as this package needs them: the reason of an ErrorInfo and
 * the delay of a RetryInfo. They are read and written by hand, since they are two small messages of another package.
 */

const ERROR_INFO = 'type.googleapis.com/google.rpc.ErrorInfo'
const RETRY_INFO = 'type.googleapis.com/google.rpc.RetryInfo'
const DOMAIN = 'tessera'

/** The content of the details. */
export interface StatusDetails {
  /** The message as it was written: grpc-js leaves some characters of it escaped. */
  message?: string
  reason?: string
  retryAfterMs?: number
}

/** Reads details; malformed ones are ignored. */
export function readStatusDetails(bytes: Uint8Array): StatusDetails {
  const details: StatusDetails = {}
  try {
    const status = fieldsOf(bytes)
    const message = status.text(2)
    if (message !== '') {
      details.message = message
    }
    for (const any of status.messages(3)) {
      const fields = fieldsOf(any)
      const [type, value] = [fields.text(1), fields.messages(2)[0] ?? new Uint8Array()]
      if (type === ERROR_INFO && fieldsOf(value).text(2) === DOMAIN) {
        details.reason = fieldsOf(value).text(1)
      } else if (type === RETRY_INFO) {
        const delay = fieldsOf(fieldsOf(value).messages(1)[0] ?? new Uint8Array())
        details.retryAfterMs = delay.number(1) * 1000 + delay.number(2) / 1e6
      }
    }
  } catch {
    return {}
  }
  return details
}

/** The content of a refusal. */
export interface Told {
  code: number
  message: string
  reason: string
  scope: string | undefined
  retryAfterSeconds: number | undefined
}

/** Writes details. */
export function writeStatusDetails({ code, message, reason, scope, retryAfterSeconds }: Told): Buffer {
  const metadata = scope === undefined ? [] : [bytesField(3, Buffer.concat([textField(1, 'scope'), textField(2, scope)]))]
  const info = Buffer.concat([textField(1, reason), textField(2, DOMAIN), ...metadata])
  const details = [anyField(ERROR_INFO, info)]
  if (retryAfterSeconds !== undefined) {
    details.push(anyField(RETRY_INFO, bytesField(1, numberField(1, retryAfterSeconds))))
  }
  return Buffer.concat([numberField(1, code), textField(2, message), ...details])
}

function anyField(type: string, value: Buffer): Buffer {
  return bytesField(3, Buffer.concat([textField(1, type), bytesField(2, value)]))
}

function textField(field: number, text: string): Buffer {
  return bytesField(field, Buffer.from(text))
}

function bytesField(field: number, bytes: Buffer): Buffer {
  return Buffer.concat([varint(field * 8 + 2), varint(bytes.length), bytes])
}

function numberField(field: number, value: number): Buffer {
  return Buffer.concat([varint(field * 8), varint(value)])
}

function varint(value: number): Buffer {
  const bytes = []
  for (; value > 0x7f; value >>>= 7) {
    bytes.push((value & 0x7f) | 0x80)
  }
  return Buffer.from([...bytes, value])
}

/** The fields of a message in protobuf's wire format. */
class Fields {
  readonly #values: Array<[number, Uint8Array | number]> = []

  add(field: number, value: Uint8Array | number): void {
    this.#values.push([field, value])
  }

  messages(field: number): Uint8Array[] {
    return this.#values.flatMap(([at, value]) => (at === field && typeof value !== 'number' ? [value] : []))
  }

  text(field: number): string {
    return Buffer.from(this.messages(field).at(-1) ?? []).toString()
  }

  number(field: number): number {
    const found = this.#values.find(([at, value]) => at === field && typeof value === 'number')
    return (found?.[1] as number | undefined) ?? 0
  }
}

function fieldsOf(bytes: Uint8Array): Fields {
  const fields = new Fields()
  let at = 0
  const varint = (): number => {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++]
      if (byte === undefined) {
        break
      }
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) {
        return Number(value)
      }
    }
    throw new RangeError('not a varint')
  }
  while (at < bytes.length) {
    const tag = varint()
    const kind = tag & 7
    if (kind === 0) {
      fields.add(tag >>> 3, varint())
    } else if (kind === 2) {
      const length = varint()
      if (at + length > bytes.length) {
        throw new RangeError('a field is cut off')
      }
      fields.add(tag >>> 3, bytes.subarray(at, at + length))
      at += length
    } else {
      throw new RangeError('a kind of field that these messages do not have')
    }
  }
  return fields
}
