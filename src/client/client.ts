/**
 * The typed client. It finds the leader, repeats what is safe to repeat until a deadline, and
 * carries the token by which later reads see earlier writes.
 */
import { DbError, type ErrorCode } from '../base/errors.ts'
import type { Command } from '../protocol/commands.ts'
import type {
  MembersRequest,
  MembersResponse,
  NodesResponse,
  ResultsResponse,
  StatusResponse,
  TransferResponse,
} from '../protocol/http-api.ts'
import { isNewerToken } from '../protocol/token.ts'
import type { OutputValue } from '../protocol/values.ts'
import { Nodes } from './nodes.ts'
import {
  commandJson,
  itemJson,
  readResults,
  statementJson,
  type AnswerProof,
  type BatchItem,
  type DefaultRow,
  type Params,
  type Result,
} from './requests.ts'
import { nextStep, type RequestKind } from './retry.ts'
import { sleep } from './sleep.ts'
import { SqlText } from './sql.ts'
import { fetchTransport, type Transport } from './transport.ts'

/** How fresh a read is: see the reference of `POST /query`. */
export type Consistency = 'linearizable' | 'session' | 'local'

export interface ClientOptions {
  /** Some nodes of the cluster, as `host:port` or URL. The others are found by asking them. */
  readonly nodes: readonly string[]
  /** Used where a request names no database. */
  readonly database?: string
  /** Until then a request is tried again where that is safe. 10 s if absent. */
  readonly timeoutMs?: number
  /** Of reads that ask for none: linearizable if absent. */
  readonly consistency?: Consistency
  /** False: only ever speak to `nodes`, as behind a proxy. */
  readonly discover?: boolean
  /** Another way to send requests than `fetch`. */
  readonly transport?: Transport
}

export interface RequestOptions {
  readonly database?: string
  readonly timeoutMs?: number
  /** Ends the wait. A write that was already sent may still take effect. */
  readonly signal?: AbortSignal
}

export interface QueryOptions extends RequestOptions {
  readonly consistency?: Consistency
  /** For local reads: how old the data may be, in milliseconds. */
  readonly maxLagMs?: number
}

/** The answer to one statement. */
export type ExecuteResult<Row = DefaultRow> = Result<Row> & AnswerProof

/** The answer to a batch: one result for each item. */
export interface BatchResult extends AnswerProof {
  readonly results: readonly Result[]
}

/** What a row of a query may be: an object of columns. */
export type RowShape<Row> = { readonly [Column in keyof Row]: OutputValue }

/** Makes a client. It opens connections as it needs them and holds no other resources. */
export function createClient(options: ClientOptions): Client {
  if (options.nodes.length === 0) {
    throw new DbError('INVALID_REQUEST', 'createClient needs the address of at least one node')
  }
  return new Client(options, new Nodes(options.nodes), undefined)
}

/** How long one node may take to say who leads. */
const DISCOVERY_MS = 1000
/** What the client waits longer than the node, so that the node's own word comes first. */
const GRACE_MS = 1000

/** Errors after which other nodes are asked for a while. */
const RESTS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'NOT_READY',
  'NO_LEADER',
  'STALE_READ',
  'DIVERGED',
  'SHUTTING_DOWN',
  'LEADERSHIP_LOST',
  'COMMIT_TIMEOUT',
  'CONNECTION_LOST',
  'ENGINE_RESTARTED',
  'DISK_FULL',
  'DISK_FAILED',
  'CORRUPT',
])

interface Shot {
  readonly kind: RequestKind
  readonly path: string
  /** True if any node will do; else the leader is preferred. */
  readonly isAnyNode: boolean
  readonly deadlineMs: number
  readonly signal: AbortSignal | undefined
  /** The body for a node that has this much time left; absent for a GET. */
  readonly body: ((timeoutMs: number) => string) | undefined
}

export class Client {
  readonly #options: ClientOptions
  readonly #nodes: Nodes
  readonly #transport: Transport
  #token: string | undefined
  #discovery: Promise<void> | undefined

  /** Use {@link createClient}. */
  constructor(options: ClientOptions, nodes: Nodes, token: string | undefined) {
    this.#options = options
    this.#nodes = nodes
    this.#transport = options.transport ?? fetchTransport()
    this.#token = token
  }

  /** Of the newest answer so far: what a session read is at least as new as. */
  get token(): string | undefined {
    return this.#token
  }

