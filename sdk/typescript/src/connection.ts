/** The address of the authority, and the API key for calls. */

import { type Client, type ClientOptions, type ChannelCredentials, Metadata, credentials } from '@grpc/grpc-js'

import { Addresses, targetOf } from './addresses.js'
import { ConfigurationError } from './errors.js'
import { checkOptions } from './options.js'
import { checkCertificate, checkKey, checkPair, diagnose, pemOf, systemRoots } from './tls.js'

const OPTIONS: ClientOptions = {
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2_000,
  // Channels share connections otherwise, and a stalled one would stall the next channel too.
  'grpc.use_local_subchannel_pool': 1,
}

/** How to connect. */
export interface ConnectionOptions {
  /**
   * `https://…`, or `http://…` without encryption. Several are those of the authority's nodes, at most 16: a list of
   * them, or a text with commas between them. A verifier follows one, and calls go to one. If that does not answer,
   * can't be reached or answers UNAVAILABLE, they continue at the next.
   */
  address: string | readonly string[]
  /** `tsk_…` */
  apiKey: string
  /** The roots that verify an `https://` address: the content of a PEM file. Unset: the roots of this system. */
  certificateAuthority?: string | Uint8Array
  /** The client certificate of this service as PEM, if the authority requires one, and its key. */
  clientCertificate?: string | Uint8Array
  clientKey?: string | Uint8Array
  /**
   * Whether several addresses are tried in the given order: if one of them is near. Unset: in a random order, so that
   * many clients spread over the nodes.
   */
  inOrder?: boolean
}

/** Constructs the client of a service. */
type ClientClass<C> = new (address: string, credentials: ChannelCredentials, options: ClientOptions) => C

function isThisMachine(address: string): boolean {
  const host = new URL(address).hostname
  return host === 'localhost' || host === '[::1]' || /^127(\.\d+){3}$/.test(host)
}

/** An API key, without the whitespace around it in a file. The error contains nothing of it. */
function apiKeyOf(given: unknown): string {
  if (given !== undefined && given !== null && typeof given !== 'string') {
    throw new ConfigurationError(`the API key is a text: not of type ${typeof given}`)
  }
  const key = (given ?? '').replace(/^[ \t\n\v\f\r]+|[ \t\n\v\f\r]+$/g, '')
  if (key === '') {
    throw new ConfigurationError('the API key is missing: is the variable of the environment not set?')
  }
  if (/\s/.test(key)) {
    throw new ConfigurationError('the API key has a space or a line break inside: copy it whole, and nothing else')
  }
  if (!/^tsk_[\x21-\x7e]+$/.test(key)) {
    throw new ConfigurationError('this is not an API key: one begins with `tsk_`')
  }
  return key
}

/**
 * The address of an authority, or the addresses of its nodes, and the API key for calls. Nothing that prints it shows
 * the key. All objects of a connection share which address worked last.
 */
export class Connection {
  readonly addresses: Addresses
  readonly #apiKey: string
  readonly #credentials: ChannelCredentials

  constructor(options: ConnectionOptions) {
    const certificates = ['certificateAuthority', 'clientCertificate', 'clientKey']
    checkOptions('a connection', options, ['address', 'apiKey', ...certificates, 'inOrder'])
    const addresses = new Addresses(options.address, options.inOrder)
    const apiKey = apiKeyOf(options.apiKey)
    const open = addresses.areEncrypted ? [] : addresses.given.filter((address) => !isThisMachine(address))
    if (open.length > 0) {
      process.emitWarning(`the API key goes to ${open.join(', ')} without encryption: use https://`)
    }
    this.addresses = addresses
    this.#apiKey = apiKey
    this.#credentials = credentialsOf(addresses, options)
  }

  /** All addresses, as a text. */
  get address(): string {
    return String(this.addresses)
  }

  /**
   * The client of a service at one of the addresses (by default the first in the order), on the connection of another
   * client, or on a separate one, made when it is needed.
   */
  client<C>(service: ClientClass<C>, beside?: Client, address = this.addresses.tried[0] ?? ''): C {
    const options = beside === undefined ? OPTIONS : { channelOverride: beside.getChannel() }
    return new service(targetOf(address), this.#credentials, options)
  }

  /** Why connecting to an address fails, according to a call's details; undefined if it is not clear. */
  diagnosis(address: string, details: string): Promise<string | undefined> {
    return diagnose(address, details)
  }

  /** The metadata that carries the API key. */
  credential(): Metadata {
    const metadata = new Metadata()
    metadata.set('authorization', `Bearer ${this.#apiKey}`)
    return metadata
  }
}

function credentialsOf(addresses: Addresses, options: ConnectionOptions): ChannelCredentials {
  const certificateAuthority = pemOf(options.certificateAuthority, '`certificateAuthority`')
  const clientCertificate = pemOf(options.clientCertificate, '`clientCertificate`')
  const clientKey = pemOf(options.clientKey, '`clientKey`')
  if ((clientCertificate === undefined) !== (clientKey === undefined)) {
    throw new ConfigurationError('a client certificate needs its key, and a key its certificate')
  }
  if (certificateAuthority !== undefined) {
    checkCertificate(certificateAuthority, 'the certificate authority')
  }
  if (clientCertificate !== undefined && clientKey !== undefined) {
    checkCertificate(clientCertificate, 'the client certificate')
    checkKey(clientKey)
    checkPair(clientCertificate, clientKey)
  }
  if (addresses.areEncrypted) {
    const roots = certificateAuthority ?? systemRoots()
    try {
      return credentials.createSsl(roots, clientKey ?? null, clientCertificate ?? null)
    } catch (error) {
      throw new ConfigurationError(`the certificates can't be used: ${(error as Error).message}`)
    }
  }
  if (certificateAuthority !== undefined || clientCertificate !== undefined) {
    throw new ConfigurationError(`\`${addresses}\` has no encryption, so certificates are of no use: use https://`)
  }
  return credentials.createInsecure()
}
