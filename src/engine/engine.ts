/**
 * Engine, the interface: what runs SQL under a replica. It knows an index as a number and nothing
 * else of consensus. Everything crosses as messages, so that the process behind can die alone
 * between any two of them, in production as in the simulator.
 */
import type { ErrorCode } from '../base/errors.ts'
import type { RowFormat } from '../base/result-json.ts'
import type { Statement, StatementResult } from '../base/sql.ts'
import type { SnapshotStore } from './snapshot.ts'

/**
 * What a client asks to be written. All statements of one request take effect, or none. A text with
 * parameters holds one statement; one without may be a script of several, and `results` then has an
 * element for each of them. A request that begins with `PRAGMA foreign_keys = OFF` may rebuild a
 * table: it is alone in its entry, and fails if it would leave a reference to nothing.
 */
export type WriteRequest =
  | {
      readonly type: 'statements'
      readonly database: string
      readonly statements: readonly Statement[]
      readonly id?: RequestId
    }
  | { readonly type: 'create-database'; readonly database: string; readonly id?: RequestId }
  | { readonly type: 'drop-database'; readonly database: string; readonly id?: RequestId }
  /**
   * Asks what became of the request with this id, whatever it was. If it was applied, the answer is
   * its first answer. If it was not, it never will be: the answer is REQUEST_CANCELLED, and that is
   * in the log.
   */
  | { readonly type: 'cancel'; readonly database: string; readonly id: RequestId }
  /**
   * An interactive transaction as its entry holds it: its steps that changed something, each with
   * its statements. Only the writer makes it; nobody can ask for it. `ownId`: what it is known by
   * beside the id that its client gave, which a second commit may not give again. `moment`: its
   * own; one without it is alone in its entry, and has that of the entry.
   */
  | {
      readonly type: 'transaction'
      readonly database: string
      readonly steps: readonly (readonly Statement[])[]
      readonly id?: RequestId
      readonly ownId?: RequestId
      readonly moment?: Moment
    }

/** From what the time and the chance of statements are derived. */
export interface Moment {
  readonly nowMs: number
  /** 16 bytes. */
  readonly seed: Uint8Array
}

/**
 * By what a client's request is known when it comes again. The same id with the same body takes
 * effect once, and gives its first answer again.
 */
export type RequestId =
  /** `sequence` counts from 1 and is unique in the session, whatever database it goes to. */
  | { readonly type: 'session'; readonly session: SessionId; readonly sequence: number }
  /**
   * A text that the client chose; remembered among the newest keys of the database. `birth`: an
   * index of the log that was committed before the request was first sent. Without it nobody knows
   * how old the request is.
   */
  | { readonly type: 'key'; readonly key: string; readonly birth?: number }

export interface SessionId {
  /** An index of the log that was committed somewhere when the session began. */
  readonly birth: number
  /** A whole number below 2^48, chosen at random. */
  readonly name: number
}

/**
 * What became of one request of a batch. A failed one is rolled back and not in the entry, except a
 * `cancel`: it fails with REQUEST_CANCELLED and may be in it.
 */
export type RequestResult =
  | {
      readonly type: 'ok'
      readonly results: readonly StatementResult[]
      /** The request was applied before: these are the results of the first time. */
      readonly isRepeat?: true
      /** They were too large to be remembered whole: columns and rows are left out. */
      readonly rowsDropped?: true
    }
  | { readonly type: 'failed'; readonly error: RequestError }

/** A `DbError` as data, so that it survives the way between processes and nodes. */
export interface RequestError {
  readonly code: ErrorCode
  readonly message: string
  readonly details?: Readonly<Record<string, unknown>>
}