  /**
   * A client that shares the connections but carries its own token, for one user of many. `token`
   * may come from another process.
   */
  session(token?: string): Client {
    return new Client(this.#options, this.#nodes, token)
  }

  /**
   * Runs one statement that writes, or a script of several without values: all or nothing, the
   * result is the last one's. On failure `error.fate` says whether it may have happened.
   */
  execute<Row extends RowShape<Row> = DefaultRow>(
    statement: SqlText,
    options?: RequestOptions,
  ): Promise<ExecuteResult<Row>>
  execute<Row extends RowShape<Row> = DefaultRow>(
    statement: string,
    params?: Params,
    options?: RequestOptions,
  ): Promise<ExecuteResult<Row>>
  async execute<Row extends RowShape<Row> = DefaultRow>(
    statement: string | SqlText,
    second?: Params | RequestOptions,
    third?: RequestOptions,
  ): Promise<ExecuteResult<Row>> {
    const { json, options } = splitArguments(statement, second, third)
    return this.#one(await this.#write(json, options))
  }

  /** Runs several statements or Commands of one database: all take effect, or none. */
  async batch(items: readonly BatchItem[], options: RequestOptions = {}): Promise<BatchResult> {
    const answer = await this.#write({ statements: items.map(itemJson) }, options)
    return { ...proofOf(answer), results: readResults(answer) }
  }

  /** Runs a Command: what can be asked without SQL. A select is a linearizable read. */
  async command<Row extends RowShape<Row> = DefaultRow>(
    command: Command,
    options: RequestOptions = {},
  ): Promise<ExecuteResult<Row>> {
    const json = commandJson(command) as object
    if (command.action !== 'select') return this.#one(await this.#write(json, options))
    return this.#one(await this.#read(json, { ...options, consistency: 'linearizable' }))
  }

  /** Reads. The rows are typed by the caller; nothing checks them at run time. */
  query<Row extends RowShape<Row> = DefaultRow>(
    statement: SqlText,
    options?: QueryOptions,
  ): Promise<ExecuteResult<Row>>
  query<Row extends RowShape<Row> = DefaultRow>(
    statement: string,
    params?: Params,
    options?: QueryOptions,
  ): Promise<ExecuteResult<Row>>
  async query<Row extends RowShape<Row> = DefaultRow>(
    statement: string | SqlText,
    second?: Params | QueryOptions,
    third?: QueryOptions,
  ): Promise<ExecuteResult<Row>> {
    const { json, options } = splitArguments<QueryOptions>(statement, second, third)
    return this.#one(await this.#read(json, options))
  }

  /** What a node says of itself; without `address`, the leader or any other. */
  async status(address?: string, options: RequestOptions = {}): Promise<StatusResponse> {
    return (await this.#look('/status', address, options)) as StatusResponse
  }

  /** The members of the cluster as a node sees them; the leader's answer knows their lag. */
  async nodes(address?: string, options: RequestOptions = {}): Promise<NodesResponse> {
    const answer = (await this.#look('/nodes', address, options)) as NodesResponse
    if (this.#options.discover !== false) this.#nodes.learn(answer, performance.now())
    return answer
  }

  /** Who belongs to the cluster, and as what, as one node knows it. */
  async members(address?: string, options: RequestOptions = {}): Promise<MembersResponse> {
    return (await this.#look('/members', address, options)) as MembersResponse
  }

  /**
   * Changes the members: removes, promotes or demotes one, replaces a voter, or hands leadership
   * over. Any node passes it on to the leader. While another change is under way it is asked again.
   */
  async changeMembers(
    change: MembersRequest,
    options: RequestOptions = {},
  ): Promise<MembersResponse> {
    const shot = this.#shot('write', '/members', options, timeoutMs =>
      JSON.stringify({ timeoutMs, ...change }),
    )
    return (await this.#send(shot)) as MembersResponse
  }

  /** Asks the node at `address` to hand leadership over, if it leads. */
  async transfer(address: string, options: RequestOptions = {}): Promise<TransferResponse> {
    const shot = this.#shot('write', '/transfer', options, () => '{}')
    return (await this.#attempt(shot, address)) as TransferResponse
  }

  #one<Row>(answer: ResultsResponse): ExecuteResult<Row> {
    // Of a text of several statements it is the last one's: what comes before prepares it.
    const result = readResults(answer).at(-1)
    const empty: Result = { rowsAffected: 0, columns: [], rows: [] }
    return { ...(result ?? empty), ...proofOf(answer) } as ExecuteResult<Row>
  }

  async #write(json: object, options: RequestOptions): Promise<ResultsResponse> {
    const shot = this.#shot('write', '/execute', options, timeoutMs =>
      JSON.stringify({ ...this.#withDatabase(json, options), timeoutMs }),
    )
    return this.#keepToken(await this.#send(shot))
  }

  async #read(json: object, options: QueryOptions): Promise<ResultsResponse> {
    const wanted = options.consistency ?? this.#options.consistency ?? 'linearizable'
    // A session without a token has seen nothing yet; a linearizable read gives it its first.
    const consistency = wanted === 'session' && this.#token === undefined ? 'linearizable' : wanted
    const shot = this.#shot('read', '/query', options, timeoutMs =>
      JSON.stringify({
        ...this.#withDatabase(json, options),
        consistency,
        ...(consistency === 'session' ? { atLeast: this.#token } : {}),
        ...(options.maxLagMs === undefined ? {} : { maxLagMs: options.maxLagMs }),
        timeoutMs,
      }),
    )
    return this.#keepToken(await this.#send({ ...shot, isAnyNode: consistency !== 'linearizable' }))
  }

  #shot(
    kind: RequestKind,
    path: string,
    options: RequestOptions,
    body?: (timeoutMs: number) => string,
  ): Shot {
    const timeoutMs = options.timeoutMs ?? this.#options.timeoutMs ?? 10_000
    const deadlineMs = performance.now() + timeoutMs
    return { kind, path, isAnyNode: false, deadlineMs, signal: options.signal, body }
  }

  #withDatabase(json: object, options: RequestOptions): object {
    const database = options.database ?? this.#options.database
    return database === undefined || 'database' in json ? json : { ...json, database }
  }

  #keepToken(answer: unknown): ResultsResponse {
    const results = answer as ResultsResponse
    if (typeof results.token !== 'string' || !Array.isArray(results.results)) {
      // What was written may be written, so this must not look like a refusal.
      throw new DbError('CONNECTION_LOST', 'the answer holds no results; is a proxy between?')
    }
    if (isNewerToken(results.token, this.#token)) this.#token = results.token
    return results
  }

  /** Sends until an answer comes, an error says stop, or the deadline passes. */
  async #send(shot: Shot): Promise<unknown> {
    if (!shot.isAnyNode) await this.#discoverLeader(shot.signal)
    let { isAnyNode } = shot
    for (let attempt = 1; ; attempt += 1) {
      const now = performance.now()
      const address = isAnyNode ? this.#nodes.pickAny(now) : this.#nodes.pickLeader(now)
      try {
        const answer = await this.#attempt(shot, address)
        this.#nodes.answered(address)
        return answer
      } catch (error) {
        if (!(error instanceof DbError)) throw error
        const target = await this.#prepareNext(shot, address, attempt, error)
        if (target === 'leader') isAnyNode = false
      }
    }
  }

  async #attempt(shot: Shot, address: string): Promise<unknown> {
    const leftMs = Math.max(1, Math.ceil(shot.deadlineMs - performance.now()))
    const ends = [AbortSignal.timeout(leftMs + GRACE_MS), ...(shot.signal ? [shot.signal] : [])]
    shot.signal?.throwIfAborted()
    try {
      const url = this.#nodes.url(address, shot.path)
      return await this.#transport.send(url, shot.body?.(leftMs), AbortSignal.any(ends))
    } catch (error) {
      // An aborted read is nobody's any more; of an aborted write the caller must know the fate.
      if (shot.kind === 'read') shot.signal?.throwIfAborted()
      throw error
    }
  }

  /** Waits and says where to send again. Throws `error` if that isn't safe or too late. */
  async #prepareNext(
    shot: Shot,
    address: string,
    attempt: number,
    error: DbError,
  ): Promise<'leader' | 'other-node'> {
    // Even if this request gives up, the next one should not run into the same node.
    if (RESTS.has(error.code)) this.#nodes.rest(address, performance.now())
    if (error.code === 'NOT_LEADER') this.#nodes.isNoLeader(address)
    const step = nextStep(error, shot.kind, attempt, Math.random())
    if (step.type === 'give-up' || shot.signal?.aborted === true) throw error
    if (performance.now() + step.delayMs > shot.deadlineMs) throw error
    const leader = error.details['leaderAddress']
    if (typeof leader === 'string' && this.#options.discover !== false) {
      this.#nodes.setLeader(leader, performance.now())
    }
    if (step.delayMs > 0) await sleep(step.delayMs, shot.signal)
    if (step.target === 'leader' || !shot.isAnyNode) await this.#discoverLeader(shot.signal)
    return step.target
  }

  /** Asks the nodes who leads, all requests together once. Finding nobody is no failure. */
  async #discoverLeader(signal: AbortSignal | undefined): Promise<void> {
    if (this.#options.discover === false || this.#nodes.leader !== undefined) return
    this.#discovery ??= this.#askWhoLeads().finally(() => {
      this.#discovery = undefined
    })
    await this.#discovery
    signal?.throwIfAborted()
  }

  async #askWhoLeads(): Promise<void> {
    const asked = this.#nodes.addresses.map(async address => {
      const url = this.#nodes.url(address, '/nodes')
      const signal = AbortSignal.timeout(DISCOVERY_MS)
      const answer = (await this.#transport.send(url, undefined, signal)) as NodesResponse
      if (answer.leader === null) throw new DbError('NO_LEADER', `${address} knows no leader`)
      return answer
    })
    try {
      this.#nodes.learn(await Promise.any(asked), performance.now())
    } catch {
      // Nobody knew: the request goes to any node, which waits for a leader or says why not.
    }
  }

  async #look(
    path: string,
    address: string | undefined,
    options: RequestOptions,
  ): Promise<unknown> {
    const shot = this.#shot('read', path, options)
    return address === undefined ? this.#send(shot) : this.#attempt(shot, address)
  }
}

function splitArguments<Options extends RequestOptions>(
  statement: string | SqlText,
  second: Params | Options | undefined,
  third: Options | undefined,
): { readonly json: object; readonly options: Options } {
  const isSqlText = statement instanceof SqlText
  const params = isSqlText ? undefined : (second as Params | undefined)
  const options = isSqlText ? (second as Options | undefined) : third
  return { json: statementJson(statement, params), options: options ?? ({} as Options) }
}

function proofOf(answer: ResultsResponse): AnswerProof {
  const { token, index, node, durationMs } = answer
  return { token, index, node, durationMs }
}
