// Verifies tokens with npm's paseto.
//
// Reads {token, paserk, other_paserk, forgeries: {name: token}} as JSON from standard input, and prints
// what paseto made of it as JSON. TESSERA_PEERS_DIR is where the module is installed.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const installed = createRequire(join(process.env.TESSERA_PEERS_DIR, 'package.json'))

/** Imports a module from the directory of the peers. */
const load = (name) => import(pathToFileURL(installed.resolve(name)))

const { PublicProtocol } = await load('paseto')
const { ImportPublicKeyFactory, VerifyFactory } = await load('paseto/v4/public')
const v4 = new PublicProtocol(ImportPublicKeyFactory, VerifyFactory)

/** The code of the error that verifying ends with, or `accepted`. */
async function outcome(key, token, options) {
  try {
    await v4.Verify(key, token, options)
  } catch (error) {
    return error.code ?? String(error)
  }
  return 'accepted'
}

/** The outcome for each forgery, by its name. */
async function outcomes(key, forgeries) {
  const pairs = Object.entries(forgeries).map(async ([name, token]) => [name, await outcome(key, token)])
  return Object.fromEntries(await Promise.all(pairs))
}

/** A claim that is a time, in seconds since the epoch. */
const seconds = (claim) => Math.floor(Date.parse(claim) / 1000)

const { token, paserk, other_paserk, forgeries } = JSON.parse(readFileSync(0, 'utf8'))
const key = await v4.ImportPublicKey(paserk)
const { claims, footer } = await v4.Verify(key, token, { audience: 'api' })
const seen = {
  claims,
  times: { iat: seconds(claims.iat), nbf: seconds(claims.nbf), exp: seconds(claims.exp) },
  footer: Buffer.from(footer).toString(),
  other_key: await outcome(await v4.ImportPublicKey(other_paserk), token),
  by_a_clock_on_time: await outcome(key, token, { now: new Date(Date.parse(claims.iat)) }),
  // It refuses an `iat` that lies ahead by a millisecond, whatever `nbf` says, unless it is told how late its clock may be.
  by_a_late_clock: await outcome(key, token, { now: new Date(Date.parse(claims.iat) - 1) }),
  by_one_that_may_be_late: await outcome(key, token, {
    now: new Date(Date.parse(claims.iat) - 9_000),
    clockTolerance: 10,
  }),
  after_its_end: await outcome(key, token, { now: new Date(Date.parse(claims.exp) + 1000) }),
  forgeries: await outcomes(key, forgeries),
}
console.log(JSON.stringify(seen))
