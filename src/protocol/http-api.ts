/**
 * Requests and answers of the HTTP API: the types that server and client share, and the schemas
 * that check requests. Unknown fields are refused, so that a typing error weakens no guarantee.
 */
import { z } from 'zod'
import type { ErrorCode, Fate, Retry } from '../base/errors.ts'
import type { JsonValue } from './values.ts'

/** A whole number that may also have been written with a point (`5000.0`). */
function wholeNumber(min: number, max: number): z.ZodType<number> {
  const withoutTag = (json: unknown): unknown =>
    typeof json === 'object' && json !== null && '$real' in json ? json.$real : json
  return z
    .preprocess(withoutTag, z.int().min(min).max(max))
    .meta({ type: 'integer', minimum: min, maximum: max })
}

/** Longest deadline that a request may ask for. */
export const TIMEOUT_MS_MAX = 600_000

/** Names of databases: a letter or _, then letters, digits, _ and -; at most 63 characters. */
export const DATABASE_NAME = /^[A-Za-z_][A-Za-z0-9_-]{0,62}$/

/** A database's name, checked. */
export const databaseName = z
  .string()
  .regex(DATABASE_NAME, 'must be a letter or _, then letters, digits, _ or -, at most 63 in all')
  .describe('Name of the database.')

const timeoutMs = wholeNumber(1, TIMEOUT_MS_MAX)
  .optional()
  .describe('Deadline of the request in milliseconds; the default is an option of the node.')

const rows = z
  .enum(['arrays', 'objects'])
  .default('arrays')
  .describe('Rows as arrays in the order of `columns`, or as objects.')

const params = z
  .unknown()
  .optional()
  .describe('Values for ?1, ?2 … (array) or :name (object, names without the colon).')

const sqlText = z
  .string()
  .min(1)
  .describe('One SQL statement; or, without `params`, several, each with a result of its own.')

/** One SQL statement. */
export const statementSchema = z.strictObject({
  sql: sqlText,
  params,
  database: databaseName.optional(),
})

/** `POST /execute` with one SQL statement. */
export const executeStatementSchema = z.strictObject({
  sql: sqlText,
  params,
  database: databaseName,
  timeoutMs,
  rows,
})

/** `POST /execute` with several statements or commands: all take effect, or none. */
export const executeBatchSchema = z.strictObject({
  statements: z
    .array(z.unknown())
    .min(1)
    .describe('SQL statements and Commands of one database, run in order, all or nothing.'),
  database: databaseName.optional(),
  timeoutMs,
  rows,
})

/** What a line of a stream carries beside the fields of a request: what a header else would. */
export const lineIdSchema = z.strictObject({
  request: z.string().optional().describe('As the header `Lockstep-Request`.'),
  idempotencyKey: z.string().optional().describe('As the header `Idempotency-Key`.'),
  since: z.string().optional().describe('As the header `Lockstep-Since`.'),
})

/** What a Command and a read may carry beside themselves in `POST /execute`. */
export const executeOptionsSchema = z.strictObject({ timeoutMs, rows })

/** The fields of `POST /query` beside the statement: how fresh the answer must be. */
export const readOptionsShape = {
  consistency: z
    .enum(['linearizable', 'session', 'local'])
    .default('linearizable')
    .describe(
      'linearizable: sees every write answered before; session: at least as new as `atLeast`; ' +
        'local: what this node has.',
    ),
  atLeast: z
    .string()
    .optional()
    .describe('Token of an earlier answer. Needed for session, refused otherwise.'),
  maxLagMs: wholeNumber(0, 86_400_000)
    .optional()
    .describe('Only for local: how old, in milliseconds, the data may be.'),
  timeoutMs,
  rows,
}

/** The read options alone, for a select Command. */
export const readOptionsSchema = z.strictObject(readOptionsShape)

/** `POST /query` with one SQL statement. */
export const queryStatementSchema = z.strictObject({
  sql: sqlText,
  params,
  database: databaseName,
  ...readOptionsShape,
})

/** `POST /query` with several statements, all read from one state of the database. */
export const queryBatchSchema = z.strictObject({
  statements: z
    .array(z.unknown())
    .min(1)
    .describe('SQL statements and select Commands of one database, read from one state of it.'),
  database: databaseName.optional(),
  ...readOptionsShape,
})

