/**
 * Interactive transactions of the simulated clients. Each remembers all that it was told, step by
 * step, for transaction-judge.ts.
 */
import type { Statement, StatementResult } from '../src/base/sql.ts'
import type { TransactionOperation, TransactionOutcome } from '../src/replica/transaction-call.ts'
import type { Operation, Oracle } from './oracle.ts'
import { readAll, registersOf, toNumber } from './requests.ts'
import type { SimNode } from './sim-node.ts'
import type { SimRandom } from './sim-random.ts'
import { BUMP, CLAIM, MARK } from './statements.ts'
import type { Observation } from './transaction-judge.ts'
import type { Swarm } from './swarm.ts'
import type { World } from './world.ts'

const SAVEPOINT: Statement = { sql: 'SAVEPOINT here', params: [] }
const ROLLBACK_TO: Statement = { sql: 'ROLLBACK TO here', params: [] }
const STEP_TIMEOUTS_MS = [50, 500, 3000]
/** A commit of unknown fate is asked for again so often. */
const COMMITS_MAX = 20

/** What a transaction needs of the workload that it is part of. */
export interface TransactionHost {
  readonly parts: { readonly world: World; readonly swarm: Swarm; readonly oracle: Oracle }
  readonly isStopped: boolean
  pickNode(): SimNode | undefined
  transact(
    node: SimNode,
    operation: TransactionOperation,
    timeoutMs: number,
    heard: (outcome: TransactionOutcome | undefined) => void,
  ): void
}

/** One transaction of a client, from its begin to its end, at a node picked for each call. */
export class SimTransaction {
  readonly #workload: TransactionHost
  readonly #random: SimRandom
  readonly #database: string
  readonly #operation: Operation
  readonly #next: (index: number) => void
  readonly #observations: Observation[] = []
  readonly #thinkMsMean: number
  #name = ''
  #stepsLeft: number
  #hasSavepoint = false
  #hasMarked = false
  /** How often calls that were not run may be sent again. */
  #againLeft = 10

  constructor(
    workload: TransactionHost,
    random: SimRandom,
    database: string,
    next: (index: number) => void,
  ) {
    this.#workload = workload
    this.#random = random
    this.#database = database
    this.#next = next
    this.#operation = workload.parts.oracle.beginTransaction(database, this.#observations)
    this.#stepsLeft = random.between(0, 5)
    this.#thinkMsMean = random.pick([0.1, 0.1, 3, 30, 200])
  }

