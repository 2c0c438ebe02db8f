/**
 * The writer over a MySQL or MariaDB server: one connection, one transaction at a time. It answers
 * each message with one reply, in order; what it is told while it waits for the server waits, too.
 * A connection that is lost, or a server that fails, ends it: the next one begins at what the
 * server has.
 */
import { assert, must, unreachable } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import type {
  Divergence,
  RequestError,
  RequestResult,
  TransactionStart,
  Writer,
  WriterHandler,
  WriterMessage,
  WriterReply,
} from '../engine.ts'
import { LocalFault, toRequestError, withDetails } from '../request-errors.ts'
import type { TransactionEnd } from '../transaction-steps.ts'
import { finishAdoption } from './adoption.ts'
import { applyEntries } from './apply-entries.ts'
import { Connection } from './connection.ts'
import { MysqlBatch } from './execute-batch.ts'
import { InteractiveTransaction } from './interactive.ts'
import { NodeTables, type Owner, refuseStrangers } from './node-tables.ts'
import { checkServer } from './server-check.ts'
import type { ServerAddress } from './server-address.ts'
import { Session } from './session.ts'
import type { TableChanges } from './table-changes.ts'
import { takeWriterLock } from './writer-lock.ts'

export interface MysqlWriterOptions {
  readonly address: ServerAddress
  readonly owner: Owner
  readonly changes: TableChanges
}

/** Entries that a power cut may take before they are made to survive it. */
const UNFLUSHED_ENTRIES_MAX = 1000

export class MysqlWriter implements Writer {
  readonly #options: MysqlWriterOptions
  readonly #handler: WriterHandler
  readonly #inbox: WriterMessage[] = []
  #isBusy = false
  #isEnded = false
  #isGone = false
  /** Undefined until `open` came. */
  #session: Session | undefined
  #connection: Connection | undefined
  #batch: MysqlBatch | InteractiveTransaction | undefined
  #divergence: Divergence | undefined
  #durableIndex = 0
  #flushesAtCommit = false

  constructor(options: MysqlWriterOptions, handler: WriterHandler) {
    this.#options = options
    this.#handler = handler
  }

  /** Its `onExit` was called. */
  get isGone(): boolean {
    return this.#isGone
  }

