/** An authority that follows a script: its streams say what a test wants, at the moment that it wants. */

import { type KeyObject, createHash, generateKeyPairSync, randomUUID, sign } from 'node:crypto'

import { Metadata, Server, type ServerDuplexStream, status } from '@grpc/grpc-js'

import type { Checkpoint } from '../src/generated/tessera/v1/Checkpoint.js'
import type { IntrospectResponse } from '../src/generated/tessera/v1/IntrospectResponse.js'
import type { ListKeysRequest__Output as ListKeysRequest } from '../src/generated/tessera/v1/ListKeysRequest.js'
import type { RevocationEvent } from '../src/generated/tessera/v1/RevocationEvent.js'
import type { VerifyingKey } from '../src/generated/tessera/v1/VerifyingKey.js'
import type { WatchRequest__Output as WatchRequest } from '../src/generated/tessera/v1/WatchRequest.js'
import type { WatchResponse } from '../src/generated/tessera/v1/WatchResponse.js'
import type { WatchStart__Output as WatchStart } from '../src/generated/tessera/v1/WatchStart.js'
import { Connection, v1 } from '../src/index.js'
import { listen, until } from './support.js'

const ISSUER = 'urn:fake'
export const TOKEN_ID = randomUUID()

/** Claims that are good, but for the changes. */
export function said(changes: object = {}): Record<string, unknown> {
  const now = Math.floor(Date.now() / 1000) * 1000
  return {
    iss: ISSUER,
    sub: 'user:ann',
    aud: 'api',
    jti: TOKEN_ID,
    iat: new Date(now).toISOString(),
    nbf: new Date(now).toISOString(),
    exp: new Date(now + 3_600_000).toISOString(),
    scope: 'videos:read',
    roles: [],
    realm: 'production',
    client_id: 'client:app',
    sid: randomUUID(),
    gen: 1,
    rev: 1,
    pol: '0123456789abcdef',
    ...changes,
  }
}

/** A key of the fake authority. */
export class SigningKey {
  readonly paserk: string
  readonly kid: string
  readonly #private: KeyObject

  constructor() {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519')
    this.#private = privateKey
    this.paserk = `k4.public.${publicKey.export({ format: 'jwk' }).x}`
    // Any id of the right form: see `publicKey` of `paseto.ts`.
    const digest = createHash('sha512').update(this.paserk).digest().subarray(0, 33)
    this.kid = `k4.pid.${digest.toString('base64url')}`
  }

  message(): VerifyingKey {
    const { kid, paserk } = this
    return { kid, paserk, realm: 'production', issuer: ISSUER, status: 'KEY_STATUS_ACTIVE' }
  }

