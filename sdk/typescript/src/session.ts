/** One stream of revocations, from its start to its end. */

import { randomBytes } from 'node:crypto'

import type { ClientDuplexStream } from '@grpc/grpc-js'

import { allKeys, call } from './calls.js'
import { parseCursor } from './cursor.js'
import { CallError, callError, isServiceError } from './errors.js'
import { End, type Following } from './following.js'
import type { Checkpoint__Output as Checkpoint } from './generated/tessera/v1/Checkpoint.js'
import type { ListKeysRequest } from './generated/tessera/v1/ListKeysRequest.js'
import type { ListKeysResponse__Output as ListKeysResponse } from './generated/tessera/v1/ListKeysResponse.js'
import type { RevocationEvent__Output as RevocationEvent } from './generated/tessera/v1/RevocationEvent.js'
import type { SnapshotEnd__Output as SnapshotEnd } from './generated/tessera/v1/SnapshotEnd.js'
import type { WatchRequest } from './generated/tessera/v1/WatchRequest.js'
import type { WatchResponse__Output as WatchResponse } from './generated/tessera/v1/WatchResponse.js'
import { v1 } from './proto.js'
import { Revocations } from './revocations.js'
import type { View } from './view.js'
import { type Understood, keyring, moment, understand } from './wire.js'

const NONCE_LENGTH = 16

/**
 * An incomplete snapshot. Once complete, with the events after it, it is in force from the next checkpoint, which has
 * the authority's time of the snapshot.
 */
interface Snapshot {
  revoked: Revocations
  items: number
  isComplete: boolean
}

/** One stream, on a separate connection: a stalled one would stall the next stream too. */
export class Session {
  readonly #following: Following
  readonly #view: View
  readonly #watching
  readonly #keys
  readonly #stream: ClientDuplexStream<WatchRequest, WatchResponse>
  #snapshot: Snapshot | 'awaited' | 'in force'
  #ping: { nonce: Buffer; madeAt: number } | undefined
  /** Another ping must follow: a token is ahead that may be newer than the ping in progress. */
  #pingsAgain = false
  /** When something last arrived that shows that both directions work. */
  #progressedAt = performance.now()
  readonly #openedAt = performance.now()
  /** Whether a ping was answered. */
  #hasAnswered = false
  #end: End | undefined
  #isStopped = false
  /** The current or last reading of the keys; it never fails. */
  #reading = Promise.resolve()
  #isReading = false

  constructor(following: Following) {
    this.#following = following
    this.#view = following.view
    this.#watching = following.connection.client(v1.RevocationService, undefined, following.round.address)
    this.#keys = following.connection.client(v1.KeyService, this.#watching)
    this.#stream = this.#watching.watch(following.connection.credential())
    // The loop over the stream handles errors; an error after the loop is ignored.
    this.#stream.on('error', () => {})
    this.#stream.write(following.start())
    this.#snapshot = following.place === undefined ? 'awaited' : 'in force'
  }

  /** Runs to the end of the stream. */
  async run(): Promise<End> {
    const { boundMs } = this.#view.accepted
    this.#sendPing()
    const pings = setInterval(() => this.#sendPing(), this.#following.pingIntervalMs)
    const watchdog = setInterval(() => this.#giveUpWhenSilent(), Math.max(boundMs / 10, 50))
    this.#view.onUnknownKey = () => this.#readKeysAgain()
    this.#view.onAhead = () => {
      this.#pingsAgain = this.#ping !== undefined
      this.#sendPing()
    }
    try {
      for await (const response of this.#stream) {
        await this.#hear(response as WatchResponse)
      }
      return this.#end ?? new End('the stream ended')
    } catch (error) {
      return this.#end ?? (await this.#explained(error))
    } finally {
      this.#view.onUnknownKey = () => {}
      this.#view.onAhead = () => {}
      clearInterval(pings)
      clearInterval(watchdog)
      this.stop()
    }
  }

  /** Ends it; `end` is the reason, if the stream gives none. */
  stop(end?: End): void {
    this.#end ??= end
    this.#isStopped = true
    this.#stream.cancel()
    this.#watching.close()
  }

  async #explained(error: unknown): Promise<End> {
    if (!isServiceError(error)) {
      return endOf(error)
    }
    return End.of(await this.#following.explained(callError(error)))
  }

  get #silenceMsMax(): number {
    return this.#following.silenceMsMax(this.#hasAnswered)
  }

