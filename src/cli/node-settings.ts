/** What a node is started with: the options, as its parts take them. */
import type { ServerAddress } from '../engine/mysql/server-address.ts'
import type { RaftLogOptions } from '../log/raft-log.ts'
import type { ReplicaOptions } from '../replica/types.ts'
import type { HttpServerOptions } from '../server/http/server.ts'
import type { WalOptions } from '../wal/wal.ts'

/** Each part's own settings, and who and where the node is. */
export interface NodeSettings {
  readonly directory: string
  readonly nodeId: string
  /** Where this node listens and where the others reach it, host:port. */
  readonly address: string
  readonly join: readonly string[]
  /** What an empty directory becomes in a cluster that runs; absent if it is to found one. */
  readonly joinAs?: 'voter' | 'learner'
  readonly secret: string | undefined
  /** Options of which all nodes should have the same values; nodes tell each other when not. */
  readonly clusterOptions: Readonly<Record<string, number | string>>
  readonly version: string
  readonly http: HttpServerOptions
  readonly log: RaftLogOptions
  readonly wal: WalOptions
  readonly replica: ReplicaOptions
  readonly maxReaders: number
  /** The node's MySQL server; undefined if SQLite holds its data. */
  readonly mysql: ServerAddress | undefined
}
