/**
 * Clients of the simulated cluster. Each asks one thing at a time of a node that it picks by
 * chance, never repeats a write blindly, and hands every answer to the oracle.
 */
import { unreachable } from '../src/base/assert.ts'
import type { WriteRequest } from '../src/engine/engine.ts'
import type { Consistency, ReadOptions, WriteCallback } from '../src/replica/types.ts'
import type { DbError } from '../src/base/errors.ts'
import { IdentifiedClient } from './identified-client.ts'
import type { Action } from './model.ts'
import type { Oracle } from './oracle.ts'
import { failingRequest, FAILING_KINDS, readAll, readByWriting, requestOf } from './requests.ts'
import type { TransactionOperation, TransactionOutcome } from '../src/replica/transaction-call.ts'
import type { SimNode } from './sim-node.ts'
import type { SimRandom } from './sim-random.ts'
import type { Swarm } from './swarm.ts'
import { SimTransaction } from './transactions.ts'
import { check, Violation, type World } from './world.ts'

export interface WorkloadParts {
  readonly world: World
  readonly swarm: Swarm
  readonly oracle: Oracle
  readonly nodes: readonly SimNode[]
}

/** Databases that are there all the time, and one that comes and goes. */
const LASTING = ['first', 'second'] as const
const PASSING = 'passing'
const READ_TIMEOUT_MS = 2000

/** How long a client waits after a failure. */
const BACKOFF_MS_MEAN = 30

/** Wakes a client whose node has died and will never answer. */
const DEAD_NODE_POLL_MS = 50

/** How much later than its deadline an answer may come from a process that wasn't paused. */
const LATENESS_MS_MAX = 1000

export class Workload {
  readonly #parts: WorkloadParts
  readonly #random: SimRandom
  #isStopped = false
  #pendingCount = 0

  constructor(parts: WorkloadParts) {
    this.#parts = parts
    this.#random = parts.world.random('workload')
  }

  /** Requests that a living node has not answered yet. */
  get pendingCount(): number {
    return this.#pendingCount
  }

  start(): void {
    this.#administrate()
    for (let client = 1; client <= this.#parts.swarm.clientCount; client++) {
      new Client(client, this).run()
    }
  }

  /** Nothing new is asked; what was asked may still be answered. */
  stop(): void {
    this.#isStopped = true
  }

  get isStopped(): boolean {
    return this.#isStopped
  }

  get parts(): WorkloadParts {
    return this.#parts
  }

  get random(): SimRandom {
    return this.#random
  }