  #giveUpWhenSilent(): void {
    if (performance.now() >= this.#progressedAt + this.#silenceMsMax) {
      this.stop(new End('the stream is silent'))
    }
  }

  // === what the authority says ===

  async #hear(response: WatchResponse): Promise<void> {
    if (response.snapshotBegin) {
      this.#checkRealm(response.snapshotBegin)
      this.#progressedAt = performance.now()
      this.#snapshot = { revoked: new Revocations(), items: 0, isComplete: false }
    } else if (response.snapshotItem) {
      this.#addToSnapshot(response.snapshotItem)
    } else if (response.snapshotEnd) {
      this.#completeSnapshot(response.snapshotEnd)
    } else if (response.event) {
      this.#apply(response.event)
    } else if (response.checkpoint) {
      await this.#check(response.checkpoint)
    } else {
      throw notUnderstood('a message')
    }
  }

  #addToSnapshot(item: RevocationEvent): void {
    this.#progressedAt = performance.now()
    const { revocation } = this.#understand(item)
    const snapshot = this.#snapshot
    if (typeof snapshot === 'string' || snapshot.isComplete) {
      throw notUnderstood('an item without a snapshot')
    }
    if (revocation !== undefined) {
      snapshot.revoked.apply(revocation)
    }
    snapshot.items += 1
  }

  #completeSnapshot(end: SnapshotEnd): void {
    const snapshot = this.#snapshot
    if (typeof snapshot === 'string' || snapshot.isComplete || snapshot.items !== end.items) {
      throw notUnderstood('the end of a snapshot that is not complete')
    }
    snapshot.isComplete = true
  }

  #apply(event: RevocationEvent): void {
    this.#progressedAt = performance.now()
    const { revocation, changesKeys } = this.#understand(event)
    const snapshot = this.#snapshot
    if (snapshot === 'awaited' || (snapshot !== 'in force' && !snapshot.isComplete)) {
      throw notUnderstood('an event before the snapshot is complete')
    }
    if (changesKeys) {
      this.#following.keySet = undefined
    }
    if (revocation !== undefined) {
      const revoked = snapshot === 'in force' ? this.#view.revoked : snapshot.revoked
      revoked.apply(revocation)
    }
    if (snapshot === 'in force') {
      this.#view.through = Math.max(this.#view.through, event.sequence)
      this.#view.tell()
      if (this.#following.keySet !== undefined) {
        this.#takePlace(event.cursor)
      } else {
        // A subscriber that has acknowledged a key can verify with it: not before the next checkpoint.
        this.#pingsAgain = this.#ping !== undefined
        this.#sendPing()
      }
    }
  }

  /**
   * A checkpoint: it puts a snapshot in force, causes the keys to be read if they changed, and, if it answers our ping,
   * says how fresh all this is. A checkpoint that answers no ping says nothing about freshness: it may be old.
   */
  async #check(checkpoint: Checkpoint): Promise<void> {
    this.#checkRealm(checkpoint)
    if (checkpoint.serverTime === null) {
      throw notUnderstood('a checkpoint without a time')
    }
    if (this.#following.keySet !== checkpoint.keySet) {
      await this.#readKeys()
      this.#following.keySet = checkpoint.keySet
    }
    const echoed = this.#echoed(checkpoint.nonce)
    this.#view.log = logOf(checkpoint.through)
    this.#putInForce(moment(checkpoint.serverTime), checkpoint.throughSequence, echoed)
    this.#takePlace(checkpoint.through)
    if (echoed !== undefined) {
      if (this.#pingsAgain) {
        this.#pingsAgain = false
        this.#sendPing()
      }
      this.#progressedAt = performance.now()
      this.#hasAnswered = true
      this.#following.answered(this.#progressedAt - this.#openedAt)
      this.#view.follow()
    }
  }

  /** When the ping was sent that this answers. */
  #echoed(nonce: Buffer): number | undefined {
    const ping = this.#ping
    if (ping === undefined || !ping.nonce.equals(nonce)) {
      return undefined
    }
    this.#ping = undefined
    return ping.madeAt
  }

  #putInForce(serverTime: number, through: number, echoed: number | undefined): void {
    const [view, snapshot] = [this.#view, this.#snapshot]
    const { leewayMs } = view.accepted
    if (snapshot === 'awaited' || (snapshot !== 'in force' && !snapshot.isComplete)) {
      throw notUnderstood('a checkpoint before the snapshot is complete')
    }
    if (snapshot !== 'in force') {
      view.revoked = snapshot.revoked
      view.snapshots += 1
      view.through = 0
      // The authority left out revocations for which no token was valid by its own clock.
      view.forgottenThrough = serverTime
      this.#snapshot = 'in force'
    } else if (serverTime + leewayMs < view.forgottenThrough) {
      throw new End("the authority's clock went back", true)
    }
    view.forgetBefore(serverTime - leewayMs)
    view.through = Math.max(view.through, through)
    if (echoed !== undefined) {
      view.freshAsOf = Math.max(view.freshAsOf ?? echoed, echoed)
    }
    view.tell()
  }

  #takePlace(cursor: string): void {
    if (this.#following.place !== cursor) {
      this.#following.place = cursor
      // Only the fence needs it, which waits for required subscribers.
      if (this.#following.required) {
        this.#stream.write({ ack: { cursor } })
      }
    }
  }

  #understand(event: RevocationEvent): Understood {
    const understood = understand(event, this.#view.accepted.realm)
    if (understood === undefined) {
      throw notUnderstood(`event ${event.sequence} of kind ${event.kind}`)
    }
    return understood
  }

  #checkRealm(message: object): void {
    checkRealm(message, this.#view.accepted.realm)
  }

  // === what we say and ask ===

  /** One ping at a time, so that the memory for pings stays bounded. */
  #sendPing(): void {
    if (this.#ping === undefined) {
      this.#ping = { nonce: randomBytes(NONCE_LENGTH), madeAt: performance.now() }
      this.#stream.write({ ping: { nonce: this.#ping.nonce } })
    }
  }

  #readKeysAgain(): void {
    const { keysReadAt, rereadIntervalMs } = this.#following
    if (!this.#isReading && performance.now() - keysReadAt >= rereadIntervalMs) {
      this.#readKeys().catch((error: unknown) => this.stop(endOf(error)))
    }
  }

  /** One reading after the other: an older answer that arrives later must not replace newer keys. */
  #readKeys(): Promise<void> {
    this.#isReading = true
    const reading = this.#reading.then(() => this.#listKeys())
    const last = reading
      .catch(() => {})
      .then(() => {
        this.#isReading = this.#reading !== last
      })
    this.#reading = last
    return reading
  }

  async #listKeys(): Promise<void> {
    const { realm, leewayMs } = this.#view.accepted
    const { connection } = this.#following
    this.#following.keysReadAt = performance.now()
    const givesUpAt = performance.now() + this.#silenceMsMax
    const page = (request: ListKeysRequest): Promise<ListKeysResponse> =>
      call(this.#keys.listKeys.bind(this.#keys), request, connection.credential(), givesUpAt - performance.now())
    const keys = await allKeys(page, realm)
    if (this.#isStopped) {
      // The next session may have read newer ones. The caller must not continue as if it had these keys.
      throw this.#end ?? new End('the stream ended')
    }
    this.#view.putKeys(keyring(keys, realm, leewayMs))
    if (!this.#view.hasKeys && !this.#view.isReady) {
      throw new End(`the authority has no key that verifies tokens of the realm \`${realm}\``, false, true)
    }
    this.#progressedAt = performance.now()
  }
}

/**
 * Checks that the stream is of the API key's realm. An empty stream of another realm looks as if nothing were revoked.
 * An authority that does not send the realm is an older version.
 */
export function checkRealm(message: object, expected: string): void {
  const { realm } = message as { realm?: string }
  if (realm !== undefined && realm !== '' && realm !== expected) {
    const problem = `the API key is of the realm \`${realm}\`, but the tokens to verify are of \`${expected}\``
    throw new End(problem, true, true)
  }
}

/** The log of a position. To continue from it, a cursor is opaque to this client. */
function logOf(place: string): string | undefined {
  try {
    return parseCursor(place).log
  } catch {
    return undefined
  }
}

/** To skip a message that is not understood would allow what may be revoked. */
function notUnderstood(what: string): End {
  return new End(`not understood: ${what}`, true)
}

function endOf(error: unknown): End {
  if (error instanceof End) {
    return error
  }
  if (error instanceof CallError) {
    return End.of(error, 'keys: ')
  }
  if (isServiceError(error)) {
    return End.of(callError(error))
  }
  // A message that raises an exception here was not understood.
  return notUnderstood(`${String(error)} at a message`)
}
