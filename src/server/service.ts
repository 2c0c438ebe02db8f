/** What the server needs of a node. The composition of a node implements it; tests fake it. */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { DbError } from '../base/errors.ts'
import type { RowFormat } from '../base/result-json.ts'
import type { Statement } from '../base/sql.ts'
import type { Dialect } from '../protocol/dialect.ts'
import type { MembersRequest, MembersResponse } from '../protocol/http-api.ts'
import type { WriteOperation } from '../protocol/parse-request.ts'
import type { TransactionCallback, TransactionOperation } from '../replica/transaction-call.ts'
import type {
  DigestAnswer,
  JsonReadAnswer,
  Outcome,
  ReadOptions,
  ReplicaStatus,
  WriteCallback,
} from '../replica/types.ts'

/** Who a node is. Known once its cluster is founded, and the same until the process ends. */
export interface NodeIdentity {
  readonly nodeId: string
  readonly raftId: number
  /** Where others reach it: host:port. */
  readonly address: string
  readonly clusterId: string
  readonly historyId: string
  readonly groupId: number
}

/** Rows of one database, read in one read transaction. */
export interface ReadOperation {
  readonly database: string
  readonly statements: readonly Statement[]
  readonly maxRows: number
  readonly maxBytes: number
  readonly rows: RowFormat
}

export interface DigestOperation {
  readonly database: string
  readonly table?: string
}

/** A request to found or join a cluster, as it came: the node checks and answers it. */
export interface JoinRequest {
  readonly body: Uint8Array
  /** Another node passed it on. */
  readonly isForwarded: boolean
}

export type JoinAnswer =
  /** JSON, as it goes out. */
  | { readonly type: 'ok'; readonly text: string }
  | { readonly type: 'failed'; readonly error: DbError }

/** What another node wants of a snapshot of this one. */
export type SnapshotWish =
  | { readonly type: 'manifest'; readonly minIndex: number }
  | { readonly type: 'file'; readonly id: string; readonly file: string; readonly offset: number }

export interface SnapshotRequest {
  /** Nodes prove who they are; a backup is a client's, like a query. */
  readonly isBackup: boolean
  readonly wish: SnapshotWish
  /** As it came, with the query: the proof covers it. */
  readonly url: string
  /** The proof of the cluster secret, empty if there is none. */
  readonly proof: string
  readonly remoteAddress: string
}

export type SnapshotAnswer =
  | { readonly type: 'manifest'; readonly text: string; readonly proof: string }
  | {
      readonly type: 'file'
      readonly path: string
      readonly sizeBytes: number
      readonly offset: number
      /** CRC-32 of each part of `chunkSizeBytes`, the last one shorter. */
      readonly chunks: readonly number[]
      readonly chunkSizeBytes: number
      /** The file is not what it should be; it is told before anything wrong is sent. */
      readonly onDamaged: (reason: string) => void
    }

/**
 * A node behind its listener. Callbacks are called once, never inside the call, and may come after
 * the client has gone.
 */
export interface Service {
  readonly version: string
  readonly startedAtMs: number
  readonly nodeId: string
  /** Whose SQL Commands become. */
  readonly dialect: Dialect
  /** Undefined until the cluster is founded and the replica runs; nothing below is asked before. */
  identity(): NodeIdentity | undefined
  /** Undefined until the replica runs. */
  status(): ReplicaStatus | undefined
  isStopping(): boolean
  /** Why this node serves nothing for good, such as REMOVED; undefined while it may serve. */
  refusal(): DbError | undefined
  /** Why a write would be refused right now because too many wait, if so; before it is read. */
  overload(): DbError | undefined
  /** How many more writes keep the writer busy; 0 while enough of them wait. */
  wantedWrites(): number
  /** `receiveMs`: how long ago its client began to ask. */
  execute(
    request: WriteOperation,
    options: { readonly timeoutMs: number; readonly receiveMs: number },
    done: WriteCallback,
  ): void
  query(
    request: ReadOperation,
    options: ReadOptions,
    done: (outcome: Outcome<JsonReadAnswer>) => void,
  ): void
  digest(
    request: DigestOperation,
    options: ReadOptions,
    done: (outcome: Outcome<DigestAnswer>) => void,
  ): void
  /** One call of an interactive transaction. Throws INVALID_REQUEST for what can't be one. */
  transact(
    operation: TransactionOperation,
    options: { readonly timeoutMs: number },
    done: TransactionCallback,
  ): void
  databases(done: (names: readonly string[]) => void): void
  /** Last refusal or broken connection on the way to a member, empty if there was none. */
  peerError(raftId: number): string
  /** Begins to hand over; nothing happens unless this node leads. */
  transferLeadership(): void
  /** An operator says which node is right; the error why there is nothing to decide. */
  trust(nodeId: string): DbError | undefined
  /** The members as this node knows them; undefined until the replica runs. */
  members(): MembersResponse | undefined
  changeMembers(
    request: MembersRequest,
    options: { readonly timeoutMs: number; readonly isForwarded: boolean },
    done: (outcome: Outcome<MembersResponse>) => void,
  ): void
  join(request: JoinRequest, done: (answer: JoinAnswer) => void): void
  /** A part of a snapshot for another node. Throws `DbError`. */
  snapshot(request: SnapshotRequest): SnapshotAnswer
  /** `GET /replicate` with an Upgrade: the socket is the node's from here on. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Uint8Array): void
}
