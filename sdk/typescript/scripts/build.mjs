// Builds the package: generates the types of its protos, which `sdk/vendor` copies from the repository, and compiles.

import { spawnSync } from 'node:child_process'
import { readdirSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = dirname(dirname(fileURLToPath(import.meta.url)))
const installed = createRequire(join(here, 'package.json'))

/** Runs a program of a package, by the path of its script. */
function run(script, ...args) {
  const { status, error } = spawnSync(process.execPath, [installed.resolve(script), ...args], {
    cwd: here,
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  if (error || status !== 0) {
    process.exit(status || 1)
  }
}

for (const directory of ['dist', 'src/generated']) {
  rmSync(join(here, directory), { recursive: true, force: true })
}
const protos = readdirSync(join(here, 'proto/tessera/v1')).map((name) => `tessera/v1/${name}`)
// These say how `src/proto.ts` loads the same files.
const loading = ['--longs=Number', '--enums=String', '--bytes=Buffer', '--defaults', '--oneofs']
const typing = ['--grpcLib=@grpc/grpc-js', '--importFileExtension=.js', '--includeComments']
run(
  '@grpc/proto-loader/build/bin/proto-loader-gen-types.js',
  ...loading,
  ...typing,
  '--includeDirs=proto',
  '--outDir=src/generated',
  '--',
  ...protos,
)
run('typescript/lib/tsc.js', '--project', 'tsconfig.json')