/** To the writer. It takes them in order and answers each with exactly one reply. */
export type WriterMessage =
  /** First message: open the files. Answered by `opened`. */
  | { readonly type: 'open' }
  /**
   * Leader: execute requests (bytes of `encodeRequest`) in one transaction per database touched,
   * each under a savepoint, and leave the transactions open. Answered by `executed`.
   */
  | {
      readonly type: 'execute'
      readonly batch: number
      readonly nowMs: number
      /** 16 bytes from which all chance of the batch is derived. */
      readonly seed: Uint8Array
      /** Last entry that the leader knows to be committed: no session is born after it. */
      readonly commitIndex: number
      readonly requests: readonly Uint8Array[]
    }
  /**
   * Leader: one step of an interactive transaction, which stays open under the number `batch` until
   * `finish`, `rollback` or a step that is its last. Answered by `stepped`.
   */
  | {
      readonly type: 'step'
      readonly batch: number
      /** Given if the transaction is not the open one: it begins, or begins again. */
      readonly start?: TransactionStart
      /** Bytes of `encodeRequest`, of statements. */
      readonly request: Uint8Array
      /** The step may only read. */
      readonly isQuery: boolean
      /** The transaction gives way at once: it is rolled back when the step is done. */
      readonly givesWay?: boolean
    }
  /**
   * Leader: an interactive transaction asks to be committed. From here on it is as a batch of one
   * request without results. Answered by `executed`. `others`, of the same database, ask so too:
   * they may come after it in the same entry, or not be touched yet, as `taken` says.
   */
  | {
      readonly type: 'finish'
      readonly batch: number
      readonly start?: TransactionStart
      readonly id?: RequestId
      readonly ownId?: RequestId
      readonly commitIndex: number
      readonly others?: readonly FinishedTransaction[]
    }
  /** Ends the open batch for good, as entry `index` of the log. Answered by `committed`. */
  | { readonly type: 'commit'; readonly batch: number; readonly index: number }
  /** Undoes the open batch; without one it does nothing. Answered by `rolled-back`. */
  | { readonly type: 'rollback'; readonly batch: number }
  /** Follower: apply committed entries, in order, each at most once. Answered by `applied`. */
  | { readonly type: 'apply'; readonly entries: readonly EngineEntry[] }
  /**
   * The replicas agreed that this entry has these outcomes and not those it carries. The writer may
   * have diverged at it with just them: it goes on from there. Answered by `accepted`.
   */
  | ({ readonly type: 'accept' } & AcceptedEntry)
  /** These files are wrong, for ever: nothing is executed or applied. Answered by `condemned`. */
  | { readonly type: 'condemn'; readonly divergence: Divergence }
  /** Make everything applied survive a power cut. Answered by `checkpointed`. */
  | { readonly type: 'checkpoint' }

/** Begins an interactive transaction, or brings one back to where it was. */
export interface TransactionStart {
  readonly database: string
  /** Its moment. One that begins may get a later one, and keeps that. */
  readonly nowMs: number
  readonly seed: Uint8Array
  /**
   * All steps that it has run before. They run again, and must give what they gave: else it ends
   * with TRANSACTION_CONFLICT.
   */
  readonly earlier: readonly EarlierStep[]
}

/** An interactive transaction that asks to be committed and is not the open one. */
export interface FinishedTransaction {
  readonly start: TransactionStart
  readonly id?: RequestId
  readonly ownId?: RequestId
}

export interface EarlierStep {
  readonly request: Uint8Array
  readonly isQuery: boolean
  /** What the reply said. */
  readonly proof: Uint8Array
}

export interface EngineEntry {
  readonly index: number
  /** The entry's bytes as `executed` gave them on the leader. */
  readonly data: Uint8Array
}

export type WriterReply =
  | {
      readonly type: 'opened'
      /** Entries up to here have surely been applied by every file. Replay begins after it. */
      readonly appliedIndex: number
      readonly durableIndex: number
      /**
       * Newest `nowMs` of the entries up to `appliedIndex`; those replayed after it bring theirs. A
       * leader's clock never goes below any of them.
       */
      readonly nowMs: number
      /** Build of the SQL engine: must be equal on all nodes. */
      readonly build: string
      readonly past: EnginePast
    }
  | {
      readonly type: 'executed'
      readonly batch: number
      /**
       * How many of the requests this reply speaks of, from the first on, at least one. The others
       * were not touched: they, or the last before them, must be alone in their entry. Send them
       * again.
       */
      readonly taken: number
      /** Undefined when no request changed anything that others must repeat. */
      readonly entry: Uint8Array | undefined
      readonly results: readonly RequestResult[]
      /** Nothing was run yet, since it can't be undone: what it gave is told by `committed`. */
      readonly isProvisional?: boolean
    }
  | {
      readonly type: 'stepped'
      readonly batch: number
      /** The moment of the transaction. */
      readonly nowMs: number
      readonly result: RequestResult
      /** All that the step's answer tells, as bytes to compare. */
      readonly proof: Uint8Array
      /** Nothing that the transaction has done so far is to stay. */
      readonly isReadOnly: boolean
      /** The transaction was rolled back, because of a conflict or a failure that undid it all. */
      readonly isOver: boolean
    }
  | {
      readonly type: 'committed'
      readonly batch: number
      readonly index: number
      readonly durableIndex: number
      /** In place of provisional ones. */
      readonly results?: readonly RequestResult[]
    }
  | { readonly type: 'rolled-back'; readonly batch: number }
  | {
      readonly type: 'applied'
      /** Last entry that is applied now. Below the last one sent only with a divergence. */
      readonly index: number
      readonly durableIndex: number
      readonly divergence?: Divergence
    }
  /** `index`: the entry that was accepted. */
  | { readonly type: 'accepted'; readonly index: number; readonly appliedIndex: number }
  | { readonly type: 'condemned' }
  | { readonly type: 'checkpointed'; readonly durableIndex: number }
  /** A local fault (full disk, I/O error). The writer ends itself after this reply. */
  | { readonly type: 'fault'; readonly error: RequestError }