  begin(node: SimNode): void {
    const given = this.#random.pick([0, 0, 100, 3000])
    const maxMs = given === 0 ? undefined : given
    this.#call(node, { type: 'begin', database: this.#database, maxMs }, outcome => {
      if (outcome?.type !== 'ok') return this.#giveUp(outcome)
      this.#name = outcome.value.transaction
      this.#soon(() => this.#step())
    })
  }

  #step(): void {
    const node = this.#workload.pickNode()
    const isLeft = this.#workload.isStopped || this.#random.chance(0.02)
    if (node === undefined || isLeft) return this.#end('abandoned')
    if (this.#stepsLeft === 0) {
      if (this.#random.chance(0.1)) return this.#rollback(node)
      return this.#commit(node, 1)
    }
    this.#stepsLeft -= 1
    const random = this.#random
    const number = BigInt(this.#operation.number)
    const { keyCount, nameCount } = this.#workload.parts.swarm
    const key = random.below(keyCount)
    const name = `name-${random.below(nameCount)}`
    const kind = random.pick(['read', 'read', 'bump', 'bump', 'bump', 'claim', 'savepoint', 'mark'])
    if (kind === 'read') {
      return this.#run(node, 'query', readAll(this.#database).statements, results => {
        this.#observations.push({ type: 'read', registers: registersOf(results[0]) })
      })
    }
    if (kind === 'claim') {
      return this.#claim(node, name, { sql: CLAIM, params: [number, name] })
    }
    if (kind === 'savepoint') return this.#savepoint(node)
    if (kind === 'mark' && !this.#hasMarked && !this.#hasSavepoint) {
      this.#hasMarked = true
      return this.#run(node, 'execute', [{ sql: MARK, params: [number] }], () => {
        this.#observations.push({ type: 'mark' })
      })
    }
    this.#run(node, 'execute', [{ sql: BUMP, params: [number, BigInt(key)] }], results => {
      const version = results[0]?.rows?.[0]?.[0]
      // Before the tables are filled there is no register to bump.
      if (version === undefined) this.#stepsLeft = -1
      else this.#observations.push({ type: 'bump', key, version: toNumber(version) })
    })
  }

  #savepoint(node: SimNode): void {
    const type = this.#hasSavepoint ? 'rollback-to' : 'savepoint'
    const statement = this.#hasSavepoint ? ROLLBACK_TO : SAVEPOINT
    this.#hasSavepoint = true
    this.#run(node, 'execute', [statement], () => this.#observations.push({ type }))
  }

  #claim(node: SimNode, name: string, statement: Statement): void {
    const { transaction, database } = { transaction: this.#name, database: this.#database }
    const call = { type: 'execute', transaction, database, statements: [statement] } as const
    this.#call(node, call, outcome => {
      const isTaken = outcome?.type === 'failed' && outcome.error.code === 'SQL_CONSTRAINT'
      if (outcome?.type !== 'ok' && !isTaken) return this.#giveUp(outcome)
      this.#observations.push({ type: 'claim', name, isTaken })
      this.#soon(() => this.#step())
    })
  }

  #run(
    node: SimNode,
    type: 'execute' | 'query',
    statements: readonly Statement[],
    heard: (results: readonly StatementResult[]) => void,
  ): void {
    const { transaction, database } = { transaction: this.#name, database: this.#database }
    this.#call(node, { type, transaction, database, statements }, outcome => {
      if (outcome?.type !== 'ok') return this.#giveUp(outcome)
      heard(outcome.value.results)
      if (this.#stepsLeft < 0) return this.#rollback(node)
      this.#soon(() => this.#step())
    })
  }

  #rollback(node: SimNode): void {
    this.#call(node, { type: 'rollback', transaction: this.#name }, () => this.#end('rolled back'))
  }

  #commit(node: SimNode, attempt: number): void {
    const { oracle } = this.#workload.parts
    const transaction = this.#name
    // Who asks again may give an id where none was given before, or none where one was.
    const isIdentified = (attempt + this.#operation.number) % 2 === 0
    const id = isIdentified
      ? ({ type: 'key', key: `commit of ${transaction}` } as const)
      : undefined
    this.#call(node, { type: 'commit', transaction, id }, outcome => {
      const isUnknown =
        outcome === undefined || (outcome.type === 'failed' && isAskedAgain(outcome.error.code))
      if (isUnknown && attempt < COMMITS_MAX && !this.#workload.isStopped) {
        return this.#soon(() => this.#commit(this.#workload.pickNode() ?? node, attempt + 1))
      }
      if (outcome?.type === 'ok') {
        const { index } = outcome.value
        oracle.committedTransaction(this.#operation, index)
        return this.#next(index)
      }
      // One that was asked for before may be in the log, whatever a later refusal says of itself.
      const isSure = outcome?.type === 'failed' && outcome.error.fate === 'not-applied'
      this.#end(outcome?.type === 'failed' ? outcome.error.code : 'no answer', !isSure || isUnknown)
    })
  }

  /** Nothing of it may be committed: no commit was asked for, or one was refused for good. */
  #end(why: string, isUnknown = false): void {
    this.#workload.parts.oracle.endedTransaction(this.#operation, why, isUnknown)
    this.#next(0)
  }

  #giveUp(outcome: TransactionOutcome | undefined): void {
    const why = outcome?.type === 'failed' ? outcome.error.code : 'no answer'
    const node = this.#random.chance(0.5) ? this.#workload.pickNode() : undefined
    if (this.#name === '' || node === undefined) return this.#end(why)
    this.#rollback(node)
  }

  #call(
    node: SimNode,
    operation: TransactionOperation,
    heard: (outcome: TransactionOutcome | undefined) => void,
  ): void {
    const timeoutMs = this.#random.pick(STEP_TIMEOUTS_MS)
    this.#workload.transact(node, operation, timeoutMs, outcome => {
      const wasNotRun = outcome?.type === 'failed' && NOT_RUN.has(outcome.error.code)
      if (!wasNotRun || this.#againLeft === 0 || this.#workload.isStopped) return heard(outcome)
      // It has surely not been run, so that it can be sent again.
      this.#againLeft -= 1
      this.#workload.parts.world.after(this.#random.exponential(AGAIN_MS_MEAN), () =>
        this.#call(this.#workload.pickNode() ?? node, operation, heard),
      )
    })
  }

  #soon(go: () => void): void {
    this.#workload.parts.world.after(this.#random.exponential(this.#thinkMsMean) + 0.01, go)
  }
}

const AGAIN_MS_MEAN = 40
const NOT_RUN: ReadonlySet<string> = new Set(['NOT_LEADER', 'NO_LEADER', 'OVERLOADED'])

/** Whether a commit may have been carried out, or its fate be told by another node. */
function isAskedAgain(code: string): boolean {
  return AGAIN.has(code)
}

const AGAIN: ReadonlySet<string> = new Set([
  'LEADERSHIP_LOST',
  'COMMIT_TIMEOUT',
  'CONNECTION_LOST',
  'NOT_LEADER',
  'NO_LEADER',
  'OVERLOADED',
  'SHUTTING_DOWN',
  // A leader that was condemned with the commit under way, or became a part of a tie.
  'DIVERGED',
  'DISPUTED',
  'NOT_READY',
])
