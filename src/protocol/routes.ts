/** The one table of routes: the server answers what stands here, the page is made from it. */
import type { ErrorCode } from '../base/errors.ts'

interface RouteRow {
  readonly method: 'GET' | 'POST'
  readonly path: string
  /** What it does, in one sentence. */
  readonly about: string
  /** What the caller may rely on. */
  readonly guarantee: string
  /** Names of schemas and types in http-api.ts, for the reference page. */
  readonly request:
    | 'execute'
    | 'query'
    | 'digest'
    | 'cancel'
    | 'begin'
    | 'end'
    | 'transfer'
    | 'backup'
    | 'members'
    | 'trust'
    | 'bytes'
    | 'none'
  readonly response:
    | 'ResultsResponse'
    | 'SessionResponse'
    | 'FateResponse'
    | 'TransactionResponse'
    | 'StepResponse'
    | 'DigestResponse'
    | 'StatusResponse'
    | 'NodesResponse'
    | 'HealthResponse'
    | 'TransferResponse'
    | 'BackupResponse'
    | 'TrustResponse'
    | 'MembersResponse'
    | 'Prometheus text'
    | 'founding'
    | 'frames'
    | 'manifest or file'
  /** Errors that it can end in, beside those of every route. */
  readonly errors: readonly ErrorCode[]
  /** Answered even when the node is full, stopping or not founded yet. */
  readonly isAlwaysOn: boolean
}

const SQL_ERRORS = [
  'UNSUPPORTED',
  'UNKNOWN_DATABASE',
  'UNKNOWN_TABLE',
  'SQL_SYNTAX',
  'SQL_CONSTRAINT',
  'SQL_ERROR',
] as const

const ID_ERRORS = [
  'REQUEST_ID_REUSED',
  'REQUEST_CANCELLED',
  'REQUEST_EXPIRED',
  'WRONG_HISTORY',
] as const

/** With `--engine mysql` the server of the node may be away, or not let it in. */
const SERVER_ERRORS = ['SERVER_DOWN', 'SERVER_REFUSED', 'SERVER_UNFIT'] as const

const NODE_ERRORS = [
  'ENGINE_RESTARTED',
  'DISK_FULL',
  'DISK_FAILED',
  'NODE_FAULT',
  ...SERVER_ERRORS,
] as const

const TRANSACTION_ERRORS = [
  'DISPUTED',
  'TRANSACTION_CONFLICT',
  'TRANSACTION_LOST',
  'TRANSACTION_EXPIRED',
  'STATEMENT_TIMEOUT',
  'NOT_LEADER',
  'NO_LEADER',
  'DIVERGED',
  ...NODE_ERRORS,
] as const

/** Errors that any route can end in. */
export const COMMON_ERRORS = [
  'INVALID_REQUEST',
  'UNSUPPORTED',
  'NOT_FOUND',
  'METHOD_NOT_ALLOWED',
  'TOO_LARGE',
  'SLOW_REQUEST',
  'OVERLOADED',
  'NOT_READY',
  'SHUTTING_DOWN',
  'INTERNAL',
] as const satisfies readonly ErrorCode[]

