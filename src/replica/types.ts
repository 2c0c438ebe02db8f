/** What a replica is asked and what it answers. */
import type { DbError } from '../base/errors.ts'
import type { StatementResult } from '../base/sql.ts'
import type { Divergence } from '../engine/engine.ts'
import type { LogStatus } from '../log/log.ts'
import type { Dispute } from './divergence.ts'
import type { WriteStages } from './write-stages.ts'

/** Which requests a node passes on to the leader: all, only data (no schema changes), or none. */
export type ForwardRule = 'all' | 'data' | 'none'

/** How fresh a read must be; each costs less than the one before. */
export type Consistency = 'linearizable' | 'session' | 'local'

export interface ReplicaOptions {
  readonly forward: ForwardRule
  /** Requests in one entry, and their bytes: what waits is gathered up to these. */
  readonly maxBatchRequests: number
  readonly maxBatchBytes: number
  /** Requests that wait for the writer. Above, they are refused as OVERLOADED. */
  readonly maxQueuedRequests: number
  readonly maxQueuedBytes: number
  /** While more than a batch waits, and the oldest for longer than this, they are refused, too. */
  readonly maxQueuedMs: number
  /** Reads that wait for their index. */
  readonly maxWaitingReads: number
  /** Forwarded requests without an answer yet. */
  readonly maxForwardedRequests: number
  /** A batch that executes longer is stopped by ending the writer. */
  readonly maxExecuteMs: number
  /** Entries handed to the engine at once while following, in bytes. */
  readonly maxApplyBytes: number
  /** The leader takes no more writes while a quorum's engines are further behind than this. */
  readonly maxApplyLagMs: number
  readonly maxApplyLagBytes: number
  /** While the log is smaller it keeps what members lack; then only what this node needs. */
  readonly maxLogBytes: number
  /** So much more is kept of what members lack that are there. */
  readonly logReserveBytes: number
  /** With less free on its disk a node takes no writes as the leader; 0: it never looks. */
  readonly minFreeBytes: number
  /** An interactive transaction that idles so long gives way to others that wait. */
  readonly transactionIdleMs: number
  /** One that does not idle gives way to others after this time. */
  readonly transactionTurnMs: number
  /** One that nobody speaks to for so long is rolled back. */
  readonly transactionIdleTimeoutMs: number
  /** One that is open for so long is rolled back. */
  readonly maxTransactionMs: number
  /** Open transactions of all clients, and the bytes of their statements. */
  readonly maxTransactions: number
  readonly maxTransactionsBytes: number
  readonly reportMs: number
  /** How often the leader has all members compare digests of all their data; 0 is never. */
  readonly digestIntervalMs: number
}

/** What a write that comes now would meet. */
export interface Admission {
  /** Why it would be refused because too many wait, if so. */
  readonly overload: DbError | undefined
  /** How many more keep the writer busy; 0 while enough of them wait. */
  readonly wantedWrites: number
}

/** What became of a write. */
export type WriteOutcome =
  | {
      readonly type: 'ok'
      /** An index of the log at which the write has surely taken effect. */
      readonly index: number
      readonly results: readonly StatementResult[]
      /** The request, by its id, was applied before: these are the results of the first time. */
      readonly isRepeat?: true
      /** They were too large to be remembered whole: columns and rows are left out. */
      readonly rowsDropped?: true
    }
  | { readonly type: 'failed'; readonly error: DbError }

export type WriteCallback = (outcome: WriteOutcome) => void

export interface ReadOptions {
  readonly consistency: Consistency
  /** For `session`: the index of the reader's token. */
  readonly atLeastIndex?: number
  /** For `local`: how long ago the data read may have been the newest. */
  readonly maxLagMs?: number
  readonly timeoutMs: number
}

export type Outcome<T> =
  | { readonly type: 'ok'; readonly value: T }
  | { readonly type: 'failed'; readonly error: DbError }

export type ReadCallback<T> = (outcome: Outcome<T>) => void

/** The answer to a read, and the index that a later read of the same session must not go below. */
export interface ReadAnswer {
  readonly index: number
  readonly results: readonly StatementResult[]
}

/** The same with the results as a JSON array, which stays as it is. */
export interface JsonReadAnswer {
  readonly index: number
  readonly json: Uint8Array
}

