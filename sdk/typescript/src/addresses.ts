/**
 * The addresses of an authority's nodes, and which of them is next.
 *
 * grpc-js can choose among several addresses too (`ipv4:a,b` with `pick_first` or `round_robin`). But it accepts no
 * names there, uses one name for the certificates of all addresses, and leaves an address only if no connection can be
 * made. A client must also leave a node that answers UNAVAILABLE, or that is frozen, and a stream must know its address
 * to report it. So each address has a separate channel, and this module chooses among them, for verifiers and for
 * calls.
 */

import { ConfigurationError } from './errors.js'
import { shown } from './options.js'

/** More are a mistake: an authority has only a few nodes. */
const ADDRESSES_MAX = 16
const EXAMPLE = 'https://auth.example.org:7600'
const NONE = `no address: name at least one, such as ${EXAMPLE}`
const HOST = /^(\[[0-9A-Fa-f:.]+\]|[^[\]:\\]+)$/
const PORT_MAX = 65_535

/**
 * The addresses of one authority, in the order in which they are tried: random, unless `inOrder`. So many clients
 * spread over the nodes, and over the remaining nodes if one is lost. All objects of one connection share the preferred
 * address, so that a failure that one of them finds saves the others an attempt.
 */
export class Addresses {
  readonly given: readonly string[]
  /** In the order in which they are tried. */
  readonly tried: readonly string[]
  #preferred = 0

  constructor(address: string | readonly string[], inOrder = false) {
    const given = new Map<string, string>()
    for (const one of listOf(address)) {
      // Duplicates with another spelling are left out.
      const plain = one.replace(/\/+$/, '').toLowerCase()
      given.set(plain, given.get(plain) ?? one)
    }
    this.given = [...given.values()]
    check(this.given)
    this.tried = inOrder ? this.given : shuffled(this.given)
  }

  toString(): string {
    return this.given.join(', ')
  }

  get count(): number {
    return this.tried.length
  }

  /** Whether they are encrypted. */
  get areEncrypted(): boolean {
    return isEncrypted(this.tried[0] ?? '')
  }

  /** The index of the address that worked last. */
  get preferred(): number {
    return this.#preferred
  }

  /** The address at this index failed: others need not try it first. */
  leave(at: number): void {
    // If another one is preferred already, another call was faster.
    if (this.#preferred === at) {
      this.#preferred = this.after(at)
    }
  }

  /** The address at this index works. */
  prefer(at: number): void {
    this.#preferred = at
  }

  /** The next index. */
  after(at: number): number {
    return (at + 1) % this.count
  }
}

/** One search for an address that works; it begins at the address that worked last. */
export class Round {
  readonly #addresses: Addresses
  #at: number
  #failed = 0

  constructor(addresses: Addresses) {
    this.#addresses = addresses
    this.#at = addresses.preferred
  }

  /** The current index. */
  get at(): number {
    return this.#at
  }

  /** The current address. */
  get address(): string {
    return this.#addresses.tried[this.#at] ?? ''
  }

  /** Whether each address has failed. */
  get isOver(): boolean {
    return this.#failed >= this.#addresses.count
  }

  /** Whether the current address is the last one of this round. */
  get isAtLast(): boolean {
    return (this.#failed + 1) % this.#addresses.count === 0
  }

  /**
   * Moves to the next address, because this one failed. Returns whether each address has failed once more, so that it
   * is time to wait.
   */
  leave(): boolean {
    this.#addresses.leave(this.#at)
    this.#at = this.#addresses.after(this.#at)
    this.#failed += 1
    return this.#failed % this.#addresses.count === 0
  }

  /** The current address works. Returns whether one had failed before. */
  worked(): boolean {
    const hadFailed = this.#failed > 0
    this.#failed = 0
    if (hadFailed) {
      this.#addresses.prefer(this.#at)
    }
    return hadFailed
  }
}

/** The target for gRPC. */
export function targetOf(address: string): string {
  const target = address.replace(/^https?:\/\//i, '').replace(/\/$/, '')
  // Without a port, gRPC uses that of https.
  return isEncrypted(address) || /:\d+$/.test(target) ? target : `${target}:80`
}

/** Whether an address is encrypted. */
export function isEncrypted(address: string): boolean {
  return /^https:/i.test(address)
}

/** Each address separately. */
function listOf(address: string | readonly string[]): string[] {
  const listed: unknown[] = Array.isArray(address) ? address : [address]
  if (listed.every((text) => text === undefined || text === null)) {
    throw new ConfigurationError(NONE)
  }
  if (!listed.every((text) => typeof text === 'string')) {
    throw new ConfigurationError(`an address is a text such as ${EXAMPLE}: not ${shown(address)}`)
  }
  if (listed.join('').trim() === '') {
    throw new ConfigurationError(NONE)
  }
  return listed.flatMap((text) => (text as string).split(',')).map((text) => text.trim())
}

function check(given: readonly string[]): void {
  if (given.length > ADDRESSES_MAX) {
    throw new ConfigurationError(`${given.length} addresses are more than ${ADDRESSES_MAX}`)
  }
  for (const address of given) {
    const problem = problemOf(address)
    if (problem !== undefined) {
      throw new ConfigurationError(`\`${withoutSecrets(address)}\` is not an address such as ${EXAMPLE}: ${problem}`)
    }
  }
  if (new Set(given.map(isEncrypted)).size > 1) {
    const all = given.join(', ')
    throw new ConfigurationError(
      `some of the addresses have encryption and some have not: use https:// for all of ${all}`,
    )
  }
}

/** What is wrong with an address. */
function problemOf(address: string): string | undefined {
  const [, rest] = /^https?:\/\/(.*)$/is.exec(address) ?? []
  if (rest === undefined) {
    return 'it begins neither with https:// nor with http://'
  }
  const parts: Array<[string, string]> = [['@', 'a user'], ['?', 'a query'], ['#', 'a fragment']]
  const part = parts.find(([sign]) => rest.includes(sign))
  if (part !== undefined) {
    return `it has ${part[1]}`
  }
  const [authority = '', ...path] = rest.split('/')
  if (path.join('/') !== '') {
    return 'it has a path'
  }
  if (/[\s\p{C}]/u.test(authority)) {
    return 'it has a space or a control character'
  }
  const host = authority.replace(/:\d*$/, '')
  if (!HOST.test(host)) {
    return host === '' ? 'it has no host' : "its host can't be read"
  }
  const port = Number(authority.slice(host.length + 1))
  const isRight = host === authority || (port >= 1 && port <= PORT_MAX)
  return isRight ? undefined : `its port is not between 1 and ${PORT_MAX}`
}

/** An address for an error: it may have a password, or be an API key. */
function withoutSecrets(address: string): string {
  return address.replace(/:\/\/.*@/s, '://…@').replace(/tsk_.*/s, 'tsk_…')
}

function shuffled(given: readonly string[]): string[] {
  const drawn = given.map((address) => ({ address, lot: Math.random() }))
  return drawn.sort((one, other) => one.lot - other.lot).map(({ address }) => address)
}
