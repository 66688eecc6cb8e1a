/** Running the authority, calling it, and waiting for things to happen. */

import { type ChildProcess, spawn } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, afterEach, beforeEach } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

import {
  Metadata,
  Server,
  ServerCredentials,
  type ServiceError,
  type handleUnaryCall,
  status,
} from '@grpc/grpc-js'

import { call } from '../src/calls.js'
import { Client, Connection, type Decision, type TokenRequest } from '../src/index.js'
import { Verifier, type VerifierOptions, setLogger, v1 } from '../src/index.js'

/** How long anything may take before a test gives up on it. */
export const PATIENCE_MS = 20_000
/** Short enough to see a verifier get stale, and long enough for a busy machine. */
export const BOUND_MS = 600
export const EVER_MS = 86_400_000
export const VIEWER = { audience: 'api', subject: 'user:ann', roles: ['role:viewer'] } satisfies TokenRequest

// From dist/test.
const root = fileURLToPath(new URL('../../../..', import.meta.url))

/** Waits until something holds. */
export async function until(what: string, holds: () => unknown, withinMs = PATIENCE_MS): Promise<void> {
  const endsAt = performance.now() + withinMs
  while (!(await holds())) {
    if (performance.now() > endsAt) {
      throw new Error(`${what}: not within ${withinMs} ms`)
    }
    await sleep(2)
  }
}

interface Ready {
  admin: string
  grpc: string
  realms: Record<string, { api_key: string }>
}

/** A `tessera dev` of its own, on a directory, so that it can come back where it was. */
export class Authority {
  readonly #directory = mkdtempSync(join(tmpdir(), 'tessera-'))
  #process!: ChildProcess
  #ready!: Ready