/** The search part of `GET /digest`. */
export const digestSchema = z.strictObject({
  database: databaseName,
  table: z.string().min(1).optional().describe('One table; without it the whole database.'),
  consistency: readOptionsShape.consistency,
  atLeast: readOptionsShape.atLeast,
  timeoutMs: z.coerce
    .number()
    .int()
    .min(1)
    .max(TIMEOUT_MS_MAX)
    .optional()
    .describe('Deadline in milliseconds; the default is the one of reads.'),
})

/** `POST /transactions`. */
export const beginSchema = z.strictObject({
  database: databaseName,
  timeoutMs: timeoutMs.describe(
    'Milliseconds that the transaction may be open in all; at most, and by default, the ' +
      '`maxTransactionMs` of the leader.',
  ),
})

/** The body of a commit or a rollback, which may also be empty. */
export const endSchema = z.strictObject({ timeoutMs })

/** The body of `POST /sessions`, which may also be empty. */
export const sessionsSchema = z.strictObject({})

/** The body of `POST /cancel`; the id stands in the header. */
export const cancelSchema = z.strictObject({
  database: databaseName.describe('The database that the write was for.'),
  timeoutMs,
  rows,
})

/** The body of `POST /backup`. */
export const backupSchema = z.strictObject({
  atLeast: z.int().min(0).optional().describe('The snapshot is to hold this entry of the log.'),
})

/** The body of `POST /transfer`, which may also be empty. */
export const transferSchema = z.strictObject({})

const memberName = z
  .string()
  .regex(/^[A-Za-z0-9._-]{1,64}$/, 'must be the id of a node')
  .describe('Id of the node, as `--node-id` gave it.')

/** The body of `POST /members`: one change of who belongs to the cluster, and as what. */
export const membersSchemas = {
  remove: z.strictObject({ action: z.literal('remove'), node: memberName, timeoutMs }),
  promote: z.strictObject({ action: z.literal('promote'), node: memberName, timeoutMs }),
  demote: z.strictObject({ action: z.literal('demote'), node: memberName, timeoutMs }),
  replace: z.strictObject({
    action: z.literal('replace'),
    remove: memberName.describe('Id of the voter that goes.'),
    promote: memberName.describe('Id of the learner that takes its place.'),
    timeoutMs,
  }),
  transfer: z.strictObject({
    action: z.literal('transfer'),
    node: memberName.optional().describe('Id of the next leader; the best voter if absent.'),
    timeoutMs,
  }),
  'set-address': z.strictObject({
    action: z.literal('set-address'),
    node: memberName,
    address: z.string().max(300).describe('Where the others reach the node: host:port.'),
    timeoutMs,
  }),
}

const { remove, promote, demote, replace, transfer } = membersSchemas
const setAddress = membersSchemas['set-address']

/** Any change of the members. */
export const membersSchema = z.discriminatedUnion('action', [
  remove,
  promote,
  demote,
  replace,
  transfer,
  setAddress,
])

export type MembersRequest = z.infer<typeof membersSchema>

/** The body of `POST /trust`. */
export const trustSchema = z.strictObject({ node: memberName, timeoutMs })

/** What one statement or Command gave. */
export interface ResultJson {
  /** Rows inserted, updated or deleted by the statement itself, without triggers. */
  readonly rowsAffected: number
  /** rowid of the last row that the statement inserted; absent if it inserted none. */
  readonly lastInsertId?: JsonValue
  /** Names of the columns, if the statement returns rows. */
  readonly columns?: readonly string[]
  /** Present with `columns`. Arrays, or objects if the request asked for `rows: 'objects'`. */
  readonly rows?: readonly RowJson[]
}

export type RowJson = readonly JsonValue[] | Readonly<Record<string, JsonValue>>

/** The answer of `POST /execute` and `POST /query`. */
export interface ResultsResponse {
  /** One per statement or Command of the request, in its order. */
  readonly results: readonly ResultJson[]
  /** Proof of how new the answer is: send it as `atLeast` to read at least this state anywhere. */
  readonly token: string
  /** Index of the log behind the token. */
  readonly index: number
  /** The node that answered. */
  readonly node: string
  readonly durationMs: number
  /** The request id was applied before: this is the first answer, and nothing was done now. */
  readonly repeated?: true
  /** Of a repeated answer: its rows were too many to be remembered, and are left out. */
  readonly rowsDropped?: true
}

