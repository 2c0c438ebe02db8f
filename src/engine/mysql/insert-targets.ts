/**
 * What the writer knows of tables that rows go to: whether their rows may share a statement, with
 * results that are known one by one. That must be known before: which column counts by itself is
 * asked of the server, and stays so until the next schema change.
 */
import type { Connection } from './connection.ts'
import { quoteText } from './render.ts'
import type { RequestPlan } from './request-plan.ts'

/** A request's plan, and the name of its database on the server. */
export interface Placed {
  readonly plan: RequestPlan
  readonly server: string
}

export interface InsertTarget {
  /** The column that counts by itself, in small letters. */
  readonly counter: string | undefined
}

/** So many packets long the rows of a text go one by one after they failed together. */
const ROUNDS = 100
const HEADS_MAX = 1000
/** Of other names the server may think otherwise which are the same. */
const PLAIN_NAME = /^[a-z0-9_$]+$/

export class InsertTargets {
  readonly #connection: Connection
  /** Null: rows of this table go one by one. */
  readonly #targets = new Map<string, InsertTarget | null>()
  /** By what stands before the row: until which round rows go one by one. */
  readonly #oneByOne = new Map<string, number>()
  #round = 0

  constructor(connection: Connection) {
    this.#connection = connection
  }

  /** The schema may have changed. */
  forget(): void {
    this.#targets.clear()
  }

  /** Another packet is planned. */
  beginRound(): void {
    this.#round++
  }

  /** Asks the server of the table of a row, unless it is known. */
  async learn({ plan, server }: Placed): Promise<void> {
    const table = plan.row?.form.table
    if (table === undefined) return
    const key = keyOf(server, table)
    if (this.#targets.has(key)) return
    const rows = await this.#connection.rows(
      'SELECT t.table_name, c.column_name FROM information_schema.tables AS t ' +
        'LEFT JOIN information_schema.columns AS c ON c.table_schema = t.table_schema ' +
        "AND c.table_name = t.table_name AND c.extra LIKE '%auto_increment%' " +
        `WHERE t.table_schema = ${quoteText(server)} AND t.table_name = ${quoteText(table)} ` +
        "AND t.table_type = 'BASE TABLE' AND t.engine = 'InnoDB'",
    )
    // Names that differ in the size of letters only may be found with it.
    const own = rows.filter(([name]) => name === table)
    const counter = own[0]?.[1]
    const isKnown = own.length === 1
    const target = { counter: typeof counter === 'string' ? counter.toLowerCase() : undefined }
    this.#targets.set(key, isKnown ? target : null)
  }

  /** Undefined if it is not known, or rows of this table must go one by one. */
  targetOf({ plan, server }: Placed): InsertTarget | undefined {
    return this.#targets.get(keyOf(server, plan.row?.form.table ?? '')) ?? undefined
  }

  /** Whether a row may share its statement with others. */
  mayShare(placed: Placed): boolean {
    const { plan, server } = placed
    const target = this.targetOf(placed)
    if (plan.row === undefined || target === undefined) return false
    const { head, form } = plan.row
    if (this.#round <= (this.#oneByOne.get(keyOf(server, head)) ?? 0)) return false
    const { counter } = target
    if (counter === undefined) return true
    // Ids that the rows bring along are not told one by one.
    return (
      form.given !== undefined &&
      PLAIN_NAME.test(counter) &&
      form.given.every(name => PLAIN_NAME.test(name) && name !== counter)
    )
  }

  /** Rows failed together: to try it with each packet would cost twice. */
  noteFailure({ plan, server }: Placed): void {
    if (this.#oneByOne.size >= HEADS_MAX) this.#oneByOne.clear()
    this.#oneByOne.set(keyOf(server, plan.row?.head ?? ''), this.#round + ROUNDS)
  }
}

function keyOf(server: string, name: string): string {
  return `${server}/${name}`
}
