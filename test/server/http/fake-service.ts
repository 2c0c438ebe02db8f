/** A node in memory for tests of the HTTP edge: answers what the test says, and remembers calls. */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { DbError, type ErrorCode } from '../../../src/base/errors.ts'
import { Histogram } from '../../../src/base/histogram.ts'
import type { Logger } from '../../../src/base/ports.ts'
import { resultsJson } from '../../../src/base/result-json.ts'
import type { StatementResult } from '../../../src/base/sql.ts'
import type { MembersRequest, MembersResponse } from '../../../src/protocol/http-api.ts'
import type { WriteOperation } from '../../../src/protocol/parse-request.ts'
import type {
  TransactionCallback,
  TransactionOperation,
  TransactionOutcome,
} from '../../../src/replica/transaction-call.ts'
import type {
  DigestAnswer,
  JsonReadAnswer,
  Outcome,
  ReadAnswer,
  ReadOptions,
  ReplicaStatus,
  WriteCallback,
  WriteOutcome,
} from '../../../src/replica/types.ts'
import { WriteStages } from '../../../src/replica/write-stages.ts'
import { HttpServer, type HttpServerOptions } from '../../../src/server/http/server.ts'
import type {
  DigestOperation,
  JoinAnswer,
  JoinRequest,
  NodeIdentity,
  ReadOperation,
  Service,
  SnapshotAnswer,
  SnapshotRequest,
} from '../../../src/server/service.ts'

const IDENTITY: NodeIdentity = {
  nodeId: 'n1',
  raftId: 1,
  address: '127.0.0.1:7070',
  clusterId: 'c0ffee',
  historyId: 'hist1',
  groupId: 1,
}

export const STATUS: ReplicaStatus = {
  log: {
    raftId: 1,
    role: 'leader',
    isCommitCurrent: true,
    term: 3,
    leader: 1,
    firstIndex: 1,
    lastIndex: 42,
    commitIndex: 41,
    flushedIndex: 42,
    voters: [1, 2, 3],
    learners: [],
    membership: {
      index: 0,
      members: [],
      voters: [1, 2, 3],
      votersOutgoing: [],
      learners: [],
      learnersNext: [],
      nextRaftId: 4,
      removed: [],
    },
    isMember: true,
    sizeBytes: 4096,
    flushes: new Histogram(),
    peers: [
      {
        raftId: 2,
        nodeId: 'n2',
        address: '127.0.0.1:7071',
        isConnected: true,
        lastContactMs: 12,
        retries: 0,
        matchIndex: 40,
        progress: 'replicate',
        offeredIndex: undefined,
      },
      {
        raftId: 3,
        nodeId: 'n3',
        address: '127.0.0.1:7072',
        isConnected: false,
        lastContactMs: undefined,
        retries: 7,
        matchIndex: 0,
        progress: 'probe',
        offeredIndex: undefined,
      },
    ],
  },
  appliedIndex: 41,
  durableIndex: 30,
  engine: 'ready',
  engineBuild: 'sqlite test',
  isReadyToWrite: true,
  divergence: undefined,
  isCondemned: false,
  dispute: undefined,
  snapshot: {
    step: 'none',
    reason: '',
    source: undefined,
    index: 0,
    receivedBytes: 0,
    totalBytes: 0,
    lastError: '',
    installed: 0,
    failures: 3,
    lastDurationMs: 4500,
  },
  snapshotSource: { made: 5, failures: 1, lastDurationMs: 1500, madeAgoMs: 60_000 },
  dataDigest: {
    isRunning: false,
    verifiedIndex: 35,
    verifiedAgoMs: 1000.4,
    durationMs: 250,
    lastError: '',
  },
  lastError: '',
  queuedRequests: 0,
  queuedBytes: 0,
  waitingReads: 0,
  forwardedRequests: 0,
  heldRequests: 0,
  lagMs: 0,
  quorumApplyLagMs: 2,
  isAdmissionPaused: false,
  freeBytes: 5_000_000,
  isShortOfRoom: false,
  openTransactions: 3,
  reports: new Map([
    [
      2,
      {
        appliedIndex: 39,
        durableIndex: 20,
        isDiverged: false,
        isShortOfRoom: false,
        lastError: 'the disk was slow',
      },
    ],
  ]),
  counters: {
    batches: 5,
    requests: 50,
    failedRequests: 1,
    appliedEntries: 3,
    engineRestarts: 0,
    forwarded: 2,
    roleChanges: 1,
    transactions: 4,
    transactionConflicts: 1,
    transactionsExpired: 0,
    transactionReplays: 2,
    divergences: 0,
    heals: 0,
    digests: 3,
    digestFailures: 1,
  },
  stages: new WriteStages().histograms,
}

