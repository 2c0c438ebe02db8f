/** Puts of bare keys into etcd over gRPC: the floor of what a replicated log costs. */
import { failure } from '../operations.ts'
import type { Failure } from '../../load.ts'
import type { Connection, Operation, Target } from '../operations.ts'
import { GrpcConnection } from './grpc.ts'

/** Calls that share a connection: all their bytes fit into its window. */
const CALLS_PER_CONNECTION = 32
const KEY_FIELD = 0x0a
const VALUE_FIELD = 0x12

class EtcdConnection implements Connection {
  readonly #grpc: GrpcConnection

  constructor(grpc: GrpcConnection) {
    this.#grpc = grpc
  }

  perform(operation: Operation, done: (failure: Failure | undefined) => void): void {
    if (operation.type !== 'put') throw new Error(`etcd has no ${operation.type} here`)
    this.#grpc.call(putMessage(operation.id, operation.sizeBytes), error => {
      done(error === undefined ? undefined : failure(error))
    })
  }

  close(): void {
    this.#grpc.close()
  }
}

export async function connectEtcd({ address }: Target, count: number): Promise<Connection[]> {
  const shared: GrpcConnection[] = []
  for (let at = 0; at < count; at += CALLS_PER_CONNECTION) {
    shared.push(await GrpcConnection.open(address, '/etcdserverpb.KV/Put'))
  }
  return shared.flatMap((grpc, at) =>
    Array.from(
      { length: Math.min(CALLS_PER_CONNECTION, count - at * CALLS_PER_CONNECTION) },
      () => new EtcdConnection(grpc),
    ),
  )
}

/** Keys in the order of their numbers. */
export function etcdKey(id: number): string {
  return `k/${String(id).padStart(12, '0')}`
}

/** A PutRequest: field 1 is the key, field 2 the value. */
export function putMessage(id: number, sizeBytes: number): Buffer {
  const key = Buffer.from(etcdKey(id))
  return Buffer.concat([
    Buffer.from([KEY_FIELD, ...lengthBytes(key.length)]),
    key,
    Buffer.from([VALUE_FIELD, ...lengthBytes(sizeBytes)]),
    Buffer.alloc(sizeBytes, 'v'),
  ])
}

function lengthBytes(length: number): number[] {
  return length < 0x80 ? [length] : [(length & 0x7f) | 0x80, ...lengthBytes(length >> 7)]
}
