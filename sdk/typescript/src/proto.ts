/** The services on the wire, loaded from the protos in the package. */

import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

import { loadPackageDefinition } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'

import type { ProtoGrpcType as ApiKeys } from './generated/api_key_service.js'
import type { ProtoGrpcType as Keys } from './generated/key_service.js'
import type { ProtoGrpcType as Policies } from './generated/policy_service.js'
import type { ProtoGrpcType as Revocations } from './generated/revocation_service.js'
import type { ProtoGrpcType as Sessions } from './generated/session_service.js'
import type { ProtoGrpcType as Tokens } from './generated/token_service.js'

// From dist/src.
const directory = fileURLToPath(new URL('../../proto', import.meta.url))
const files = readdirSync(`${directory}/tessera/v1`).map((name) => `tessera/v1/${name}`)
const definition = loadSync(files, {
  includeDirs: [directory],
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
})

type Services = ApiKeys & Keys & Policies & Revocations & Sessions & Tokens

/** The clients of all services, as grpc-js makes them. */
export const v1 = (loadPackageDefinition(definition) as unknown as Services).tessera.v1
