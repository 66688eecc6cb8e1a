// A service with the TypeScript SDK, one of whose authority's nodes is lost: its verifier, and a source of tokens.
//
// The nodes and an API key are TESSERA_ADDR and TESSERA_API_KEY of the environment, and the SDK is at TESSERA_SDK.
// `tests/it/nodes/loss.rs` says what is read and printed, one line after the other; whatever fails ends this with an error.

import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

const { Client, Connection, TokenSource, Verifier, setLogger } = await import(process.env.TESSERA_SDK)

const PATIENCE_MS = 60_000
const said = []
setLogger({ debug: () => {}, info: () => {}, warn: (line) => said.push(line) })
const connection = new Connection({
  address: process.env.TESSERA_ADDR,
  apiKey: process.env.TESSERA_API_KEY,
  inOrder: true,
})
const stalenessBoundMs = Number(process.env.BOUND) * 1000
const verifier = new Verifier({ connection, realm: 'production', audience: 'api', stalenessBoundMs })
const request = { audience: 'api', subject: 'user:source', roles: ['role:reader'], accessTtlSeconds: 6 }
const source = new TokenSource(new Client(connection, { deadlineMs: 1_000 }), request)

const tell = (fields) => console.log(JSON.stringify(fields))

async function until(what, holds) {
  const endsAt = performance.now() + PATIENCE_MS
  while (!holds()) {
    if (performance.now() > endsAt) {
      throw new Error(`${what}: nothing happened: ${JSON.stringify(verifier.status)} ${said}`)
    }
    await sleep(2)
  }
}

const read = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
await verifier.ready({ timeoutMs: PATIENCE_MS })
tell({ at: verifier.status.address })
const [good, doomed] = (await read.next()).value.split(' ')
const seen = []

/** The claims of a token that is good. */
async function accepted(token) {
  const decision = await verifier.verifyWith(token, null, 'fail-closed')
  if (decision.kind !== 'allow') {
    throw new Error(`${JSON.stringify(decision)} ${JSON.stringify(verifier.status)} ${said}`)
  }
  return decision.claims
}

/** A good token is accepted, and the source has one. */
async function look() {
  await accepted(good)
  const { sessionId, generation } = await accepted((await source.token()).expose())
  if (seen.at(-1)?.[1] !== generation || seen.at(-1)?.[0] !== sessionId) {
    seen.push([sessionId, generation])
  }
}

async function keepLooking() {
  for (;;) {
    await look()
    await sleep(2)
  }
}

await until('accepted', () => verifier.verify(doomed).kind === 'allow')
await look()
keepLooking().catch((error) => {
  console.error(error)
  process.exit(1)
})
tell({ accepts: true })
await until('refused', () => verifier.verify(doomed).reason === 'revoked')
const { address, snapshots } = verifier.status
tell({ refused: true, at: address, snapshots })
const { length } = seen
await until('renewed', () => seen.length >= length + 2)
const moved = () => said.find((line) => line.includes('another address'))
await until('told', moved)
tell({ renewed: seen, moved: moved(), snapshots: verifier.status.snapshots })
process.exit(0)