  static async start(): Promise<Authority> {
    const authority = new Authority()
    for (const name of ['model.conf', 'catalogue.toml', 'policy.csv']) {
      cpSync(join(root, 'policies', name), join(authority.#directory, 'policy', name))
    }
    authority.#edit('catalogue.toml', (text) => `${text}player = "another service"\n`)
    await authority.#start('127.0.0.1:0')
    return authority
  }

  async #start(listen: string): Promise<void> {
    const program = process.env['TESSERA_BIN']
    if (program === undefined) {
      throw new Error('TESSERA_BIN is not set')
    }
    const directories = ['--data-dir', join(this.#directory, 'data'), '--policy', join(this.#directory, 'policy')]
    const ports = ['--listen', listen, '--admin-listen', '127.0.0.1:0']
    this.#process = spawn(program, ['dev', '--print-json', ...ports, ...directories], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    for await (const line of createInterface({ input: this.#process.stdout! })) {
      this.#ready = JSON.parse(line) as Ready
      return
    }
    throw new Error('the authority does not start')
  }

  get address(): string {
    return this.#ready.grpc
  }

  get adminAddress(): string {
    return this.#ready.admin
  }

  apiKeyOf(realm: string): string {
    return this.#ready.realms[realm]!.api_key
  }

  connection(realm = 'production', address = this.address): Connection {
    return new Connection({ address, apiKey: this.apiKeyOf(realm) })
  }

  async kill(): Promise<void> {
    const ended = new Promise((resolve) => this.#process.once('exit', resolve))
    this.#process.kill('SIGKILL')
    await ended
  }

  /** Starts it again on the same data and the same port. */
  async restart(): Promise<void> {
    await this.#start(this.address.replace('http://', ''))
  }

  /** Stops it with its connections open. */
  stall(): void {
    this.#process.kill('SIGSTOP')
  }

  goOn(): void {
    this.#process.kill('SIGCONT')
  }

  async close(): Promise<void> {
    await this.kill()
    rmSync(this.#directory, { recursive: true })
  }

  /** Puts the policy in force without the rules that begin so. */
  async takeRule(start: string): Promise<void> {
    const left = (text: string) => text.split('\n').filter((line) => !line.startsWith(start))
    this.#edit('policy.csv', (text) => left(text).join('\n'))
    const connection = this.connection()
    const policies = connection.client(v1.PolicyService)
    await call(policies.reload.bind(policies), {}, connection.credential(), PATIENCE_MS)
    policies.close()
  }

  /** An API key for another client. */
  async apiKey(name: string): Promise<string> {
    const connection = this.connection()
    const keys = connection.client(v1.ApiKeyService)
    const method: Parameters<typeof call<object, { secret: string }>>[0] = keys.createApiKey.bind(keys)
    const { secret } = await call(method, { name }, connection.credential(), PATIENCE_MS)
    keys.close()
    return secret
  }

  #edit(name: string, edit: (text: string) => string): void {
    const file = join(this.#directory, 'policy', name)
    writeFileSync(file, edit(readFileSync(file, 'utf8')))
  }
}

/** Things to close at the end of a test. */
export class Cleanups {
  readonly #all: Array<() => unknown> = []

  add<T extends { close(): unknown }>(closing: T): T {
    this.#all.push(() => closing.close())
    return closing
  }

  then(cleanup: () => unknown): void {
    this.#all.push(cleanup)
  }

  async run(): Promise<void> {
    for (const cleanup of this.#all.splice(0).reverse()) {
      await cleanup()
    }
  }
}

/** A verifier that has become ready. */
export async function readyVerifier(
  connection: Connection,
  options: Partial<VerifierOptions> = {},
): Promise<Verifier> {
  const verifier = startVerifier(connection, options)
  await verifier.ready()
  return verifier
}

export function startVerifier(connection: Connection, options: Partial<VerifierOptions> = {}): Verifier {
  return new Verifier({ connection, realm: 'production', audience: 'api', stalenessBoundMs: BOUND_MS, ...options })
}

export function allows(verifier: Verifier, token: string, scope: string | null = 'videos:read'): boolean {
  return verifier.verify(token, scope).kind === 'allow'
}

export function isStale(verifier: Verifier, token: string): boolean {
  return verifier.verify(token).kind === 'stale'
}

/** Why a token is refused; undefined where it is not. */
export function reason(verifier: Verifier, token: string, scope: string | null = null): string | undefined {
  return reasonOf(verifier.verify(token, scope))
}

export function reasonOf(decision: Decision): string | undefined {
  return decision.kind === 'deny' ? decision.reason : undefined
}

/** An authority for all tests of a file, and a client of it. */
export async function startForAll(): Promise<{ authority: Authority; client: Client }> {
  const authority = await Authority.start()
  const client = new Client(authority.connection())
  after(async () => {
    client.close()
    await authority.close()
  })
  return { authority, client }
}

/** The warnings of the test that runs. */
export function collectWarnings(): string[] {
  const warnings: string[] = []
  beforeEach(() => {
    warnings.length = 0
    setLogger({ debug: () => {}, info: () => {}, warn: (message) => void warnings.push(message) })
  })
  afterEach(() => setLogger())
  return warnings
}

/** A token of a viewer, and its session. */
export async function issue(client: Client, request: object = {}): Promise<{ token: string; sessionId: string }> {
  const { tokens, sessionId } = await client.issue({ ...VIEWER, ...request })
  return { token: tokens!.accessToken, sessionId }
}

/** A server before the authority: it counts calls, makes them fail, and holds answers back. */
export class Gate {
  readonly calls = { issue: 0, refresh: 0 }
  /** Those that the authority has answered, whether or not the answer was let through. */
  readonly done = { issue: 0, refresh: 0 }
  address!: string
  faults: status[] = []
  connection!: Connection
  readonly #server = new Server()
  #released = Promise.resolve()
  #release = () => {}

  static async before(authority: Authority): Promise<Gate> {
    const gate = new Gate()
    const tokens = authority.connection().client(v1.TokenService)
    gate.#server.addService(v1.TokenService.service, {
      issue: gate.#pass('issue', tokens.issue.bind(tokens)),
      refresh: gate.#pass('refresh', tokens.refresh.bind(tokens)),
    })
    gate.address = `http://127.0.0.1:${await listen(gate.#server)}`
    gate.connection = authority.connection('production', gate.address)
    return gate
  }

  hold(): void {
    this.#released = new Promise((resolve) => (this.#release = resolve))
  }

  release(): void {
    this.#release()
  }

  close(): void {
    this.release()
    this.#server.forceShutdown()
  }

  #pass<Q, A>(name: 'issue' | 'refresh', method: Parameters<typeof call<Q, A>>[0]): handleUnaryCall<Q, A> {
    return ({ request, metadata }, answer) => {
      this.calls[name] += 1
      const fault = this.faults.shift()
      if (fault !== undefined) {
        answer({ code: fault, details: 'scripted' })
        return
      }
      const credential = new Metadata()
      metadata.get('authorization').forEach((value) => credential.set('authorization', value))
      method(request, credential, {}, (error, answered) => {
        this.done[name] += 1
        void this.#released.then(() => answer(passed(error), answered))
      })
    }
  }
}

/** The error with its details, and without the headers of its own stream. */
function passed(error: ServiceError | null): Partial<ServiceError> | null {
  if (error === null) {
    return null
  }
  const metadata = new Metadata()
  const name = 'grpc-status-details-bin'
  error.metadata.get(name).forEach((value) => metadata.set(name, value))
  return { code: error.code, details: error.details, metadata }
}

/** Serves on a free port. */
export function listen(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
      error === null ? resolve(port) : reject(error),
    )
  })
}