/** What a replica computed otherwise than the entry says. */
export interface Divergence {
  readonly index: number
  readonly database: string
  readonly sql: string
  readonly expected: string
  readonly actual: string
  /** Over all outcomes of the entry as this replica computed it: equal on replicas that agree. */
  readonly digest: string
}

/** An entry that counts with the outcomes of this digest in place of those it carries. */
export interface AcceptedEntry {
  readonly index: number
  readonly digest: string
}

/** What the engine's files know of entries that replicas computed differently. */
export interface EnginePast {
  /** Entries up to here came with another replica's files: this one did not compute them. */
  readonly copiedIndex: number
  /** In ascending order. */
  readonly accepted: readonly AcceptedEntry[]
  /** Why these files are wrong, if they were found to be. */
  readonly condemned: Divergence | undefined
}

/** A read of one database, in one read transaction. Texts may be scripts as in a write. */
export interface ReadRequest {
  readonly database: string
  readonly statements: readonly Statement[]
  readonly maxRows: number
  readonly maxBytes: number
}

export type ReadOutcome =
  | {
      readonly type: 'ok'
      /** Applied index of the database's file inside the read transaction. */
      readonly appliedIndex: number
      readonly results: readonly StatementResult[]
    }
  | { readonly type: 'failed'; readonly error: RequestError }

/** As a {@link ReadOutcome}, of a read whose results are only passed on. */
export type JsonReadOutcome =
  | {
      readonly type: 'ok'
      readonly appliedIndex: number
      /** A JSON array with an object for each result, which stays as it is. */
      readonly json: Uint8Array
    }
  | { readonly type: 'failed'; readonly error: RequestError }

/** A digest over all rows of one table, or of a whole database, independent of the row order. */
export interface DigestRequest {
  readonly database: string
  readonly table?: string
}

export type DigestOutcome =
  | {
      readonly type: 'ok'
      readonly appliedIndex: number
      readonly rows: number
      readonly digest: string
    }
  | { readonly type: 'failed'; readonly error: RequestError }

export interface Writer {
  send(message: WriterMessage): void
  /** Ends the process at once, whatever it is doing. `onExit` follows. */
  kill(): void
}

export interface WriterHandler {
  onReply(reply: WriterReply): void
  /** The writer is gone; nothing more comes from it. Open transactions are rolled back. */
  onExit(reason: string): void
}

export interface Engine {
  /** Whether its writer repeats the steps of a transaction at little cost. */
  readonly repeatsCheaply: boolean
  /** One writer at a time; a new one only after `onExit` of the last. */
  startWriter(handler: WriterHandler): Writer
  /** `done` is called once. A read past its deadline is stopped and fails with QUERY_TIMEOUT. */
  query(request: ReadRequest, timeoutMs: number, done: (outcome: ReadOutcome) => void): void
  /** The same; the results come as text, so that rows are encoded once, away from here. */
  queryJson(
    request: ReadRequest,
    rows: RowFormat,
    timeoutMs: number,
    done: (outcome: JsonReadOutcome) => void,
  ): void
  digest(request: DigestRequest, timeoutMs: number, done: (outcome: DigestOutcome) => void): void
  /** Names of the databases as of now, sorted. */
  databases(done: (names: readonly string[]) => void): void
  readonly snapshots: SnapshotStore
  /**
   * So long may entries wait on a follower until they are applied, if nobody there asks for them:
   * what comes meanwhile shares their transaction. 0: none waits.
   */
  readonly applyDelayMs: number
  /** Ends writer and readers; `done` when all are gone. */
  stop(done: () => void): void
}
