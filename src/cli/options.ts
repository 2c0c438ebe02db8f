/**
 * The one table of options. Command line, environment, file, --help, the reference page and the
 * typed `Options` are made from it. Unknown names and values are refused, never replaced.
 */
import { readFileSync } from 'node:fs'
import { DbError } from '../base/errors.ts'

/** What an option can be. Sizes and times are whole numbers in the unit of their name. */
export type OptionRow = {
  /** `cluster`: give every node the same. `node`: each its own. */
  readonly scope: 'cluster' | 'node'
  readonly about: string
} & (
  | { readonly type: 'text'; readonly default: string; readonly isSecret?: true }
  | { readonly type: 'list'; readonly default: readonly string[] }
  | {
      readonly type: 'whole'
      readonly unit: 'ms' | 'bytes' | 'count'
      readonly default: number
      readonly min: number
      readonly max: number
    }
  | { readonly type: 'choice'; readonly default: string; readonly choices: readonly string[] }
)

const KIB = 1024
const MIB = 1024 * KIB
const GIB = 1024 * MIB

/** Every option of `lockstep start`, in the order of the reference page. */
// prettier-ignore
export const OPTIONS = {
  // Who and where.
  data:                 { type: 'text', default: '', scope: 'node', about: 'Directory with all files of the node. Needed.' },
  nodeId:               { type: 'text', default: '', scope: 'node', about: 'Name of the node in its cluster, never used for another disk. Needed.' },
  listen:               { type: 'text', default: '127.0.0.1:7070', scope: 'node', about: 'Address to listen on, for clients and nodes alike.' },
  advertise:            { type: 'text', default: '', scope: 'node', about: 'Address at which others reach this node, if it is not the one of `listen`.' },
  join:                 { type: 'list', default: [], scope: 'node', about: 'Addresses of nodes to found the cluster with. Looked at only while the directory has no cluster yet.' },
  secret:               { type: 'text', default: '', isSecret: true, scope: 'cluster', about: 'Cluster secret, at least 16 characters; kept in the data directory. Not needed while all addresses are loopback.' },
  engine:               { type: 'text', default: 'sqlite', scope: 'node', about: 'What holds the data: `sqlite`, in files of the node; or `mysql://USER:PASSWORD@HOST:PORT/?prefix=PREFIX`, databases on a MariaDB or MySQL server whose names begin with the prefix. The same kind on every node, and for good.' },
  forward:              { type: 'choice', default: 'all', choices: ['all', 'data', 'none'], scope: 'node', about: 'Which writes a follower passes on to the leader: all, only data (no schema changes), or none.' },
  logLevel:             { type: 'choice', default: 'info', choices: ['debug', 'info', 'warn', 'error'], scope: 'node', about: 'Least important logger output that is printed.' },
  logFormat:            { type: 'choice', default: 'auto', choices: ['auto', 'json', 'pretty'], scope: 'node', about: 'Logger output as JSON lines or for people; auto looks at whether stderr is a terminal.' },
  // Raft.
  tickMs:               { type: 'whole', unit: 'ms', default: 50, min: 5, max: 1000, scope: 'cluster', about: 'Step of the clock of elections and heartbeats.' },
  heartbeatMs:          { type: 'whole', unit: 'ms', default: 100, min: 5, max: 10_000, scope: 'cluster', about: 'How often a leader gives a sign of life; a multiple of `tickMs`.' },
  electionTimeoutMs:    { type: 'whole', unit: 'ms', default: 750, min: 50, max: 60_000, scope: 'cluster', about: 'A follower that hears nothing for so long, and up to as long again by chance, asks for votes; a multiple of `tickMs`.' },
  maxMessageBytes:      { type: 'whole', unit: 'bytes', default: MIB, min: KIB, max: 16 * MIB, scope: 'node', about: 'Entries sent to a follower in one message, unless one entry alone is larger.' },
  maxInflightMessages:  { type: 'whole', unit: 'count', default: 256, min: 1, max: 10_000, scope: 'node', about: 'Messages on their way to one follower without an answer yet.' },
  maxInflightBytes:     { type: 'whole', unit: 'bytes', default: 32 * MIB, min: MIB, max: GIB, scope: 'node', about: 'Bytes of those messages.' },
  // The log on disk.
  segmentSizeBytes:     { type: 'whole', unit: 'bytes', default: 16 * MIB, min: 64 * KIB, max: GIB, scope: 'node', about: 'Size of a file of the log.' },
  logCacheBytes:        { type: 'whole', unit: 'bytes', default: 32 * MIB, min: MIB, max: 16 * GIB, scope: 'node', about: 'Newest entries kept in memory for followers that are a little behind.' },
  logBatchBytes:        { type: 'whole', unit: 'bytes', default: 4 * MIB, min: 64 * KIB, max: 256 * MIB, scope: 'node', about: 'Most bytes that share one flush of the disk.' },
  logFillBytes:         { type: 'whole', unit: 'bytes', default: MIB, min: 0, max: 256 * MIB, scope: 'node', about: 'Zeros written ahead in a file of the log, so that a flush need not grow it; 0 for none.' },
  maxLogBytes:          { type: 'whole', unit: 'bytes', default: GIB, min: 64 * KIB, max: 1024 * GIB, scope: 'node', about: 'While the log is smaller it keeps what a member lacks. Beyond, it keeps half of it, and who is further behind gets a snapshot.' },
  logReserveBytes:      { type: 'whole', unit: 'bytes', default: 64 * MIB, min: 0, max: 1024 * GIB, scope: 'node', about: 'So much more than `--max-log-bytes` the log of a leader may keep of what a member still lacks that is there, as one that takes a snapshot.' },
  minFreeBytes:         { type: 'whole', unit: 'bytes', default: 64 * MIB, min: 0, max: 1024 * GIB, scope: 'node', about: 'With less free on the disk of the data directory the node takes no writes as the leader (DISK_FULL) and hands leadership to a node with room; 0 for no limit.' },
  snapshotBytesPerSecond: { type: 'whole', unit: 'bytes', default: GIB, min: 64 * KIB, max: 1024 * GIB, scope: 'node', about: 'What all snapshots that are read from this node may take together in a second.' },
  // Writes.
  writeTimeoutMs:       { type: 'whole', unit: 'ms', default: 10_000, min: 10, max: 600_000, scope: 'node', about: 'Deadline of a write that names none.' },
  maxExecuteMs:         { type: 'whole', unit: 'ms', default: 5000, min: 100, max: 600_000, scope: 'node', about: 'A batch of writes that executes longer, or past the deadlines of all its requests, is stopped with STATEMENT_TIMEOUT.' },
  maxBatchRequests:     { type: 'whole', unit: 'count', default: 512, min: 1, max: 100_000, scope: 'node', about: 'Requests that share one entry of the log.' },
  maxBatchBytes:        { type: 'whole', unit: 'bytes', default: 4 * MIB, min: KIB, max: 64 * MIB, scope: 'node', about: 'Bytes of the requests that share one entry of the log.' },
  maxQueuedRequests:    { type: 'whole', unit: 'count', default: 10_000, min: 1, max: 1_000_000, scope: 'node', about: 'Writes that wait for the writer; more are OVERLOADED.' },
  maxQueuedBytes:       { type: 'whole', unit: 'bytes', default: 64 * MIB, min: MIB, max: 16 * GIB, scope: 'node', about: 'Bytes of the writes that wait; more are OVERLOADED.' },
  maxQueuedMs:          { type: 'whole', unit: 'ms', default: 1000, min: 1, max: 600_000, scope: 'node', about: 'While more than one batch waits, and the oldest write for longer than this, more are OVERLOADED: they would wait as long.' },
  maxForwardedRequests: { type: 'whole', unit: 'count', default: 10_000, min: 1, max: 1_000_000, scope: 'node', about: 'Writes passed on to the leader without an answer yet; more are OVERLOADED.' },
  maxApplyBytes:        { type: 'whole', unit: 'bytes', default: 4 * MIB, min: KIB, max: 256 * MIB, scope: 'node', about: 'Entries that a follower hands to its engine at once.' },
  maxApplyLagMs:        { type: 'whole', unit: 'ms', default: 500, min: 10, max: 600_000, scope: 'node', about: "The leader takes no more writes while a quorum's engines are behind by more." },
  maxApplyLagBytes:     { type: 'whole', unit: 'bytes', default: 64 * MIB, min: MIB, max: 16 * GIB, scope: 'node', about: 'The same in bytes of the log.' },
  transactionIdleMs:    { type: 'whole', unit: 'ms', default: 5, min: 0, max: 1000, scope: 'node', about: 'An interactive transaction that idles so long gives way to others that wait; after conflicts up to 16 times as long.' },
  transactionTurnMs:    { type: 'whole', unit: 'ms', default: 50, min: 1, max: 60_000, scope: 'node', about: 'One that does not idle gives way to others that wait after this time; after conflicts up to 16 times as long.' },
  transactionIdleTimeoutMs: { type: 'whole', unit: 'ms', default: 30_000, min: 100, max: 3_600_000, scope: 'node', about: 'One that nobody speaks to for so long is rolled back: TRANSACTION_EXPIRED.' },
  maxTransactionMs:     { type: 'whole', unit: 'ms', default: 60_000, min: 100, max: 3_600_000, scope: 'node', about: 'One that is open for so long is rolled back: TRANSACTION_EXPIRED.' },
  maxTransactions:      { type: 'whole', unit: 'count', default: 1000, min: 1, max: 100_000, scope: 'node', about: 'Open transactions on the leader; more are OVERLOADED.' },
  maxTransactionsBytes: { type: 'whole', unit: 'bytes', default: 256 * MIB, min: MIB, max: 16 * GIB, scope: 'node', about: 'Bytes of the statements of all open transactions; more are OVERLOADED.' },
  reportMs:             { type: 'whole', unit: 'ms', default: 100, min: 10, max: 10_000, scope: 'node', about: 'How often a node tells the others how far it is.' },
  digestIntervalMs:     { type: 'whole', unit: 'ms', default: 3_600_000, min: 0, max: 604_800_000, scope: 'node', about: 'How often the leader has all members take a digest of all their data and compare them; 0 is never. Reading takes at most half an hour.' },
  // Reads.
  readTimeoutMs:        { type: 'whole', unit: 'ms', default: 10_000, min: 10, max: 600_000, scope: 'node', about: 'Deadline of a read that names none.' },
  maxReaders:           { type: 'whole', unit: 'count', default: 4, min: 1, max: 64, scope: 'node', about: 'Processes that run reads. One is started, more as they are needed.' },
  maxWaitingReads:      { type: 'whole', unit: 'count', default: 10_000, min: 1, max: 1_000_000, scope: 'node', about: 'Reads that wait for their index; more are OVERLOADED.' },
  maxResultRows:        { type: 'whole', unit: 'count', default: 100_000, min: 1, max: 10_000_000, scope: 'node', about: 'Rows of one answer; a read of more is TOO_LARGE.' },
  maxResultBytes:       { type: 'whole', unit: 'bytes', default: 16 * MIB, min: KIB, max: GIB, scope: 'node', about: 'Bytes of one answer, about; a read of more is TOO_LARGE.' },
  // HTTP.
  maxBodyBytes:         { type: 'whole', unit: 'bytes', default: 8 * MIB, min: KIB, max: 64 * MIB, scope: 'node', about: 'Largest body of a request; a larger one is TOO_LARGE.' },
  maxReceivingBytes:    { type: 'whole', unit: 'bytes', default: 256 * MIB, min: MIB, max: 64 * GIB, scope: 'node', about: 'Bytes of all bodies that are being received; beyond, requests are OVERLOADED.' },
  maxConnections:       { type: 'whole', unit: 'count', default: 4096, min: 1, max: 100_000, scope: 'node', about: 'Connections of clients; on more of them only health, status and metrics are answered, all else is OVERLOADED.' },
  maxUnreadBytes:       { type: 'whole', unit: 'bytes', default: 256 * MIB, min: MIB, max: 64 * GIB, scope: 'node', about: 'Bytes of all answers that clients have not read; beyond, connections are closed, those that take nothing first. At least twice `--max-result-bytes`.' },
  receiveTimeoutMs:     { type: 'whole', unit: 'ms', default: 30_000, min: 100, max: 600_000, scope: 'node', about: 'A request must have arrived whole within this time.' },
  keepAliveMs:          { type: 'whole', unit: 'ms', default: 65_000, min: 1000, max: 3_600_000, scope: 'node', about: 'An unused connection of a client is closed after this time.' },
  corsOrigin:           { type: 'text', default: '', scope: 'node', about: 'Origin whose pages may use the API from a browser; `*` for any, none if absent. Others are FORBIDDEN.' },
} as const satisfies Record<string, OptionRow>

