/**
 * The typed client. It finds the leader, sends again what failed until a deadline (writes under
 * their request id, so that they take effect once), and carries the token by which later reads see
 * earlier writes.
 */
import { DbError } from '../base/errors.ts'
import type { Command } from '../protocol/commands.ts'
import type {
  MembersRequest,
  MembersResponse,
  NodesResponse,
  ResultsResponse,
  StatusResponse,
  TransferResponse,
  TrustResponse,
} from '../protocol/http-api.ts'
import { isNewerToken } from '../protocol/token.ts'
import type { OutputValue } from '../protocol/values.ts'
import { fetchTransport } from './fetch-transport.ts'
import { Nodes } from './nodes.ts'
import {
  commandJson,
  itemJson,
  readResults,
  readResultsResponse,
  statementJson,
  surelyWrites,
  type AnswerProof,
  type BatchItem,
  type DefaultRow,
  type Params,
  type Result,
} from './requests.ts'
import { runTransaction } from './run-transaction.ts'
import { Sender, type Shot } from './sender.ts'
import { SqlText } from './sql.ts'
import type { Transaction } from './transaction.ts'
import type { Transport } from './transport.ts'
import { Writes, type WriteReference } from './writes.ts'

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
  /** False: writes carry no request id, and none whose fate is unknown is sent again. */
  readonly requestIds?: boolean
  /**
   * How much longer than its deadline a write of unknown fate may wait to hear what became of it.
   * 2 s if absent.
   */
  readonly fateTimeoutMs?: number
  /** Another way to send requests than `fetch`. */
  readonly transport?: Transport
}

export interface RequestOptions {
  readonly database?: string
  readonly timeoutMs?: number
  /** Ends the wait. A write that was already sent may still take effect. */
  readonly signal?: AbortSignal
}

export interface WriteOptions extends RequestOptions {
  /**
   * The id of this write, chosen by the caller in place of the client's own: the same key with the
   * same write takes effect once, also when another process sends it. 1 to 255 printable
   * characters.
   */
  readonly idempotencyKey?: string
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

/** What became of a write, for good. */
export type WriteFate =
  | ({ readonly fate: 'applied' } & BatchResult)
  | { readonly fate: 'not-applied' }

/** What a row of a query may be: an object of columns. */
export type RowShape<Row> = { readonly [Column in keyof Row]: OutputValue }

/** Makes a client. It opens connections as it needs them and holds no other resources. */
export function createClient(options: ClientOptions): Client {
  if (options.nodes.length === 0) {
    throw new DbError('INVALID_REQUEST', 'createClient needs the address of at least one node')
  }
  return new Client(options, makeParts(options), undefined)
}

/** What a client and its sessions share. */
interface ClientParts {
  readonly nodes: Nodes
  readonly sender: Sender
  readonly writes: Writes
}

const TIMEOUT_MS = 10_000
const FATE_TIMEOUT_MS = 2000

function makeParts(options: ClientOptions): ClientParts {
  const nodes = new Nodes(options.nodes)
  const transport = options.transport ?? fetchTransport()
  const sender = new Sender({ nodes, transport, discover: options.discover !== false })
  const writes = new Writes({
    sender,
    requestIds: options.requestIds !== false,
    fateTimeoutMs: options.fateTimeoutMs ?? FATE_TIMEOUT_MS,
    sessionTimeoutMs: options.timeoutMs ?? TIMEOUT_MS,
  })
  return { nodes, sender, writes }
}

export class Client {
  readonly #options: ClientOptions
  readonly #parts: ClientParts
  #token: string | undefined

