/** Where the authority is, and with which API key to call it. */

import { type Client, type ClientOptions, type ChannelCredentials, Metadata, credentials } from '@grpc/grpc-js'

import { ConfigurationError } from './errors.js'
import { checkCertificate, checkKey, diagnose, systemRoots } from './tls.js'

const OPTIONS: ClientOptions = {
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2_000,
  // Channels share connections otherwise, and one that stalled would stall the next channel too.
  'grpc.use_local_subchannel_pool': 1,
}

/** How to connect. */
export interface ConnectionOptions {
  /** `https://…`, or `http://…` without encryption. */
  address: string
  /** `tsk_…` */
  apiKey: string
  /** What an `https://` address is trusted by, as PEM. Unset: what this system trusts. */
  certificateAuthority?: Buffer
  /** The certificate of this service as PEM, where the authority wants one of its clients, and its key. */
  clientCertificate?: Buffer
  clientKey?: Buffer
}

/** Constructs the client of a service. */
type ClientClass<C> = new (address: string, credentials: ChannelCredentials, options: ClientOptions) => C

function isThisMachine(address: string): boolean {
  const host = new URL(address).hostname
  return host === 'localhost' || host === '[::1]' || /^127(\.\d+){3}$/.test(host)
}

/** The address of an authority, and the API key to call it with. Nothing that prints it shows the key. */
export class Connection {
  readonly address: string
  readonly #apiKey: string
  readonly #credentials: ChannelCredentials

  constructor(options: ConnectionOptions) {
    const [, scheme] = /^(https?):\/\/[^/]+\/?$/.exec(options.address) ?? []
    if (scheme === undefined) {
      throw new ConfigurationError(
        `\`${options.address}\` is not an address such as https://auth.example.org:7600`,
      )
    }
    if (!/^tsk_[\x21-\x7e]+$/.test(options.apiKey)) {
      throw new ConfigurationError('the API key is none: one begins with `tsk_`')
    }
    if (scheme === 'http' && !isThisMachine(options.address)) {
      process.emitWarning(`the API key goes to ${options.address} without encryption: use https://`)
    }
    this.address = options.address
    this.#apiKey = options.apiKey
    this.#credentials = credentialsOf(scheme, options)
  }

  /** The client of a service, on that of another client or a connection of its own, made when it is needed. */
  client<C>(service: ClientClass<C>, beside?: Client): C {
    const target = this.address.replace(/^https?:\/\//, '').replace(/\/$/, '')
    const options = beside === undefined ? OPTIONS : { channelOverride: beside.getChannel() }
    return new service(target, this.#credentials, options)
  }

  /** Why the authority can't be connected to, by what a call said; undefined where it is not clear. */
  diagnosis(details: string): Promise<string | undefined> {
    return diagnose(this.address, details)
  }

  /** The metadata that carries the API key. */
  credential(): Metadata {
    const metadata = new Metadata()
    metadata.set('authorization', `Bearer ${this.#apiKey}`)
    return metadata
  }
}

function credentialsOf(scheme: string, options: ConnectionOptions): ChannelCredentials {
  const { address, certificateAuthority, clientCertificate, clientKey } = options
  if ((clientCertificate === undefined) !== (clientKey === undefined)) {
    throw new ConfigurationError('a client certificate needs its key, and a key its certificate')
  }
  if (certificateAuthority !== undefined) {
    checkCertificate(certificateAuthority, 'the certificate authority')
  }
  if (clientCertificate !== undefined && clientKey !== undefined) {
    checkCertificate(clientCertificate, 'the client certificate')
    checkKey(clientKey)
  }
  if (scheme === 'https') {
    return credentials.createSsl(certificateAuthority ?? systemRoots(), clientKey ?? null, clientCertificate ?? null)
  }
  if (certificateAuthority !== undefined || clientCertificate !== undefined) {
    throw new ConfigurationError(`\`${address}\` has no encryption, so certificates are of no use: use https://`)
  }
  return credentials.createInsecure()
}
