// A service with the TypeScript SDK, whose authority replaces its signing keys.
//
// `tests/it/rotations.rs` writes a token a line; this prints what the verifier says of it, a line each.

import { createInterface } from 'node:readline'

const { Connection, Verifier } = await import(process.env.TESSERA_SDK)

const connection = new Connection({ address: process.env.TESSERA_ADDR, apiKey: process.env.TESSERA_API_KEY })
const stalenessBoundMs = Number(process.env.BOUND) * 1000
const verifier = new Verifier({
  connection,
  realm: 'production',
  audience: 'api',
  stalenessBoundMs,
  subscriber: 'typescript',
  required: true,
})
await verifier.ready({ timeoutMs: 60_000 })
console.log('ready')
for await (const line of createInterface({ input: process.stdin })) {
  const decision = await verifier.verifyWith(line.trim(), null, 'fail-closed')
  console.log(decision.kind === 'deny' ? `deny ${decision.reason}` : decision.kind)
}
process.exit(0)