  send(message: WriterMessage): void {
    if (this.#isEnded) return
    this.#inbox.push(message)
    if (!this.#isBusy) void this.#work()
  }

  kill(): void {
    this.#end('it was killed')
  }

  async #work(): Promise<void> {
    this.#isBusy = true
    try {
      for (;;) {
        const message = this.#inbox.shift()
        if (message === undefined) break
        const reply = await this.#answer(message)
        if (this.#isEnded) return
        this.#handler.onReply(reply)
        await this.#flushIfDue()
      }
    } catch (thrown) {
      this.#fail(thrown)
    }
    this.#isBusy = false
  }

  /** What is this node's fault is told, and ends the writer; anything else is a bug. */
  #fail(thrown: unknown): void {
    if (this.#isEnded) return
    const error = faultOf(thrown)
    if (error === undefined) {
      // Not thrown on: nobody would catch it.
      const reason = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)
      return this.#end(reason)
    }
    this.#handler.onReply({ type: 'fault', error })
    this.#end(error.message)
  }

  #end(reason: string): void {
    if (this.#isEnded) return
    this.#isEnded = true
    this.#inbox.length = 0
    this.#connection?.close()
    setImmediate(() => {
      this.#isGone = true
      this.#handler.onExit(reason)
    })
  }

  async #answer(message: WriterMessage): Promise<WriterReply> {
    switch (message.type) {
      case 'open':
        return this.#open()
      case 'execute':
        return this.#execute(message)
      case 'step':
        return this.#step(message)
      case 'finish':
        return this.#finish(message)
      case 'commit':
        return this.#commit(message.batch, message.index)
      case 'rollback':
        await this.#rollback()
        return { type: 'rolled-back', batch: message.batch }
      case 'apply':
        return this.#apply(message)
      case 'accept': {
        const { tables } = this.#opened()
        const { index, digest } = message
        await tables.accept({ index, digest })
        const isSettled = this.#divergence?.index === index && tables.condemned === undefined
        if (isSettled) this.#divergence = undefined
        return { type: 'accepted', index, appliedIndex: tables.applied }
      }
      case 'condemn':
        await this.#rollback()
        await this.#opened().tables.condemn(message.divergence)
        this.#divergence = message.divergence
        return { type: 'condemned' }
      case 'checkpoint':
        if (this.#batch === undefined) await this.#flush()
        return { type: 'checkpointed', durableIndex: this.#durableIndex }
      default:
        return unreachable(message)
    }
  }

  /** The session; `open` was answered. */
  #opened(): Session {
    return must(this.#session, 'a session with the server')
  }

  async #open(): Promise<WriterReply> {
    assert(this.#session === undefined, 'open came twice')
    const { address, owner, changes } = this.#options
    const connection = await Connection.open(address)
    this.#connection = connection
    if (this.#isEnded) connection.close()
    connection.onLost(error => {
      // Who is at work hears it from what it waits for.
      if (!this.#isBusy) this.#end(error.message)
    })
    const facts = await checkServer(connection, address)
    const isThere = await refuseStrangers(connection, address.prefix, owner)
    await takeWriterLock(connection, address.prefix)
    // What was cut short comes first: until then the data are neither the old ones nor the new.
    if (isThere) await finishAdoption(connection, address.prefix)
    const tables = await NodeTables.open(connection, address.prefix, owner)
    this.#session = new Session(connection, tables, facts.isMariaDb, changes, address)
    this.#flushesAtCommit = facts.flushesAtCommit
    await this.#flush()
    const { past, applied, nowMs } = tables
    this.#divergence = past.condemned
    return {
      type: 'opened',
      appliedIndex: applied,
      durableIndex: this.#durableIndex,
      nowMs,
      build: facts.build,
      past,
    }
  }

  async #execute(message: WriterMessage & { type: 'execute' }): Promise<WriterReply> {
    assert(this.#batch === undefined, `batch ${message.batch} came while one is open`)
    assert(message.requests.length > 0, `batch ${message.batch} holds no request`)
    const { batch, requests } = message
    const divergence = this.#divergence
    if (divergence !== undefined) {
      const result: RequestResult = { type: 'failed', error: divergedError(divergence) }
      const results = requests.map(() => result)
      return { type: 'executed', batch, taken: requests.length, entry: undefined, results }
    }
    const session = this.#opened()
    const nowMs = Math.max(message.nowMs, session.tables.nowMs)
    const open = new MysqlBatch(session, message, nowMs)
    this.#batch = open
    const { taken, results } = await open.run()
    const entry = open.entry()
    if (entry === undefined) await this.#rollback()
    return { type: 'executed', batch, taken, entry, results, isProvisional: open.isProvisional }
  }

  async #step({
    batch,
    start,
    request,
    isQuery,
    givesWay = false,
  }: WriterMessage & { type: 'step' }): Promise<WriterReply> {
    const open = await this.#transaction(batch, start)
    if (!(open instanceof InteractiveTransaction)) {
      const result = { type: 'failed', error: withDetails(open, { transaction: 'over' }) } as const
      const proof = new Uint8Array()
      const { nowMs } = this.#opened().tables
      return { type: 'stepped', batch, nowMs, result, proof, isReadOnly: true, isOver: true }
    }
    const { nowMs } = open
    const { result, proof, isOver } = await open.step(request, isQuery)
    const { isReadOnly } = open
    if (isOver || givesWay) await this.#rollback()
    return { type: 'stepped', batch, nowMs, result, proof, isReadOnly, isOver }
  }

  async #finish(message: WriterMessage & { type: 'finish' }): Promise<WriterReply> {
    const { batch, start, commitIndex } = message
    // Only the first one: the others are to ask again, and each has an entry of its own.
    const open = await this.#transaction(batch, start)
    const { entry, result }: TransactionEnd =
      open instanceof InteractiveTransaction
        ? await open.finish(message, commitIndex)
        : { entry: undefined, result: { type: 'failed', error: open } }
    if (entry === undefined) await this.#rollback()
    return { type: 'executed', batch, taken: 1, entry, results: [result] }
  }

  /** The transaction of a turn, brought to where it was; or why it can't be. */
  async #transaction(
    batch: number,
    start: TransactionStart | undefined,
  ): Promise<InteractiveTransaction | RequestError> {
    const session = this.#opened()
    const open = this.#batch
    if (start === undefined) {
      assert(open instanceof InteractiveTransaction && open.number === batch, `no turn ${batch}`)
      return open
    }
    assert(open === undefined, `turn ${batch} came while a batch is open`)
    if (this.#divergence !== undefined) return divergedError(this.#divergence)
    // Once its client has seen a moment, it keeps it.
    const isNew = start.earlier.length === 0
    const nowMs = isNew ? Math.max(start.nowMs, session.tables.nowMs) : start.nowMs
    if (session.tables.madeBy(start.database) === undefined) {
      return toRequestError(unknownDatabase(start.database))
    }
    const begun = new InteractiveTransaction(session, batch, { ...start, nowMs })
    this.#batch = begun
    await begun.begin()
    const conflict = await begun.repeat(start.earlier)
    if (conflict === undefined) return begun
    await this.#rollback()
    return conflict
  }

  async #rollback(): Promise<void> {
    const open = this.#batch
    this.#batch = undefined
    await open?.rollback()
  }

