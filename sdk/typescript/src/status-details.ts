/**
 * The details of a gRPC status (`google.rpc.Status`), as far as this package needs them: the reason of an
 * ErrorInfo and the delay of a RetryInfo. Read by hand, for they are two small messages of another package.
 */

const ERROR_INFO = 'type.googleapis.com/google.rpc.ErrorInfo'
const RETRY_INFO = 'type.googleapis.com/google.rpc.RetryInfo'
const DOMAIN = 'tessera'

/** What the details say. */
export interface StatusDetails {
  reason?: string
  retryAfterMs?: number
}

/** Reads details; what is malformed says nothing. */
export function readStatusDetails(bytes: Uint8Array): StatusDetails {
  const details: StatusDetails = {}
  try {
    for (const any of fieldsOf(bytes).messages(3)) {
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