/** A name as a node gives it. */
export const TRANSACTION = `1.3.7.40.${'ab'.repeat(16)}.main`
export const MEMBERS: MembersResponse = {
  node: 'n1',
  index: 7,
  leader: { nodeId: 'n2', address: '127.0.0.1:7071' },
  members: [
    { nodeId: 'n1', raftId: 1, address: '127.0.0.1:7070', role: 'voter', isLeader: false },
    { nodeId: 'n2', raftId: 2, address: '127.0.0.1:7071', role: 'voter', isLeader: true },
  ],
  removed: ['n0'],
}

type Answer<T> = T | ((done: (answer: T) => void) => void)

export class FakeService implements Service {
  readonly dialect = 'sqlite'
  readonly version = '0.1.0'
  readonly startedAtMs = Date.now()
  readonly nodeId = 'n1'
  readonly executed: { request: WriteOperation; timeoutMs: number }[] = []
  readonly queried: { request: ReadOperation; options: ReadOptions }[] = []
  readonly digested: { request: DigestOperation; options: ReadOptions }[] = []
  readonly transacted: { operation: TransactionOperation; timeoutMs: number }[] = []
  readonly upgraded: Duplex[] = []
  readonly snapshotRequests: SnapshotRequest[] = []
  snapshotAnswer: SnapshotAnswer | DbError = new DbError('NOT_READY', 'none yet')
  identityNow: NodeIdentity | undefined = IDENTITY
  statusNow: ReplicaStatus | undefined = STATUS
  isStoppingNow = false
  refusalNow: DbError | undefined
  overloadNow: DbError | undefined
  wantedNow = Infinity
  transfers = 0
  readonly trusted: string[] = []
  trustError: DbError | undefined
  readonly changed: { request: MembersRequest; timeoutMs: number; isForwarded: boolean }[] = []
  readonly joined: JoinRequest[] = []
  membersAnswer: Outcome<MembersResponse> = { type: 'ok', value: MEMBERS }
  writeAnswer: Answer<WriteOutcome> = { type: 'ok', index: 42, results: [{ rowsAffected: 1 }] }
  readAnswer: Answer<Outcome<ReadAnswer>> = readOk([{ rowsAffected: 0, columns: ['a'], rows: [] }])
  digestAnswer: Outcome<DigestAnswer> = {
    type: 'ok',
    value: { index: 41, rows: 7, digest: 'abcd' },
  }
  transactionAnswer: Answer<TransactionOutcome> = {
    type: 'ok',
    value: { transaction: TRANSACTION, index: 0, results: [{ rowsAffected: 1 }] },
  }
  joinAnswer: JoinAnswer = { type: 'ok', text: '{"state":"waiting"}' }

  identity(): NodeIdentity | undefined {
    return this.identityNow
  }

  status(): ReplicaStatus | undefined {
    return this.statusNow
  }

  isStopping(): boolean {
    return this.isStoppingNow
  }

  refusal(): DbError | undefined {
    return this.refusalNow
  }

  overload(): DbError | undefined {
    return this.overloadNow
  }

  wantedWrites(): number {
    return this.wantedNow
  }

  members(): MembersResponse | undefined {
    return this.statusNow === undefined ? undefined : MEMBERS
  }

  changeMembers(
    request: MembersRequest,
    asked: { readonly timeoutMs: number; readonly isForwarded: boolean },
    done: (outcome: Outcome<MembersResponse>) => void,
  ): void {
    this.changed.push({ request, ...asked })
    give(this.membersAnswer, done)
  }

  execute(
    request: WriteOperation,
    options: { readonly timeoutMs: number },
    done: WriteCallback,
  ): void {
    this.executed.push({ request, timeoutMs: options.timeoutMs })
    give(this.writeAnswer, done)
  }

  query(
    request: ReadOperation,
    options: ReadOptions,
    done: (outcome: Outcome<JsonReadAnswer>) => void,
  ): void {
    this.queried.push({ request, options })
    give(this.readAnswer, outcome => {
      if (outcome.type === 'failed') return done(outcome)
      const { index, results } = outcome.value
      const json = Buffer.from(resultsJson(results, request.rows))
      done({ type: 'ok', value: { index, json } })
    })
  }