  /** A node that runs, if there is one; often one that leads, or believes so. */
  pickNode(): SimNode | undefined {
    const running = this.#parts.nodes.filter(node => node.isRunning)
    const leading = running.filter(node => node.role === 'leader')
    if (leading.length > 0 && this.#random.chance(0.5)) return this.#random.pick(leading)
    return running.length === 0 ? undefined : this.#random.pick(running)
  }

  /** A write of an action, with its answer judged; `next` when it is over, one way or the other. */
  write(node: SimNode, database: string, action: Action, next: (index: number) => void): void {
    const { oracle } = this.#parts
    const operation = oracle.begin(database, action)
    const request = requestOf(action, operation.number, database)
    this.execute(node, request, next, outcome => oracle.answered(operation, outcome))
  }

  readByWriting(node: SimNode, database: string, key: number, next: (index: number) => void): void {
    const { oracle } = this.#parts
    const operation = oracle.begin(database, undefined)
    const request = readByWriting(key, operation.number, database)
    this.execute(node, request, next, outcome => oracle.answeredRead(operation, key, outcome))
  }

  /** Something that must fail, however it ends. */
  failing(node: SimNode, database: string, next: (index: number) => void): void {
    const { oracle } = this.#parts
    const operation = oracle.begin(database, { type: 'mark' })
    const kind = this.#random.pick(FAILING_KINDS)
    const request = failingRequest(kind, operation.number, database)
    this.execute(node, request, next, outcome => {
      if (outcome.type === 'ok') throw new Violation(`a request that must fail (${kind}) is ok`)
      oracle.answered(operation, outcome)
    })
  }

  /** A database is made or dropped. */
  changeDatabases(
    node: SimNode,
    type: 'create-database' | 'drop-database',
    database: string,
    next: (index: number) => void,
  ): void {
    const { oracle } = this.#parts
    const operation = oracle.begin(database, undefined)
    this.execute(node, { type, database }, next, outcome => oracle.answered(operation, outcome))
  }

  read(
    node: SimNode,
    database: string,
    options: Omit<ReadOptions, 'timeoutMs'>,
    next: (index: number) => void,
  ): void {
    const { oracle, world } = this.#parts
    const beganAt = oracle.model.index
    const beganAtMs = world.nowMs
    const from = this.#oldest(options, beganAt, beganAtMs)
    const timeoutMs = this.#random.pick([100, READ_TIMEOUT_MS])
    const answer = this.#expect(node, options.consistency, timeoutMs, next)
    node.process.after(0, () => {
      node.replica.query(readAll(database), { ...options, timeoutMs }, outcome => {
        if (!answer.isHeard()) return
        if (outcome.type === 'failed') {
          this.#refuseOddErrors(outcome.error)
          oracle.missing(outcome.error.code, database, from)
          return answer.end(0)
        }
        const { index, results } = outcome.value
        const what = (): string =>
          `${JSON.stringify(options)} begun at ${beganAtMs} is of ${index}, at least ${from}`
        world.note('read', node.id, index, from, what)
        if (!node.wasWrongSince(beganAtMs)) oracle.read({ database, from, newest: index }, results)
        return answer.end(index)
      })
    })
  }

  /** One call of an interactive transaction; `heard` gets nothing if the node died. */
  transact(
    node: SimNode,
    operation: TransactionOperation,
    timeoutMs: number,
    heard: (outcome: TransactionOutcome | undefined) => void,
  ): void {
    let told: TransactionOutcome | undefined
    const answer = this.#expect(node, operation.type, timeoutMs, () => heard(told))
    node.process.after(0, () => {
      node.replica.transact(operation, timeoutMs, outcome => {
        if (!answer.isHeard()) return
        if (outcome.type === 'failed') this.#refuseOddErrors(outcome.error)
        told = outcome
        answer.end(0)
      })
    })
  }

  digest(node: SimNode, database: string, next: (index: number) => void): void {
    const { oracle } = this.#parts
    const beganAtMs = this.#parts.world.nowMs
    const answer = this.#expect(node, 'digest', READ_TIMEOUT_MS, next)
    const options = { consistency: 'local', timeoutMs: READ_TIMEOUT_MS } as const
    node.process.after(0, () => {
      node.digest({ database }, options, (index, digest) => {
        if (!answer.isHeard()) return
        if (digest !== undefined && !node.wasWrongSince(beganAtMs)) {
          oracle.digest(database, index, digest)
        }
        answer.end(0)
      })
    })
  }

  /** The oldest state that a read may be of. */
  #oldest(options: Omit<ReadOptions, 'timeoutMs'>, beganAt: number, beganAtMs: number): number {
    const { oracle, swarm } = this.#parts
    const { consistency, atLeastIndex = 0, maxLagMs } = options
    switch (consistency) {
      case 'linearizable':
        return Math.max(beganAt, atLeastIndex)
      case 'session':
        return atLeastIndex
      case 'local': {
        if (maxLagMs === undefined) return atLeastIndex
        // The node measures with its own clock, which may be slow.
        const allowedMs = maxLagMs / (1 - swarm.clockSkew)
        return Math.max(atLeastIndex, oracle.acknowledgedIndexAt(beganAtMs - allowedMs))
      }
      default:
        return unreachable(consistency)
    }
  }

