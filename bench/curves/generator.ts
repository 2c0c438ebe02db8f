/**
 * The load generator of a curve, a process of its own: writes with request ids over bare sockets, one
 * on its way on each connection. It reads its plan from the first argument and ends with one line of
 * JSON: what it measured, and what the check afterwards has to know.
 */
import { Load, randomOf } from '../load.ts'
import type { Failure, LoadConnection, LoadMeasured, LoadSource } from '../load.ts'
import { HttpConnection } from '../peers/drivers/http.ts'
import { ask } from '../peers/drivers/lockstep.ts'
import type { CurveLoad } from './curves.ts'
import { FIRST_INSERTED_ID, databaseName, databaseOfInserted, placeOfLoaded } from './rows.ts'
import type { CurveOperation, Spread } from './rows.ts'

export interface Plan extends CurveLoad {
  readonly address: string
  readonly spread: Spread
  readonly rowBytes: number
  readonly warmUpMs: number
  readonly durationMs: number
  readonly firstId: number
  readonly seed: number
}

export interface Measured extends LoadMeasured {
  /** Ids from `firstId` to below it were used. */
  readonly nextId: number
  /** Ids of inserted rows of which nothing is known. */
  readonly unacknowledged: readonly number[]
  /** Numbers of the rows that were updated, as often as they were. */
  readonly updated: readonly number[]
  readonly maybeUpdated: readonly number[]
}

class CurveConnection implements LoadConnection<CurveOperation> {
  readonly #http: HttpConnection
  readonly #session: string
  readonly #plan: Plan
  readonly #text: string
  #sequence = 0

  constructor(http: HttpConnection, session: string, plan: Plan) {
    this.#http = http
    this.#session = session
    this.#plan = plan
    this.#text = 'x'.repeat(plan.rowBytes)
  }

  perform(operation: CurveOperation, done: (failure: Failure | undefined) => void): void {
    this.#sequence += 1
    const header = `lockstep-request: ${this.#session}/${this.#sequence}\r\n`
    this.#http.post('/execute', header, this.#body(operation), (status, answer) => {
      if (status === 200) return done(undefined)
      done({ text: `${status} ${String(answer)}`.slice(0, 300), isConflict: false })
    })
  }

  close(): void {
    this.#http.close()
  }

  #body(operation: CurveOperation): string {
    const { spread } = this.#plan
    if (operation.type === 'insert') {
      const database = databaseName(databaseOfInserted(operation.id, spread))
      const id = FIRST_INSERTED_ID + operation.id
      const sql = 'INSERT INTO t (id, a, b) VALUES (?, ?, 0)'
      return `{"database":"${database}","sql":"${sql}","params":[${id},"${this.#text}"]}`
    }
    const { database, id } = placeOfLoaded(operation.row, spread)
    const sql = 'UPDATE t SET b = b + 1 WHERE id = ?'
    return `{"database":"${databaseName(database)}","sql":"${sql}","params":[${id}]}`
  }
}

class CurveSource implements LoadSource<CurveOperation> {
  readonly #plan: Plan
  readonly #random: () => number
  readonly unacknowledged: number[] = []
  readonly updated: number[] = []
  readonly maybeUpdated: number[] = []
  nextId: number

  constructor(plan: Plan) {
    this.#plan = plan
    this.#random = randomOf(plan.seed)
    this.nextId = plan.firstId
  }

  next(): CurveOperation {
    if (this.#plan.operation === 'insert') {
      this.nextId += 1
      return { type: 'insert', id: this.nextId - 1 }
    }
    return { type: 'update', row: Math.floor(this.#random() * this.#plan.spread.loadedRows) }
  }

  onAcknowledged(operation: CurveOperation): void {
    if (operation.type === 'update') this.updated.push(operation.row)
  }

  onFailed(operation: CurveOperation): void {
    if (operation.type === 'insert') this.unacknowledged.push(operation.id)
    else this.maybeUpdated.push(operation.row)
  }
}

const plan = JSON.parse(process.argv[2] ?? '') as Plan
const connections = await Promise.all(
  Array.from({ length: plan.connections }, async () => {
    const http = await HttpConnection.open(plan.address)
    const { session } = await ask<{ session: string }>(http, '/sessions', '{}')
    return new CurveConnection(http, session, plan)
  }),
)
const source = new CurveSource(plan)
const measured: Measured = {
  ...(await new Load(source).run(connections, plan)),
  nextId: source.nextId,
  unacknowledged: source.unacknowledged,
  updated: source.updated,
  maybeUpdated: source.maybeUpdated,
}
process.stdout.write(JSON.stringify(measured), () => process.exit(0))
