/**
 * The load generator, a process of its own: so many connections, each with one operation on its way.
 * It reads its plan from the first argument, tells its parent when the load has begun, and ends with
 * one line of JSON: what it measured, and which of its writes were acknowledged.
 */
import { must } from '../../src/base/assert.ts'
import { latencies } from '../latencies.ts'
import { sum } from '../processes.ts'
import { connectEtcd } from './drivers/etcd.ts'
import { connectLockstep } from './drivers/lockstep.ts'
import { connectLockstepStream } from './drivers/lockstep-stream.ts'
import { connectMysql } from './drivers/mysql.ts'
import { connectRqlite } from './drivers/rqlite.ts'
import { connectSqlite } from './drivers/sqlite.ts'
import type { Connect, Connection, Operation, Target } from './operations.ts'
import { WORKLOADS } from './workloads.ts'
import type { Draw, Workload } from './workloads.ts'

export interface Plan {
  readonly target: Target
  readonly workload: string
  readonly connections: number
  readonly warmUpMs: number
  readonly durationMs: number
  readonly firstId: number
  readonly seed: number
}

export interface Measured {
  /** Operations that were answered well in the measured time. */
  readonly operations: number
  /** All that were answered well, those of the warm-up too: what the servers' work is shared by. */
  readonly operationsInAll: number
  readonly seconds: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly p999Ms: number
  readonly maxMs: number
  /** Of this process in the measured time. */
  readonly cpuMicros: number
  /** Of this process in all: for a database that is used within it. */
  readonly writtenBytes: number
  readonly memoryBytesMax: number
  /** Conflicts with others; the operation was done again. */
  readonly conflicts: number
  readonly errors: number
  /** Texts of some different errors. */
  readonly samples: readonly string[]
  /** Ids below it, from `firstId` on, were used. */
  readonly nextId: number
  /** Ids of inserted rows of which nothing is known: first and count. */
  readonly unacknowledged: readonly (readonly [number, number])[]
  readonly updatesAcknowledged: number
  readonly updatesUnacknowledged: number
}

const CONNECT: Readonly<Record<Target['driver'], Connect>> = {
  lockstep: connectLockstep,
  'lockstep-stream': connectLockstepStream,
  rqlite: connectRqlite,
  mysql: connectMysql,
  etcd: connectEtcd,
  sqlite: connectSqlite,
}
const ERROR_PAUSE_MS = 20
const ANSWERS_MS_MAX = 30_000

class Load {
  readonly #workload: Workload
  readonly #draw: Draw
  readonly #recorded = latencies()
  readonly #samples = new Set<string>()
  /** What each connection is at; undefined when it has ended. */
  readonly #current = new Map<Connection, Operation | undefined>()
  readonly #unacknowledged: [number, number][] = []
  readonly #updates = { acknowledged: 0, unacknowledged: 0 }
  #nextId: number
  #fromMs = Infinity
  #isStopped = false
  #operationsInAll = 0
  #conflicts = 0
  #errors = 0

  constructor(plan: Plan) {
    this.#workload = must(WORKLOADS.find(({ name }) => name === plan.workload))
    this.#nextId = plan.firstId
    const random = randomOf(plan.seed)
    this.#draw = {
      takeIds: count => {
        this.#nextId += count
        return this.#nextId - count
      },
      below: below => Math.floor(random() * below),
    }
  }

  async run(connections: readonly Connection[], plan: Plan): Promise<Measured> {
    const ends = connections.map(
      connection => new Promise<void>(resolve => this.#next(connection, resolve)),
    )
    await pause(plan.warmUpMs)
    this.#fromMs = performance.now()
    const before = process.cpuUsage()
    await pause(plan.durationMs)
    const cpu = process.cpuUsage(before)
    const seconds = (performance.now() - this.#fromMs) / 1000
    this.#fromMs = Infinity
    const operations = this.#recorded.count
    this.#isStopped = true
    await Promise.race([Promise.all(ends), pause(ANSWERS_MS_MAX)])
    for (const [connection, operation] of this.#current) {
      if (operation !== undefined) this.#fail(operation, 'not answered in time')
      connection.close()
    }
    return {
      operations,
      operationsInAll: this.#operationsInAll,
      seconds,
      p50Ms: this.#recorded.percentile(50),
      p99Ms: this.#recorded.percentile(99),
      p999Ms: this.#recorded.percentile(99.9),
      maxMs: this.#recorded.percentile(100),
      cpuMicros: cpu.user + cpu.system,
      writtenBytes: sum([process.pid]).writtenBytes,
      memoryBytesMax: process.resourceUsage().maxRSS * 1024,
      conflicts: this.#conflicts,
      errors: this.#errors,
      samples: [...this.#samples],
      nextId: this.#nextId,
      unacknowledged: this.#unacknowledged,
      updatesAcknowledged: this.#updates.acknowledged,
      updatesUnacknowledged: this.#updates.unacknowledged,
    }
  }

  #next(connection: Connection, onEnd: () => void): void {
    if (this.#isStopped) {
      this.#current.set(connection, undefined)
      return onEnd()
    }
    const operation = this.#workload.next(this.#draw)
    this.#current.set(connection, operation)
    this.#attempt(connection, operation, performance.now(), onEnd)
  }

  #attempt(
    connection: Connection,
    operation: Operation,
    startedMs: number,
    onEnd: () => void,
  ): void {
    connection.perform(operation, failure => {
      if (failure === undefined) {
        this.#operationsInAll += 1
        if (operation.type === 'update') this.#updates.acknowledged += 1
        const nowMs = performance.now()
        if (nowMs >= this.#fromMs) this.#recorded.add(nowMs - startedMs)
        return this.#next(connection, onEnd)
      }
      if (failure.isConflict && !this.#isStopped) {
        this.#conflicts += 1
        return this.#attempt(connection, operation, startedMs, onEnd)
      }
      this.#fail(operation, failure.text)
      // A server that refuses everything is not to be asked as fast as the loop turns.
      setTimeout(() => this.#next(connection, onEnd), ERROR_PAUSE_MS)
    })
  }

  #fail(operation: Operation, text: string): void {
    this.#errors += 1
    if (this.#samples.size < 3) this.#samples.add(text)
    if (operation.type === 'insert') this.#unacknowledged.push([operation.firstId, operation.rows])
    else if (operation.type === 'put') this.#unacknowledged.push([operation.id, 1])
    else if (operation.type === 'transaction') this.#unacknowledged.push([operation.entryId, 1])
    else if (operation.type === 'update') this.#updates.unacknowledged += 1
  }
}

/** Numbers from 0 to 1, the same for a seed. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

async function pause(ms: number): Promise<void> {
  await new Promise(resolve => setTimeout(resolve, ms))
}

const plan = JSON.parse(process.argv[2] ?? '') as Plan
const connections = await CONNECT[plan.target.driver](plan.target, plan.connections)
process.send?.('begun')
const measured = await new Load(plan).run(connections, plan)
process.stdout.write(JSON.stringify(measured), () => process.exit(0))