  /**
   * Sends a write. `judge` hears the answer, if there is one; then `next` comes with its index, 0
   * for a failure or a node that died.
   */
  execute(
    node: SimNode,
    request: WriteRequest,
    next: (index: number) => void,
    judge: WriteCallback,
  ): void {
    const timeoutMs = this.#random.pick([50, 500, 3000])
    const answer = this.#expect(node, request.type, timeoutMs, next)
    // A paused node gets it when it goes on, perhaps before it hears that it leads no more.
    node.process.after(0, () => {
      node.replica.execute(request, timeoutMs, outcome => {
        if (!answer.isHeard()) return
        if (outcome.type === 'failed') this.#refuseOddErrors(outcome.error)
        judge(outcome)
        answer.end(outcome.type === 'ok' ? outcome.index : 0)
      })
    })
  }

  /** An answer that a node owes, unless its process ends: then the client goes on without. */
  #expect(
    node: SimNode,
    what: string,
    timeoutMs: number,
    next: (index: number) => void,
  ): { isHeard: () => boolean; end: (index: number) => void } {
    const { world, swarm } = this.#parts
    const { process } = node
    const beganAtMs = world.nowMs
    const pausedBeforeMs = process.pausedMs
    const allowedMs = timeoutMs / (1 - swarm.clockSkew) + LATENESS_MS_MAX
    let isOver = false
    this.#pendingCount++
    const end = (index: number): void => {
      isOver = true
      this.#pendingCount--
      world.after(0, () => next(index))
    }
    const watch = (): void => {
      if (isOver) return
      if (!process.isAlive) return end(0)
      const awakeMs = world.nowMs - beganAtMs - (process.pausedMs - pausedBeforeMs)
      check(
        process.isPaused || awakeMs <= allowedMs,
        () =>
          `node ${node.id} owes an answer (${what}) since ${beganAtMs}, for ${awakeMs} ms; ` +
          `the deadline was ${timeoutMs} ms`,
      )
      return void world.after(DEAD_NODE_POLL_MS, watch)
    }
    world.after(DEAD_NODE_POLL_MS, watch)
    return {
      // What a process says after its end, in the very call that ended it, nobody hears.
      isHeard: () => {
        if (!process.isAlive) return false
        if (isOver) throw new Violation('a request was answered twice')
        return true
      },
      end,
    }
  }

  #refuseOddErrors(error: DbError): void {
    const { miscompute, rot } = this.#parts.swarm.weights
    const mayDiverge = miscompute > 0 || rot > 0
    const isDiverged = error.code === 'DIVERGED' && !mayDiverge
    const isOdd = isDiverged || error.code === 'CORRUPT' || error.code === 'INTERNAL'
    if (isOdd) throw new Violation(`${error.code}: ${error.message}`)
  }

  /** Sees to it that the databases are there and have their tables. */
  #administrate(): void {
    const { world, swarm, oracle } = this.#parts
    const again = (): void => {
      world.after(this.#random.exponential(20), () => this.#administrate())
    }
    if (this.#isStopped) return
    const node = this.pickNode()
    if (node === undefined) return again()
    for (const database of [...LASTING, PASSING]) {
      const there = oracle.model.database(database)
      if (there === undefined && database !== PASSING) {
        return this.changeDatabases(node, 'create-database', database, again)
      }
      if (there !== undefined && there.registers.size === 0) {
        const action = { type: 'set-up', keyCount: swarm.keyCount } as const
        return this.write(node, database, action, again)
      }
    }
    again()
  }

  /** Database of most operations; the others meet it now and then. */
  pickDatabase(): string {
    return this.#random.pick([...LASTING, LASTING[0], LASTING[0], PASSING, 'missing'])
  }
}

class Client {
  readonly #workload: Workload
  readonly #random: SimRandom
  readonly #identified: IdentifiedClient
  /** The newest index that this client has seen. */
  #token = 0

  constructor(number: number, workload: Workload) {
    this.#workload = workload
    this.#random = workload.parts.world.random(`client/${number}`)
    const random = workload.parts.world.random(`identified/${number}`)
    this.#identified = new IdentifiedClient(workload, random)
  }