/** The answer of `POST /transactions`. */
export interface TransactionResponse {
  /** Its name, for the paths of its calls: opaque, and secret to who has begun it. */
  readonly transaction: string
  readonly node: string
  readonly durationMs: number
}

/** The answer of a step or a rollback. Nothing has taken effect yet, so that there is no token. */
export interface StepResponse {
  /** One per statement or Command of the request, in its order; none of a rollback. */
  readonly results: readonly ResultJson[]
  readonly node: string
  readonly durationMs: number
}
/** The answer of `POST /sessions`. */
export interface SessionResponse {
  /** Write it before `/` and a sequence number into the header `Lockstep-Request`. */
  readonly session: string
  /** A sequence this far below the highest one that was used is refused as REQUEST_EXPIRED. */
  readonly window: number
  readonly node: string
}

/** The answer of `POST /cancel`: what became of the write, now and for ever. */
export type FateResponse =
  /** With the results of each SQL statement, as far as they are remembered. */
  | (ResultsResponse & { readonly fate: 'applied' })
  | { readonly fate: 'not-applied'; readonly node: string; readonly durationMs: number }

/** The answer of `GET /digest`. */
export interface DigestResponse {
  readonly database: string
  readonly table?: string
  /** Equal on two nodes at the same index if and only if, by all chance, the rows are equal. */
  readonly digest: string
  readonly rowCount: number
  readonly token: string
  readonly index: number
  readonly node: string
  readonly durationMs: number
}

/** How well a node is: `ready` serves reads and takes or forwards writes. */
export type NodeState =
  | 'starting'
  | 'ready'
  | 'no-leader'
  | 'diverged'
  | 'copying'
  | 'down'
  | 'removed'
  | 'stopping'

/** A member of the cluster as this node sees it. */
export interface MemberStatus {
  readonly nodeId: string
  readonly raftId: number
  readonly address: string
  readonly isSelf: boolean
  readonly isLeader: boolean
  readonly isVoter: boolean
  readonly isConnected: boolean
  /** Milliseconds since it was last heard; null if it never was. */
  readonly lastContactMs: number | null
  /** Failed attempts to connect since the last success. */
  readonly retries: number
  /** Last entry of the log that the leader knows it to have; null where that isn't known. */
  readonly matchIndex: number | null
  /** Entries by which it is behind the leader's log; null where that isn't known. */
  readonly lagEntries: number | null
  /** As it reported last; null if it never did. */
  readonly appliedIndex: number | null
  readonly isDiverged: boolean
  /** Its disk has less room than `--min-free-bytes`: it takes no writes as the leader. */
  readonly isShortOfRoom: boolean
  /** What it, or the way to it, last complained about; empty if nothing did. */
  readonly lastError: string
}

/** The answer of `GET /nodes`. */
export interface NodesResponse {
  readonly node: string
  readonly term: number
  /** The leader as this node knows it, or null. */
  readonly leader: { readonly nodeId: string; readonly address: string } | null
  readonly nodes: readonly MemberStatus[]
}

/**
 * What a member is. A voter counts in majorities and may lead. A learner has everything and counts
 * in none. While one voter replaces another, the one that goes is `leaving`.
 */
export type MemberRole = 'voter' | 'learner' | 'leaving'

/** The answer of `GET /members` and `POST /members`. */
export interface MembersResponse {
  readonly node: string
  /** The entry of the log that made this membership; 0 is the founding. */
  readonly index: number
  readonly leader: { readonly nodeId: string; readonly address: string } | null
  readonly members: readonly {
    readonly nodeId: string
    readonly raftId: number
    readonly address: string
    readonly role: MemberRole
    readonly isLeader: boolean
  }[]
  /** The latest nodes to be removed, whose ids are not taken again. */
  readonly removed: readonly string[]
}