  digest(
    request: DigestOperation,
    options: ReadOptions,
    done: (outcome: Outcome<DigestAnswer>) => void,
  ): void {
    this.digested.push({ request, options })
    give(this.digestAnswer, done)
  }

  transact(
    operation: TransactionOperation,
    options: { readonly timeoutMs: number },
    done: TransactionCallback,
  ): void {
    this.transacted.push({ operation, timeoutMs: options.timeoutMs })
    give(this.transactionAnswer, done)
  }

  databases(done: (names: readonly string[]) => void): void {
    give<readonly string[]>(['main'], done)
  }

  peerError(raftId: number): string {
    return raftId === 3 ? 'refused: another incarnation' : ''
  }

  trust(nodeId: string): DbError | undefined {
    this.trusted.push(nodeId)
    return this.trustError
  }

  transferLeadership(): void {
    this.transfers += 1
  }

  join(request: JoinRequest, done: (answer: JoinAnswer) => void): void {
    this.joined.push(request)
    give(this.joinAnswer, done)
  }

  snapshot(request: SnapshotRequest): SnapshotAnswer {
    this.snapshotRequests.push(request)
    const answer = this.snapshotAnswer
    if (answer instanceof DbError) throw answer
    return answer
  }

  upgrade(_request: IncomingMessage, socket: Duplex): void {
    this.upgraded.push(socket)
    socket.end('HTTP/1.1 101 Switching Protocols\r\n\r\n')
  }
}

function give<T>(answer: Answer<T>, done: (answer: T) => void): void {
  if (typeof answer === 'function') (answer as (done: (answer: T) => void) => void)(done)
  else setImmediate(done, answer)
}

export function readOk(results: readonly StatementResult[], index = 41): Outcome<ReadAnswer> {
  return { type: 'ok', value: { index, results } }
}

export function failed(
  code: ErrorCode,
  message = `it is ${code}`,
): {
  readonly type: 'failed'
  readonly error: DbError
} {
  return { type: 'failed', error: new DbError(code, message) }
}

export const QUIET: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore }

function ignore(): void {
  // Tests look at answers, not at the logger's output.
}

export const OPTIONS: HttpServerOptions = {
  host: '127.0.0.1',
  port: 0,
  maxConnections: 100,
  receiveTimeoutMs: 5000,
  keepAliveMs: 5000,
  corsOrigin: '',
  maxBodyBytes: 100_000,
  maxReceivingBytes: 10_000_000,
  maxQueuedMs: 1000,
  maxUnreadBytes: 100_000_000,
  writeTimeoutMs: 1000,
  readTimeoutMs: 2000,
  maxResultRows: 1000,
  snapshotBytesPerSecond: 1 << 30,
  maxResultBytes: 1_000_000,
}

/** A real listener over a fake node; stopped when it goes out of scope. */
export interface TestServer extends AsyncDisposable {
  readonly url: string
  readonly port: number
  readonly service: FakeService
  post(path: string, json: unknown): Promise<{ status: number; json: JsonAnswer }>
  get(path: string): Promise<{ status: number; json: JsonAnswer }>
  /** Waits for a condition, at most five seconds. */
  until(condition: () => boolean | Promise<boolean>): Promise<void>
}

/** Any answer of the API, as far as tests look into it. */
interface JsonAnswer {
  readonly [field: string]: unknown
  readonly error?: {
    readonly code: ErrorCode
    readonly message: string
    readonly fate: string
    readonly retry: string
    readonly details: Readonly<Record<string, unknown>>
  }
}

export async function startTestServer(
  options: Partial<HttpServerOptions> = {},
  service = new FakeService(),
): Promise<TestServer> {
  const server = new HttpServer({ ...OPTIONS, ...options }, service, QUIET)
  await server.listen()
  const url = `http://127.0.0.1:${server.port}`
  const read = async (answer: Response): Promise<{ status: number; json: JsonAnswer }> => ({
    status: answer.status,
    json: (await answer.json()) as JsonAnswer,
  })
  return {
    url,
    port: server.port,
    service,
    post: async (path, json) => {
      const headers = { 'content-type': 'application/json' }
      const body = typeof json === 'string' ? json : JSON.stringify(json)
      return read(await fetch(url + path, { method: 'POST', headers, body }))
    },
    get: async path => read(await fetch(url + path)),
    until: async condition => {
      const deadline = performance.now() + 5000
      while (!(await condition())) {
        if (performance.now() > deadline) throw new Error('the condition did not come true')
        await new Promise(setImmediate)
      }
    },
    [Symbol.asyncDispose]: () => server.stop(100),
  }
}