  /** Use {@link createClient}. */
  constructor(options: ClientOptions, parts: ClientParts, token: string | undefined) {
    this.#options = options
    this.#parts = parts
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
    return new Client(this.#options, this.#parts, token)
  }

  /**
   * Runs one statement that writes, or a script of several without values: all or nothing, the
   * result is the last one's. It takes effect once, however often it had to be sent. On failure
   * `error.fate` says whether it may have happened: `unknown` only if no node could be asked, and
   * then {@link fate} can tell later, by `error.details.request`.
   */
  execute<Row extends RowShape<Row> = DefaultRow>(
    statement: SqlText,
    options?: WriteOptions,
  ): Promise<ExecuteResult<Row>>
  execute<Row extends RowShape<Row> = DefaultRow>(
    statement: string,
    params?: Params,
    options?: WriteOptions,
  ): Promise<ExecuteResult<Row>>
  async execute<Row extends RowShape<Row> = DefaultRow>(
    statement: string | SqlText,
    second?: Params | WriteOptions,
    third?: WriteOptions,
  ): Promise<ExecuteResult<Row>> {
    const { json, options } = splitArguments<WriteOptions>(statement, second, third)
    return this.#one(await this.#write(json, options))
  }

  /** Runs several statements or Commands of one database: all take effect, or none. */
  async batch(items: readonly BatchItem[], options: WriteOptions = {}): Promise<BatchResult> {
    const answer = await this.#write({ statements: items.map(itemJson) }, options)
    return { ...proofOf(answer), results: readResults(answer) }
  }

  /** Runs a Command: what can be asked without SQL. A select is a linearizable read. */
  async command<Row extends RowShape<Row> = DefaultRow>(
    command: Command,
    options: WriteOptions = {},
  ): Promise<ExecuteResult<Row>> {
    const json = commandJson(command) as object
    if (command.action !== 'select') return this.#one(await this.#write(json, options))
    return this.#one(await this.#read(json, { ...options, consistency: 'linearizable' }))
  }

  /**
   * Runs `work` as one transaction, and resolves with its result once that is committed: its
   * statements (those of the transaction that it is given, not of this client) see one state of the
   * database and what they did themselves, and take effect together, or not at all if `work`
   * throws. When others were faster, or the leader changed, `work` is run again from its beginning,
   * whatever it threw: it should do nothing else that can't be repeated, such as send mail, and
   * keep nothing from an earlier run.
   *
   * A statement that fails is undone alone; `work` may catch its error and go on. One whose error
   * nobody hears, because its promise is not awaited, makes the whole transaction fail with that
   * error. The commit waits for statements that `work` asked for and did not await. After `work`
   * has returned, its transaction takes no more (INVALID_REQUEST).
   */
  async transaction<T>(
    work: (transaction: Transaction) => Promise<T>,
    options: RequestOptions = {},
  ): Promise<T> {
    const { sender, writes } = this.#parts
    const database = options.database ?? this.#options.database
    if (database === undefined) {
      throw new DbError('INVALID_REQUEST', 'database: name the database of the transaction')
    }
    const onCommitted = (answer: ResultsResponse): void => void this.#keepToken(answer)
    const parts = { ...this.#within(options), sender, writes, database, onCommitted }
    return runTransaction(parts, work)
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

  /**
   * What became of the write that an error names in `details.request`. The answer `not-applied` is
   * for good: should the write still arrive, it is refused.
   */
  async fate(reference: WriteReference, options: RequestOptions = {}): Promise<WriteFate> {
    const { deadlineMs, signal } = this.#within(options)
    const fate = await this.#parts.writes.fate(reference, deadlineMs, signal)
    if (fate.type === 'not-applied') return { fate: 'not-applied' }
    const answer = this.#keepToken(fate.answer)
    return { fate: 'applied', ...proofOf(answer), results: readResults(answer) }
  }

  /** What a node says of itself; without `address`, the leader or any other. */
  async status(address?: string, options: RequestOptions = {}): Promise<StatusResponse> {
    return (await this.#look('/status', address, options)) as StatusResponse
  }

  /** The members of the cluster as a node sees them; the leader's answer knows their lag. */
  async nodes(address?: string, options: RequestOptions = {}): Promise<NodesResponse> {
    const answer = (await this.#look('/nodes', address, options)) as NodesResponse
    if (this.#options.discover !== false) this.#parts.nodes.learn(answer, performance.now())
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
    const body = (timeoutMs: number): string => JSON.stringify({ timeoutMs, ...change })
    const shot = { ...this.#shot('/members', options), kind: 'write', body } as const
    return (await this.#parts.sender.send(shot)) as MembersResponse
  }

  /** Says which node is right, when members computed different things and no majority agrees. */
  async trust(node: string, options: RequestOptions = {}): Promise<TrustResponse> {
    const body = (): string => JSON.stringify({ node })
    const shot = { ...this.#shot('/trust', options), kind: 'write', body } as const
    return (await this.#parts.sender.send(shot)) as TrustResponse
  }

  /** Asks the node at `address` to hand leadership over, if it leads. */
  async transfer(address: string, options: RequestOptions = {}): Promise<TransferResponse> {
    const shot = { ...this.#shot('/transfer', options), kind: 'write', body: () => '{}' } as const
    return (await this.#parts.sender.sendOnce(shot, address)) as TransferResponse
  }

  #one<Row>(answer: ResultsResponse): ExecuteResult<Row> {
    // Of a text of several statements it is the last one's: what comes before prepares it.
    const result = readResults(answer).at(-1)
    const empty: Result = { rowsAffected: 0, columns: [], rows: [] }
    return { ...(result ?? empty), ...proofOf(answer) } as ExecuteResult<Row>
  }

  async #write(json: object, options: WriteOptions): Promise<ResultsResponse> {
    const whole = this.#withDatabase(json, options)
    const answer = await this.#parts.writes.send({
      ...this.#within(options),
      path: '/execute',
      database: databaseOf(whole),
      idempotencyKey: options.idempotencyKey,
      isStreamable: surelyWrites(json),
      body: timeoutMs => JSON.stringify({ ...whole, timeoutMs }),
    })
    return this.#keepToken(answer)
  }

  async #read(json: object, options: QueryOptions): Promise<ResultsResponse> {
    const wanted = options.consistency ?? this.#options.consistency ?? 'linearizable'
    // A session without a token has seen nothing yet; a linearizable read gives it its first.
    const consistency = wanted === 'session' && this.#token === undefined ? 'linearizable' : wanted
    const body = (timeoutMs: number): string =>
      JSON.stringify({
        ...this.#withDatabase(json, options),
        consistency,
        ...(consistency === 'session' ? { atLeast: this.#token } : {}),
        ...(options.maxLagMs === undefined ? {} : { maxLagMs: options.maxLagMs }),
        timeoutMs,
      })
    const isAnyNode = consistency !== 'linearizable'
    const shot = { ...this.#shot('/query', options), isAnyNode, body, read: readResultsResponse }
    try {
      return this.#keepToken(await this.#parts.sender.send(shot))
    } catch (error) {
      // The caller hears of it once; what comes after belongs to the history that is there now.
      if (error instanceof DbError && error.code === 'WRONG_HISTORY') this.#token = undefined
      throw error
    }
  }

  #within(options: RequestOptions): Pick<Shot<unknown>, 'deadlineMs' | 'signal'> {
    const timeoutMs = options.timeoutMs ?? this.#options.timeoutMs ?? TIMEOUT_MS
    return { deadlineMs: performance.now() + timeoutMs, signal: options.signal }
  }

  #shot(path: string, options: RequestOptions): Shot<unknown> {
    const read = (json: unknown): unknown => json
    return { ...this.#within(options), kind: 'read', path, isAnyNode: false, read }
  }

  #withDatabase(json: object, options: RequestOptions): object {
    const database = options.database ?? this.#options.database
    return database === undefined || 'database' in json ? json : { ...json, database }
  }

  #keepToken(answer: ResultsResponse): ResultsResponse {
    if (isNewerToken(answer.token, this.#token)) this.#token = answer.token
    return answer
  }

  async #look(
    path: string,
    address: string | undefined,
    options: RequestOptions,
  ): Promise<unknown> {
    const shot = this.#shot(path, options)
    const { sender } = this.#parts
    return address === undefined ? sender.send(shot) : sender.sendOnce(shot, address)
  }
}

/** The database of a write, which its items may name in its place. */
function databaseOf(json: object): string {
  if ('database' in json && typeof json.database === 'string') return json.database
  const [first] = 'statements' in json ? (json.statements as readonly object[]) : []
  return first === undefined ? '' : databaseOf(first)
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
  const { token, index, node, durationMs, repeated, rowsDropped } = answer
  const proof = { token, index, node, durationMs }
  if (repeated !== true) return proof
  return rowsDropped === true ? { ...proof, repeated, rowsDropped } : { ...proof, repeated }
}
