// grpc-js hears the reason of the largest errors, each time: as large_errors.py does.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const require = createRequire(join(process.env.TESSERA_PEERS_DIR, 'package.json'))
const grpc = require('@grpc/grpc-js')
const loader = require('@grpc/proto-loader')

const TIMES = 20
const definition = loader.loadSync('tessera/v1/token_service.proto', { includeDirs: ['proto'] })
const { TokenService } = grpc.loadPackageDefinition(definition).tessera.v1
const client = new TokenService(process.env.TESSERA_ADDR.replace('http://', ''), grpc.credentials.createInsecure())

function refusal(scopes) {
  const metadata = new grpc.Metadata()
  metadata.set('authorization', `Bearer ${process.env.TESSERA_API_KEY}`)
  return new Promise((resolve, reject) => {
    client.Issue({ subject: 'user:nobody', scopes }, metadata, { deadline: Date.now() + 20_000 }, (error) => {
      const [details] = error?.metadata.get('grpc-status-details-bin') ?? []
      if (details === undefined) {
        reject(new Error(`no details: ${error}`))
        return
      }
      // The reason is the only text in capitals.
      const [reason] = /[A-Z]+_[A-Z_]+/.exec(details.toString('latin1')) ?? []
      resolve(`${grpc.status[error.code]} ${reason}`)
    })
  })
}

const seen = []
for (const scopes of JSON.parse(readFileSync(0, 'utf8'))) {
  const all = new Set()
  for (let time = 0; time < TIMES; time += 1) {
    all.add(await refusal(scopes))
  }
  seen.push([...all].sort())
}
client.close()
console.log(JSON.stringify(seen))