export interface DigestAnswer {
  readonly index: number
  readonly rows: number
  readonly digest: string
}

/** What a member says of itself, as another member last heard it. */
export interface MemberReport {
  readonly appliedIndex: number
  readonly durableIndex: number
  readonly isDiverged: boolean
  /** Its disk has too little room for it to lead. */
  readonly isShortOfRoom: boolean
  /** Its last local fault, empty if there was none. */
  readonly lastError: string
}

/** A snapshot that this node takes over, and one that it has made for others. */
export interface SnapshotStatus {
  readonly step: 'none' | 'looking' | 'asking' | 'fetching' | 'checking' | 'installing' | 'adopting'
  /** Why it is needed; empty if it isn't. */
  readonly reason: string
  /** The member that gives it. */
  readonly source: number | undefined
  readonly index: number
  readonly receivedBytes: number
  readonly totalBytes: number
  readonly lastError: string
  /** How many were taken over since the process began. */
  readonly installed: number
  /** How many attempts to get one failed since then. */
  readonly failures: number
  /** From the need to the end, of the last that was taken over; 0 if none was. */
  readonly lastDurationMs: number
}

/** Snapshots that a node made, for other nodes and for backups. */
export interface SnapshotSourceStatus {
  /** Since the process began. */
  readonly made: number
  readonly failures: number
  /** Of the last one, 0 if there was none. */
  readonly lastDurationMs: number
  /** When the last one was made; undefined if none was. */
  readonly madeAgoMs: number | undefined
}

/** The comparison of all data with the others'. */
export interface DataDigestStatus {
  /** One is being taken here. */
  readonly isRunning: boolean
  /** The last entry after which this replica had the data of a majority; 0 if none yet. */
  readonly verifiedIndex: number
  /** When that was found; undefined if not yet. */
  readonly verifiedAgoMs: number | undefined
  /** How long the last digest took, 0 if none was taken. */
  readonly durationMs: number
  /** Why the last one that came to nothing did. */
  readonly lastError: string
}

export interface ReplicaStatus {
  readonly log: LogStatus
  readonly appliedIndex: number
  readonly durableIndex: number
  readonly engine: 'opening' | 'ready' | 'down'
  readonly engineBuild: string
  /** Leads and has applied everything up to its own term: takes writes. */
  readonly isReadyToWrite: boolean
  readonly divergence: Divergence | undefined
  /** The others did not compute what this replica did: it is wrong, and heals. */
  readonly isCondemned: boolean
  readonly dispute: Dispute | undefined
  readonly snapshot: SnapshotStatus
  readonly snapshotSource: SnapshotSourceStatus
  readonly dataDigest: DataDigestStatus
  readonly lastError: string
  readonly queuedRequests: number
  readonly queuedBytes: number
  readonly waitingReads: number
  readonly forwardedRequests: number
  /** Writes of this node's clients that wait for a leader. */
  readonly heldRequests: number
  /** Milliseconds ago at which this node's data was surely the newest; undefined if unknown. */
  readonly lagMs: number | undefined
  readonly quorumApplyLagMs: number
  readonly isAdmissionPaused: boolean
  /** What is free on the disk; undefined if that is not known. */
  readonly freeBytes: number | undefined
  /** Too little is free: this node takes no writes as the leader. */
  readonly isShortOfRoom: boolean
  /** Interactive transactions that are open here, on the leader. */
  readonly openTransactions: number
  readonly reports: ReadonlyMap<number, MemberReport>
  readonly counters: ReplicaCounters
  /** Where the time of writes goes, since the process began. */
  readonly stages: WriteStages['histograms']
}

/** Counts since the process began. */
export interface ReplicaCounters {
  batches: number
  requests: number
  failedRequests: number
  appliedEntries: number
  engineRestarts: number
  forwarded: number
  roleChanges: number
  /** Interactive transactions begun here as the leader. */
  transactions: number
  /** Those that others' changes have ended, and those that their leases have. */
  transactionConflicts: number
  transactionsExpired: number
  /** How often one had given way and was repeated. */
  transactionReplays: number
  /** Times that this replica computed something else, or was found to have done so. */
  divergences: number
  /** Times that it took another's data because of that. */
  heals: number
  /** Digests of all data taken, and those that came to nothing. */
  digests: number
  digestFailures: number
}