type OptionName = keyof typeof OPTIONS

type ValueOf<Row> = Row extends { type: 'whole' }
  ? number
  : Row extends { type: 'list' }
    ? readonly string[]
    : Row extends { type: 'choice'; choices: readonly (infer Choice)[] }
      ? Choice
      : string

/** All options with their values. */
export type Options = { readonly [Name in OptionName]: ValueOf<(typeof OPTIONS)[Name]> }

/** Where values come from; the first that has one wins: command line, environment, file. */
export interface OptionSources {
  /** By the option's name, as text. */
  readonly flags: Readonly<Record<string, string | undefined>>
  readonly env: Readonly<Record<string, string | undefined>>
  /** Path of a JSON file of names and values. */
  readonly file: string | undefined
}

const ENV_PREFIX = 'LOCKSTEP_'

/** `--election-timeout-ms` for `electionTimeoutMs`. */
export function flagName(name: string): string {
  return `--${name.replaceAll(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)}`
}

/** `LOCKSTEP_ELECTION_TIMEOUT_MS` for `electionTimeoutMs`. */
export function envName(name: string): string {
  return ENV_PREFIX + name.replaceAll(/[A-Z]/g, letter => `_${letter}`).toUpperCase()
}

/** Reads, checks and completes the options. Throws INVALID_REQUEST naming the one at fault. */
export function readOptions(sources: OptionSources): Options {
  refuseUnknownEnv(sources.env)
  const file = sources.file ?? sources.env[envName('config')]
  const fileValues = file === undefined ? {} : readFileValues(file)
  const entries = Object.entries<OptionRow>(OPTIONS).map(([name, row]) => {
    const flag = sources.flags[name]
    const env = sources.env[envName(name)]
    if (flag !== undefined) return [name, parseValue(row, flag, flagName(name))]
    if (env !== undefined) return [name, parseValue(row, env, envName(name))]
    const value = fileValues[name]
    return [name, value === undefined ? row.default : parseValue(row, value, `${file}: ${name}`)]
  })
  const options = Object.fromEntries(entries) as Options
  checkTogether(options)
  return options
}