/** Every route of a node's one port, in the order of the reference page. */
export const ROUTES = {
  execute: {
    method: 'POST',
    path: '/execute',
    about:
      'Writes: one Command, one SQL statement, or an array of them (all take effect, or none); ' +
      'or a stream of such requests, a line of JSON each, with a line as the answer to each.',
    guarantee:
      'When it answers, the write is on the disks of a majority, visible to every linearizable ' +
      'read. A failure says by `fate` whether the write may still take effect. With a request id ' +
      '(header `Idempotency-Key` or `Lockstep-Request`) it may be sent again, to any node: it ' +
      'takes effect once and gives its first answer again, marked `repeated`. Each line of a ' +
      'stream is a request by itself; one unanswered when the answer ends whole was not taken.',
    request: 'execute',
    response: 'ResultsResponse',
    errors: [
      ...SQL_ERRORS,
      ...ID_ERRORS,
      'FORBIDDEN',
      'DATABASE_EXISTS',
      'STATEMENT_TIMEOUT',
      'NOT_LEADER',
      'NO_LEADER',
      'DIVERGED',
      'DISPUTED',
      'LEADERSHIP_LOST',
      'COMMIT_TIMEOUT',
      'CONNECTION_LOST',
      ...NODE_ERRORS,
    ],
    isAlwaysOn: false,
  },
  query: {
    method: 'POST',
    path: '/query',
    about: 'Reads: a select Command, one SQL statement, or an array of them (read from one state).',
    guarantee:
      'Linearizable (default) sees every write answered before it was asked. Session is at least ' +
      'as new as its token. Local is what this node has, not older than `maxLagMs` if given.',
    request: 'query',
    response: 'ResultsResponse',
    errors: [
      ...SQL_ERRORS,
      'FORBIDDEN',
      'QUERY_TIMEOUT',
      ...SERVER_ERRORS,
      'NOT_LEADER',
      'NO_LEADER',
      'STALE_READ',
      'WRONG_HISTORY',
      'DIVERGED',
      'ENGINE_RESTARTED',
    ],
    isAlwaysOn: false,
  },
  begin: {
    method: 'POST',
    path: '/transactions',
    about: 'Begins an interactive transaction on one database and names it.',
    guarantee:
      'Its statements see one state of the database and what they did themselves; nobody else ' +
      'sees that before the commit. Committed transactions are serializable.',
    request: 'begin',
    response: 'TransactionResponse',
    errors: ['FORBIDDEN', 'NOT_LEADER', 'NO_LEADER', 'DIVERGED', 'TRANSACTION_LOST'],
    isAlwaysOn: false,
  },
  step: {
    method: 'POST',
    path: '/transactions/{transaction}/execute',
    about: 'Runs statements in a transaction: all of them or none. A failed one leaves it open.',
    guarantee:
      'Only the end of the transaction decides whether they take effect. TRANSACTION_… errors, ' +
      'and those with `details.transaction` = `over`, mean that it is rolled back; a step that ' +
      'could not be run before its deadline ends it, so that no commit behind it commits a half.',
    request: 'execute',
    response: 'StepResponse',
    errors: [...SQL_ERRORS, 'FORBIDDEN', ...TRANSACTION_ERRORS],
    isAlwaysOn: false,
  },
  look: {
    method: 'POST',
    path: '/transactions/{transaction}/query',
    about: 'Reads in a transaction, what it has written included.',
    guarantee: 'As for `execute` in a transaction; a statement that writes is refused.',
    request: 'query',
    response: 'StepResponse',
    errors: [...SQL_ERRORS, 'FORBIDDEN', ...TRANSACTION_ERRORS],
    isAlwaysOn: false,
  },
  commit: {
    method: 'POST',
    path: '/transactions/{transaction}/commit',
    about: 'Commits a transaction: as one entry of the log, all of it or nothing.',
    guarantee:
      'As for `execute`. Of one that only read it proves that what was read was the newest. Sent ' +
      'again, under the same request id if it had one, it tells what became of the first, at any ' +
      'node. The statements are gone by then: it tells of the id, so give no other work the same.',
    request: 'end',
    response: 'ResultsResponse',
    errors: [
      'FORBIDDEN',
      ...ID_ERRORS,
      ...TRANSACTION_ERRORS,
      'LEADERSHIP_LOST',
      'COMMIT_TIMEOUT',
      'CONNECTION_LOST',
    ],
    isAlwaysOn: false,
  },
  rollback: {
    method: 'POST',
    path: '/transactions/{transaction}/rollback',
    about: 'Ends a transaction without any effect.',
    guarantee: 'TRANSACTION_LOST and TRANSACTION_EXPIRED say that it was over already.',
    request: 'end',
    response: 'StepResponse',
    errors: ['FORBIDDEN', ...TRANSACTION_ERRORS],
    isAlwaysOn: false,
  },
  sessions: {
    method: 'POST',
    path: '/sessions',
    about: 'Opens a session: a name under which a client numbers its writes, for request ids.',
    guarantee:
      'No other client gets the same. Nothing is stored until its first write, so that it costs ' +
      'nothing to leave it. The sessions used least recently are forgotten when there are many.',
    request: 'none',
    response: 'SessionResponse',
    errors: [],
    isAlwaysOn: false,
  },
  cancel: {
    method: 'POST',
    path: '/cancel',
    about: 'Tells the fate of the write with the request id of the header, for good.',
    guarantee:
      'Applied, with its first answer; or not applied, and then it never will be, even if it ' +
      'still arrives: it is then refused as REQUEST_CANCELLED. It needs no body of the write, ' +
      'which its client may not have any more, and tells of whatever had the id. REQUEST_EXPIRED ' +
      'where the id is not known and may have been forgotten; a key then needs `Lockstep-Since`.',
    request: 'cancel',
    response: 'FateResponse',
    errors: [
      'FORBIDDEN',
      'REQUEST_EXPIRED',
      'WRONG_HISTORY',
      'NOT_LEADER',
      'NO_LEADER',
      'LEADERSHIP_LOST',
      'COMMIT_TIMEOUT',
      'CONNECTION_LOST',
      ...NODE_ERRORS,
    ],
    isAlwaysOn: false,
  },
  digest: {
    method: 'GET',
    path: '/digest',
    about: 'A digest over all rows of a table or of a whole database, to compare nodes.',
    guarantee: 'Two nodes that give the same index and have the same rows give the same digest.',
    request: 'digest',
    response: 'DigestResponse',
    errors: [
      'UNKNOWN_DATABASE',
      'UNKNOWN_TABLE',
      'QUERY_TIMEOUT',
      ...SERVER_ERRORS,
      'NOT_LEADER',
      'NO_LEADER',
      'STALE_READ',
      'WRONG_HISTORY',
      'DIVERGED',
      'ENGINE_RESTARTED',
    ],
    isAlwaysOn: false,
  },
  status: {
    method: 'GET',
    path: '/status',
    about: 'Everything that this node knows of itself: role, term, indexes, lag, queues, faults.',
    guarantee: 'One moment of this node. It asks no other node and never waits for one.',
    request: 'none',
    response: 'StatusResponse',
    errors: [],
    isAlwaysOn: true,
  },
  nodes: {
    method: 'GET',
    path: '/nodes',
    about: 'The members of the cluster as this node sees them, with their lag and last errors.',
    guarantee: 'Indexes and lag of others are known to the leader; other nodes answer null there.',
    request: 'none',
    response: 'NodesResponse',
    errors: [],
    isAlwaysOn: true,
  },
  live: {
    method: 'GET',
    path: '/health/live',
    about: 'Says that the process runs and answers. Restart it if this fails.',
    guarantee: 'Depends on nothing but the process itself.',
    request: 'none',
    response: 'HealthResponse',
    errors: [],
    isAlwaysOn: true,
  },
  ready: {
    method: 'GET',
    path: '/health/ready',
    about: 'Says whether to send requests here: founded, caught up, not diverged, leader known.',
    guarantee: 'NOT_READY (503) with the reason otherwise.',
    request: 'none',
    response: 'HealthResponse',
    errors: ['NOT_READY', 'NO_LEADER', 'DIVERGED', 'SHUTTING_DOWN'],
    isAlwaysOn: true,
  },
  metrics: {
    method: 'GET',
    path: '/metrics',
    about: 'Metrics as Prometheus text; see metrics.md for each of them.',
    guarantee: 'Counts since the process began.',
    request: 'none',
    response: 'Prometheus text',
    errors: [],
    isAlwaysOn: true,
  },
  members: {
    method: 'GET',
    path: '/members',
    about: 'Who belongs to the cluster, and as what, as this node knows it.',
    guarantee: 'As of the entry `index`; a node that is behind knows older members.',
    request: 'none',
    response: 'MembersResponse',
    errors: ['REMOVED'],
    isAlwaysOn: true,
  },
  changeMembers: {
    method: 'POST',
    path: '/members',
    about: 'Removes, promotes or demotes a member, replaces a voter, or hands leadership over.',
    guarantee:
      'Any node takes it and passes it on to the leader. When it answers, the change is in ' +
      'force. One change at a time; asked for again, what is done already is refused or changes ' +
      'nothing. A leader that has to go hands over first: no write fails by it.',
    request: 'members',
    response: 'MembersResponse',
    errors: [
      'FORBIDDEN',
      'UNKNOWN_NODE',
      'MEMBERS_REFUSED',
      'MEMBERS_BUSY',
      'REMOVED',
      'NOT_LEADER',
      'NO_LEADER',
      'LEADERSHIP_LOST',
      'COMMIT_TIMEOUT',
      'CONNECTION_LOST',
    ],
    isAlwaysOn: false,
  },
  transfer: {
    method: 'POST',
    path: '/transfer',
    about: 'Asks this node, if it leads, to hand over to the most advanced other voter.',
    guarantee: 'No write fails by it. Does nothing on a node that does not lead.',
    request: 'transfer',
    response: 'TransferResponse',
    errors: ['FORBIDDEN'],
    isAlwaysOn: false,
  },
  trust: {
    method: 'POST',
    path: '/trust',
    about: 'An operator says which node is right, when no majority of the nodes agrees.',
    guarantee:
      'Taken only while members computed one entry differently and nothing has decided it. All ' +
      'members hear of it; those that computed something else take the data of the others.',
    request: 'trust',
    response: 'TrustResponse',
    errors: ['FORBIDDEN', 'UNKNOWN_NODE', 'MEMBERS_REFUSED'],
    isAlwaysOn: false,
  },
  join: {
    method: 'POST',
    path: '/join',
    about: 'Nodes found a cluster with it, or join one: proven by the secret.',
    guarantee:
      'All founders learn one and the same list before any of them votes. Who joins later ' +
      'becomes a learner through the log; the same disk may ask again and again.',
    request: 'bytes',
    response: 'founding',
    errors: ['UNAUTHENTICATED', 'FORBIDDEN', 'MEMBERS_REFUSED', 'MEMBERS_BUSY'],
    isAlwaysOn: true,
  },
  backup: {
    method: 'POST',
    path: '/backup',
    about: 'Has a snapshot of the data made for a backup; `lockstep backup` does all of it.',
    guarantee:
      'NOT_READY with `isMaking` in its details while it is being made: ask again. Its files are ' +
      'of one moment, at entry `atLeast` or later, and stay for a minute after the last was read.',
    request: 'backup',
    response: 'BackupResponse',
    errors: ['FORBIDDEN', 'SNAPSHOT_FAILED', 'DISK_FULL', 'DIVERGED'],
    isAlwaysOn: false,
  },
  readBackup: {
    method: 'GET',
    path: '/backup',
    about: 'A file of such a snapshot: `id` and `file` as in its manifest, from `offset` on.',
    guarantee: 'The very bytes whose checksums the manifest holds.',
    request: 'none',
    response: 'manifest or file',
    errors: ['SNAPSHOT_FAILED', 'DIVERGED'],
    isAlwaysOn: false,
  },
  snapshot: {
    method: 'GET',
    path: '/snapshot',
    about: 'Nodes copy a snapshot of the data over it: its manifest, then its files, part by part.',
    guarantee:
      'All files are of one moment between two entries. Refused without the cluster secret.',
    request: 'none',
    response: 'manifest or file',
    errors: ['UNAUTHENTICATED', 'FORBIDDEN', 'WRONG_HISTORY', 'NOT_READY', 'SNAPSHOT_FAILED'],
    isAlwaysOn: true,
  },
  replicate: {
    method: 'GET',
    path: '/replicate',
    about: 'Nodes replicate over it: an HTTP Upgrade, a mutual proof of the secret, then frames.',
    guarantee: 'Refused without the cluster secret, unless every address is loopback.',
    request: 'none',
    response: 'frames',
    errors: ['UNAUTHENTICATED', 'FORBIDDEN'],
    isAlwaysOn: true,
  },
} as const satisfies Record<string, RouteRow>

export type RouteName = keyof typeof ROUTES

/** A row of the table, as the server needs it. */
export type Route = RouteRow

const BY_PATH: ReadonlyMap<string, readonly RouteName[]> = Map.groupBy(
  Object.keys(ROUTES) as RouteName[],
  name => ROUTES[name].path,
)

const TRANSACTION = '{transaction}'
const TRANSACTION_PATH = /^\/transactions\/([^/]{1,200})(\/\w+)$/

/** The route at `path` for `method`, or the first at the path if none there is for it. */
export function routeAt(path: string, method: string): RouteName | undefined {
  const [, , call] = TRANSACTION_PATH.exec(path) ?? []
  const at = call === undefined ? path : `${ROUTES.begin.path}/${TRANSACTION}${call}`
  const names = BY_PATH.get(at)
  return names?.find(name => ROUTES[name].method === method) ?? names?.[0]
}

/** The name of the transaction in the path of one of its calls; empty in any other path. */
export function transactionIn(path: string): string {
  return TRANSACTION_PATH.exec(path)?.[1] ?? ''
}