  async #commit(batch: number, index: number): Promise<WriterReply> {
    const open = this.#batch
    const { tables } = this.#opened()
    assert(open !== undefined && open.number === batch, `batch ${batch} isn't the open one`)
    assert(index > tables.applied, `entry ${index} came after ${tables.applied}`)
    const results = await open.commit(index)
    this.#batch = undefined
    this.#noteCommitted()
    const durableIndex = this.#durableIndex
    const reply = { type: 'committed' as const, batch, index, durableIndex }
    return results === undefined ? reply : { ...reply, results }
  }

  async #apply({ entries }: WriterMessage & { type: 'apply' }): Promise<WriterReply> {
    assert(this.#batch === undefined, 'apply came while a batch is open')
    const session = this.#opened()
    if (this.#divergence === undefined) {
      this.#divergence = await applyEntries(session, entries)
      this.#noteCommitted()
    }
    const reply = {
      type: 'applied' as const,
      index: session.tables.applied,
      durableIndex: this.#durableIndex,
    }
    return this.#divergence === undefined ? reply : { ...reply, divergence: this.#divergence }
  }

  #noteCommitted(): void {
    if (this.#flushesAtCommit) this.#durableIndex = this.#opened().tables.applied
  }

  async #flushIfDue(): Promise<void> {
    if (this.#session === undefined || this.#batch !== undefined) return
    const unflushed = this.#session.tables.applied - this.#durableIndex
    if (unflushed >= UNFLUSHED_ENTRIES_MAX) await this.#flush()
  }

  /** Makes all that is committed survive a power cut. */
  async #flush(): Promise<void> {
    const { tables } = this.#opened()
    if (!this.#flushesAtCommit && this.#durableIndex < tables.applied) await tables.flush()
    this.#durableIndex = tables.applied
  }
}

function unknownDatabase(database: string): DbError {
  return new DbError('UNKNOWN_DATABASE', `there is no database ${database}; create it first`)
}

function divergedError({ index, database, sql }: Divergence): RequestError {
  const message = `this replica gave something else for entry ${index}`
  return toRequestError(new DbError('DIVERGED', message, { details: { index, database, sql } }))
}

function faultOf(thrown: unknown): RequestError | undefined {
  if (thrown instanceof LocalFault) return thrown.error
  return thrown instanceof DbError ? toRequestError(thrown) : undefined
}