function refuseUnknownEnv(env: OptionSources['env']): void {
  const known = new Set([...Object.keys(OPTIONS), 'config'].map(envName))
  for (const name of Object.keys(env)) {
    // Kubernetes sets such variables by itself for a service named lockstep.
    const isForeign = /^LOCKSTEP_(?:SERVICE_|PORT(?:_|$))/.test(name)
    if (!name.startsWith(ENV_PREFIX) || known.has(name) || isForeign) continue
    throw invalid(`the environment holds ${name}, which is no option`)
  }
}

function readFileValues(path: string): Readonly<Record<string, unknown>> {
  let json: unknown
  try {
    json = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw invalid(`the options file ${path} can not be read: ${reason}`, error)
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw invalid(`the options file ${path} must hold a JSON object of names and values`)
  }
  const unknown = Object.keys(json).find(name => !Object.hasOwn(OPTIONS, name))
  if (unknown !== undefined) throw invalid(`${path}: ${unknown} is no option`)
  return json as Readonly<Record<string, unknown>>
}

/** From the text of a flag or variable, or the JSON of a file. */
function parseValue(row: OptionRow, given: unknown, place: string): string | number | string[] {
  switch (row.type) {
    case 'whole':
      return parseWhole(row, given, place)
    case 'list': {
      const items: unknown[] = Array.isArray(given) ? given : String(given).split(',')
      const texts = items.map(item => String(item).trim()).filter(item => item !== '')
      return texts
    }
    case 'choice':
      if (typeof given === 'string' && row.choices.includes(given)) return given
      throw invalid(`${place} must be one of ${row.choices.join(', ')}, not ${String(given)}`)
    case 'text':
      if (typeof given === 'string') return given
      throw invalid(`${place} must be text`)
    default:
      throw invalid(`${place} can not be read`)
  }
}