  sign(payload: string, footer = `{"kid":"${this.kid}"}`, header = 'v4.public.', assertion = ''): string {
    const pieces = [header, payload, footer, assertion].map((piece) => Buffer.from(piece))
    const length = (value: number) => Buffer.from(new BigUint64Array([BigInt(value)]).buffer)
    const signed = Buffer.concat([length(4), ...pieces.flatMap((piece) => [length(piece.length), piece])])
    const body = Buffer.concat([Buffer.from(payload), sign(null, signed, this.#private)])
    return `${header}${body.toString('base64url')}.${Buffer.from(footer).toString('base64url')}`
  }

  /** A good token, but for the changes. */
  token(changes: object = {}): string {
    return this.sign(JSON.stringify(said(changes)))
  }
}

/** A time on the wire. */
export function timestamp(ms: number): { seconds: number; nanos: number } {
  return { seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1e6 }
}

/** A session ends. */
export function revoked(sessionId: string, sequence: number, untilMs: number): RevocationEvent {
  return {
    sequence,
    cursor: `event-${sequence}`,
    kind: 'EVENT_KIND_SESSION_REVOKED',
    relevantUntil: timestamp(untilMs),
    realm: 'production',
    sessionId,
  }
}

/** One Watch, from the side of the authority. */
export class Stream {
  readonly acks: string[] = []
  readonly #pings: Buffer[] = []
  readonly #call: ServerDuplexStream<WatchRequest, WatchResponse>

  constructor(
    readonly start: WatchStart,
    call: ServerDuplexStream<WatchRequest, WatchResponse>,
  ) {
    this.#call = call
    call.on('data', ({ ping, ack }: WatchRequest) => {
      if (ping) {
        this.#pings.push(ping.nonce)
      } else if (ack) {
        this.acks.push(ack.cursor)
      }
    })
    call.on('end', () => call.end())
    call.on('error', () => {})
  }

  say(message: WatchResponse): void {
    this.#call.write(message)
  }

  snapshot(...items: RevocationEvent[]): void {
    this.say({ snapshotBegin: {} })
    items.forEach((item) => this.say({ snapshotItem: item }))
    this.say({ snapshotEnd: { cursor: 'snapshot', items: items.length } })
  }

  /** The nonce of the next ping. */
  async ping(): Promise<Buffer> {
    await until('a ping', () => this.#pings.length)
    return this.#pings.shift()!
  }

  /** Answers the next ping. */
  async echo(through = 1, fields: Checkpoint = {}): Promise<void> {
    this.checkpoint(through, { nonce: await this.ping(), ...fields })
  }

  checkpoint(through = 1, fields: Checkpoint = {}): void {
    const place = { through: `place-${through}`, throughSequence: through }
    this.say({ checkpoint: { ...place, serverTime: timestamp(Date.now()), keySet: '1', ...fields } })
  }

  /** Ends the stream, with the reason of an error if there is one. */
  end(reason?: string): void {
    if (reason === undefined) {
      this.#call.end()
      return
    }
    const metadata = new Metadata()
    metadata.set('grpc-status-details-bin', detailsOf(reason))
    const error = Object.assign(new Error('scripted'), { code: status.OUT_OF_RANGE, details: 'scripted', metadata })
    this.#call.emit('error', error)
  }
}

/** A google.rpc.Status with an ErrorInfo, on the wire. */
export function detailsOf(reason: string): Buffer {
  const field = (number: number, value: Buffer | string) => {
    const bytes = Buffer.from(value)
    return Buffer.concat([Buffer.from([number * 8 + 2, bytes.length]), bytes])
  }
  const info = Buffer.concat([field(1, reason), field(2, 'tessera')])
  const any = Buffer.concat([field(1, 'type.googleapis.com/google.rpc.ErrorInfo'), field(2, info)])
  return Buffer.concat([Buffer.from([8, status.OUT_OF_RANGE]), field(2, 'scripted'), field(3, any)])
}

/** The server. */
export class Fake {
  keys = [new SigningKey()]
  keyReads = 0
  /** Requests for keys that were under way at once, at most. */
  keyReadsAtOnce = 0
  #keyReadsNow = 0
  #keysHeld = Promise.resolve()
  introspected: IntrospectResponse = {}
  /** How each Watch fails, if it does, and how many did. */
  refuses: status | undefined
  refused = 0
  address!: string
  connection!: Connection
  readonly #streams: Stream[] = []
  readonly #server = new Server()

  static async start(): Promise<Fake> {
    const fake = new Fake()
    fake.#server.addService(v1.RevocationService.service, {
      awaitPropagation: () => {},
      watch: (call: ServerDuplexStream<WatchRequest, WatchResponse>) => {
        if (fake.refuses !== undefined) {
          fake.refused += 1
          call.emit('error', Object.assign(new Error('scripted'), { code: fake.refuses, details: 'scripted' }))
          return
        }
        call.once('data', ({ start }: WatchRequest) => fake.#streams.push(new Stream(start!, call)))
      },
    })
    fake.#server.addService(v1.KeyService.service, {
      listKeys: ({ request }: { request: ListKeysRequest }, answer: (error: null, answer: object) => void) =>
        void fake.#listKeys(request.pageToken).then((page) => answer(null, page)),
    })
    fake.#server.addService(v1.TokenService.service, {
      introspect: (_: unknown, answer: (error: null, answer: object) => void) => answer(null, fake.introspected),
    })
    fake.address = `http://127.0.0.1:${await listen(fake.#server)}`
    fake.connection = new Connection({ address: fake.address, apiKey: 'tsk_production_fake' })
    return fake
  }

  /** The next Watch that a verifier opens. */
  async nextStream(): Promise<Stream> {
    await until('a stream', () => this.#streams.length)
    return this.#streams.shift()!
  }

  close(): void {
    this.#server.forceShutdown()
  }

  /** Holds the next answer with keys back, which is about the keys at its request, until it is called. */
  holdNextKeys(): () => void {
    let release = () => {}
    this.#keysHeld = new Promise((resolve) => (release = resolve))
    return release
  }

  async #listKeys(pageToken: string): Promise<object> {
    const [page, held] = [this.#page(pageToken), this.#keysHeld]
    this.#keysHeld = Promise.resolve()
    this.#keyReadsNow += 1
    this.keyReadsAtOnce = Math.max(this.keyReadsAtOnce, this.#keyReadsNow)
    await held
    this.#keyReadsNow -= 1
    return page
  }

  /** One key a page. */
  #page(pageToken: string): object {
    this.keyReads += pageToken === '' ? 1 : 0
    const at = Number(pageToken)
    const nextPageToken = at + 1 < this.keys.length ? String(at + 1) : ''
    return { keys: [this.keys[at]!.message()], nextPageToken }
  }
}