  run(): void {
    const { world, swarm } = this.#workload.parts
    world.after(this.#random.exponential(swarm.thinkMsMean) + 0.01, () => this.#act())
  }

  #act(): void {
    if (this.#workload.isStopped) return
    const node = this.#workload.pickNode()
    if (node === undefined) {
      this.#workload.parts.world.after(10, () => this.run())
      return
    }
    const random = this.#random
    const database = this.#workload.pickDatabase()
    const next = (index: number): void => {
      this.#token = Math.max(this.#token, index)
      if (index > 0) return this.run()
      // Whatever went wrong, asking again at once would only keep everybody busy.
      this.#workload.parts.world.after(random.exponential(BACKOFF_MS_MEAN), () => this.run())
    }
    const kinds: readonly (readonly [weight: number, act: () => void])[] = [
      [25, () => this.#workload.write(node, database, this.#drawAction(), next)],
      [25, () => this.#identified.write(node, database, this.#drawAction(), next)],
      [6, () => this.#workload.failing(node, database, next)],
      [6, () => this.#workload.readByWriting(node, database, this.#key(), next)],
      [15, () => this.#read(node, database, 'linearizable', next)],
      [8, () => this.#read(node, database, 'session', next)],
      [10, () => this.#read(node, database, 'local', next)],
      [3, () => this.#workload.digest(node, database, next)],
      [4, () => this.#burst(node, database, next)],
      [2, () => this.#changePassing(node, this.#workload, () => next(0))],
      [2, () => this.#changePassing(node, this.#identified, () => next(0))],
      [
        this.#workload.parts.swarm.transactionWeight,
        () => new SimTransaction(this.#workload, random, database, next).begin(node),
      ],
    ]
    let point = random.below(kinds.reduce((sum, [weight]) => sum + weight, 0))
    for (const [weight, act] of kinds) {
      point -= weight
      if (point < 0) return act()
    }
  }

  /** Several writes and reads at once, so that they share a batch: all want the same name and key. */
  #burst(node: SimNode, database: string, next: (index: number) => void): void {
    const key = this.#key()
    const action = this.#drawAction()
    let left = 0
    let newest = 0
    const ended = (index: number): void => {
      newest = Math.max(newest, index)
      if (--left === 0) next(newest)
    }
    const count = this.#random.between(2, 5)
    for (let request = 0; request < count; request++) {
      left++
      const draw = this.#random.below(10)
      if (draw < 3) this.#workload.readByWriting(node, database, key, ended)
      else if (draw < 5) this.#identified.write(node, database, action, ended)
      else this.#workload.write(node, database, action, ended)
    }
  }

  #drawAction(): Action {
    const random = this.#random
    const name = `name-${random.below(this.#workload.parts.swarm.nameCount)}`
    return random.pick<Action>([
      { type: 'bump', key: this.#key() },
      { type: 'bump', key: this.#key() },
      { type: 'bump', key: this.#key() },
      { type: 'mark' },
      { type: 'claim', name },
      { type: 'mark-and-claim', name },
    ])
  }

  #key(): number {
    return this.#random.below(this.#workload.parts.swarm.keyCount)
  }

  #read(
    node: SimNode,
    database: string,
    consistency: Consistency,
    next: (index: number) => void,
  ): void {
    const hasToken = consistency === 'session' || this.#random.chance(0.2)
    this.#workload.read(
      node,
      database,
      {
        consistency,
        ...(hasToken ? { atLeastIndex: this.#token } : {}),
        ...(consistency === 'local' && this.#random.chance(0.5)
          ? { maxLagMs: this.#random.pick([0, 50, 500]) }
          : {}),
      },
      next,
    )
  }

  #changePassing(node: SimNode, changer: Workload | IdentifiedClient, next: () => void): void {
    const isThere = this.#workload.parts.oracle.model.database(PASSING) !== undefined
    const isRight = this.#random.chance(0.8)
    const type = isThere === isRight ? 'drop-database' : 'create-database'
    changer.changeDatabases(node, type, PASSING, next)
  }
}
