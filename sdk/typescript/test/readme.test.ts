/** The examples of the README, compiled and run as they are. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { after, before, it } from 'node:test'

import { Client } from '../src/index.js'
import { Authority, issue } from './support.js'

// From dist/test.
const root = fileURLToPath(new URL('../..', import.meta.url))
const directory = join(root, 'dist/readme')
const examples = [...readFileSync(join(root, 'README.md'), 'utf8').matchAll(/```ts\n(.*?)```/gs)].map(([, text]) => text!)

let authority: Authority
let environment: NodeJS.ProcessEnv

before(async () => {
  authority = await Authority.start()
  const client = new Client(authority.connection())
  const { token } = await issue(client)
  client.close()
  const ours = { TESSERA_ADDR: authority.address, TESSERA_API_KEY: authority.apiKeyOf('production'), TOKEN: token }
  environment = { ...process.env, ...ours }
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory)
  const files = examples.map((text, at) => {
    const file = join(directory, `example-${at}.ts`)
    writeFileSync(file, text)
    return file
  })
  const compiler = createRequire(import.meta.url).resolve('typescript/lib/tsc.js')
  const options = ['--strict', '--skipLibCheck', '--target', 'ES2022', '--module', 'NodeNext', '--types', 'node']
  execFileSync(process.execPath, [compiler, ...options, ...files], { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] })
})
after(() => authority.close())

for (const [at, text] of examples.entries()) {
  it(`prints what example ${at + 1} says`, () => {
    const expected = [...text.matchAll(/^\/\/> (.*)$/gm)].map(([, line]) => line)
    const run = { env: environment, encoding: 'utf8', timeout: 60_000 } as const
    const printed = execFileSync(process.execPath, [join(directory, `example-${at}.js`)], run)
    assert.deepEqual(printed.split('\n').slice(0, -1), expected)
  })
}
