/**
 * The load generator, a process of its own: so many connections, each with one operation on its way.
 * It reads its plan from the first argument and ends with one line of JSON: what it measured, and
 * which of its writes were acknowledged.
 */
import { must } from '../../src/base/assert.ts'
import { Load, randomOf } from '../load.ts'
import type { LoadMeasured, LoadSource } from '../load.ts'
import { sum } from '../processes.ts'
import { connectEtcd } from './drivers/etcd.ts'
import { connectLockstep } from './drivers/lockstep.ts'
import { connectLockstepStream } from './drivers/lockstep-stream.ts'
import { connectMysql } from './drivers/mysql.ts'
import { connectRqlite } from './drivers/rqlite.ts'
import { connectSqlite } from './drivers/sqlite.ts'
import type { Connect, Operation, Target } from './operations.ts'
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

export interface Measured extends LoadMeasured {
  /** Of this process in all: for a database that is used within it. */
  readonly writtenBytes: number
  readonly memoryBytesMax: number
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

/** A workload's operations, and what the check afterwards has to know of them. */
class WorkloadSource implements LoadSource<Operation> {
  readonly #workload: Workload
  readonly #draw: Draw
  readonly unacknowledged: [number, number][] = []
  readonly updates = { acknowledged: 0, unacknowledged: 0 }
  nextId: number

  constructor(plan: Plan) {
    this.#workload = must(WORKLOADS.find(({ name }) => name === plan.workload))
    this.nextId = plan.firstId
    const random = randomOf(plan.seed)
    this.#draw = {
      takeIds: count => {
        this.nextId += count
        return this.nextId - count
      },
      below: below => Math.floor(random() * below),
    }
  }

  next(): Operation {
    return this.#workload.next(this.#draw)
  }

  onAcknowledged(operation: Operation): void {
    if (operation.type === 'update') this.updates.acknowledged += 1
  }

  onFailed(operation: Operation): void {
    if (operation.type === 'insert') this.unacknowledged.push([operation.firstId, operation.rows])
    else if (operation.type === 'put') this.unacknowledged.push([operation.id, 1])
    else if (operation.type === 'transaction') this.unacknowledged.push([operation.entryId, 1])
    else if (operation.type === 'update') this.updates.unacknowledged += 1
  }
}

const plan = JSON.parse(process.argv[2] ?? '') as Plan
const connections = await CONNECT[plan.target.driver](plan.target, plan.connections)
const source = new WorkloadSource(plan)
const measured: Measured = {
  ...(await new Load(source).run(connections, plan)),
  writtenBytes: sum([process.pid]).writtenBytes,
  memoryBytesMax: process.resourceUsage().maxRSS * 1024,
  nextId: source.nextId,
  unacknowledged: source.unacknowledged,
  updatesAcknowledged: source.updates.acknowledged,
  updatesUnacknowledged: source.updates.unacknowledged,
}
process.stdout.write(JSON.stringify(measured), () => process.exit(0))