function parseWhole(
  row: Extract<OptionRow, { type: 'whole' }>,
  given: unknown,
  place: string,
): number {
  const isText = typeof given === 'string' && /^\d{1,15}$/.test(given)
  const value = isText ? Number(given) : given
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) {
    const unit = row.unit === 'count' ? 'a whole number' : `a whole number of ${row.unit}`
    throw invalid(`${place} must be ${unit}, not ${String(given)}`)
  }
  if (value >= row.min && value <= row.max) return value
  throw invalid(`${place} must be between ${row.min} and ${row.max}, not ${value}`)
}

/** What no option can know alone. */
function checkTogether(options: Options): void {
  const { tickMs, heartbeatMs, electionTimeoutMs } = options
  for (const name of ['heartbeatMs', 'electionTimeoutMs'] as const) {
    if (options[name] % tickMs !== 0) {
      throw invalid(
        `${flagName(name)} (${options[name]}) must be a multiple of --tick-ms (${tickMs})`,
      )
    }
  }
  if (electionTimeoutMs < 3 * heartbeatMs) {
    const least = `at least three times --heartbeat-ms (${heartbeatMs})`
    const reason = 'or a lost message deposes a leader'
    throw invalid(`--election-timeout-ms (${electionTimeoutMs}) must be ${least}, ${reason}`)
  }
  requireAtLeast(options, 'maxQueuedBytes', 'maxBodyBytes')
  requireAtLeast(options, 'maxReceivingBytes', 'maxBodyBytes')
}

type SizeName = 'maxQueuedBytes' | 'maxReceivingBytes' | 'maxBodyBytes'

function requireAtLeast(options: Options, larger: SizeName, smaller: SizeName): void {
  if (options[larger] >= options[smaller]) return
  const flags = `${flagName(larger)} must be at least ${flagName(smaller)}`
  throw invalid(`${flags}, or such a body never gets in`)
}

function invalid(message: string, cause?: unknown): DbError {
  return new DbError('INVALID_REQUEST', message, { cause })
}