/** The answer of `GET /status`. */
export interface StatusResponse {
  readonly node: string
  readonly raftId: number
  readonly address: string
  readonly clusterId: string
  readonly historyId: string
  readonly version: string
  /** Newest version of the API that the node speaks; it speaks all before too. */
  readonly apiVersion: number
  readonly engineBuild: string
  readonly startedAt: string
  readonly uptimeMs: number
  readonly state: NodeState
  readonly role: 'leader' | 'follower' | 'candidate' | 'pre-candidate' | 'none'
  readonly term: number
  readonly leader: { readonly nodeId: string; readonly address: string } | null
  /** True on a leader that has applied everything up to its own term. */
  readonly isReadyToWrite: boolean
  readonly firstIndex: number
  readonly lastIndex: number
  readonly flushedIndex: number
  readonly commitIndex: number
  readonly appliedIndex: number
  readonly durableIndex: number
  /** Milliseconds ago at which this node's data was surely the newest; null if unknown. */
  readonly lagMs: number | null
  readonly queuedRequests: number
  readonly queuedBytes: number
  readonly waitingReads: number
  readonly forwardedRequests: number
  /** Writes that wait here for a leader. */
  readonly heldRequests: number
  readonly isAdmissionPaused: boolean
  /** What is free on the disk of the data directory; null if that is not known. */
  readonly freeBytes: number | null
  /** Less is free than `--min-free-bytes`: no writes are taken here as the leader. */
  readonly isShortOfRoom: boolean
  /** Interactive transactions open on the leader. */
  readonly openTransactions: number
  readonly engine: 'opening' | 'ready' | 'down'
  readonly divergence: {
    readonly index: number
    readonly database: string
    readonly sql: string
    readonly expected: string
    readonly actual: string
    /** Over all outcomes of the entry as this node computed it. */
    readonly digest: string
  } | null
  /** The others computed that entry otherwise: this node is wrong, and takes another's data. */
  readonly isCondemned: boolean
  /**
   * The oldest entry that members computed differently without a majority yet, or after which they
   * have different `data`; with `isTie` none can come about, writes are stopped, and `POST /trust`
   * decides. Null if there is none.
   */
  readonly dispute: {
    readonly index: number
    readonly isTie: boolean
    readonly subject: 'outcome' | 'data'
  } | null
  /** The regular comparison of all data with the other nodes'; null before the node began. */
  readonly dataDigest: {
    /** A digest is being taken here. */
    readonly isRunning: boolean
    /** The last entry after which this node had the data of a majority; 0 if none was found yet. */
    readonly verifiedIndex: number
    /** How long ago that was found. */
    readonly verifiedAgoMs: number | null
    /** How long the last digest took, 0 if none was taken. */
    readonly durationMs: number
    /** Why the last one that came to nothing did. */
    readonly lastError: string
  } | null
  /** A snapshot of another node that this one takes over, or has; null if it never needed one. */
  readonly snapshot: {
    /** `none` when it is over, otherwise what is being done. */
    readonly step: string
    readonly reason: string
    /** The node that gives it. */
    readonly from: string | null
    readonly index: number
    readonly receivedBytes: number
    readonly totalBytes: number
    readonly lastError: string
    /** How many were taken over since the process began. */
    readonly installed: number
  } | null
  readonly lastError: string
  readonly counters: Readonly<Record<string, number>>
  /** Null if the engine was too busy to tell. */
  readonly databases: readonly string[] | null
  readonly connections: number
}

/** The answer of the health routes and of `POST /transfer`. */
export interface HealthResponse {
  readonly status: 'live' | 'ready'
  readonly node: string
}

/** The answer of `POST /transfer`. */
/** The answer of `POST /backup`. */
export interface BackupResponse {
  /** JSON text: index, and name, size and checksums of each file. */
  readonly manifest: string
  readonly clusterId: string
  readonly historyId: string
}

export interface TransferResponse {
  readonly node: string
  /** True if this node led and now hands over; false if it did not lead. */
  readonly isTransferring: boolean
}

/** The answer of `POST /trust`. */
export interface TrustResponse {
  readonly node: string
  /** Whose data counts from here on. */
  readonly trusted: string
}

/** Every error answer, whatever the route. */
export interface ErrorResponse {
  readonly error: {
    readonly code: ErrorCode
    readonly message: string
    readonly fate: Fate
    readonly retry: Retry
    readonly details: Readonly<Record<string, unknown>>
  }
}
