/** Whether a cluster still has every write that it acknowledged, on each of its nodes. */
import { must } from '../../src/base/assert.ts'
import type { LocalNode } from '../../src/cli/local-cluster.ts'
import { forEachOf } from '../pool.ts'
import type { CurveCluster } from './deployment.ts'
import type { Measured } from './generator.ts'
import { FIRST_INSERTED_ID, databaseName, databaseOfInserted, placeOfLoaded } from './rows.ts'
import type { Spread } from './rows.ts'

const IDS_PER_PAGE = 20_000
const UPDATED_PER_QUESTION = 2000
const AT_ONCE = 8

export interface Verdict {
  readonly acknowledgedInserts: number
  readonly acknowledgedUpdates: number
  /** In words, of what is wrong; empty if nothing is. */
  readonly faults: readonly string[]
}

/** What all load generators of a point did together. */
export class Ledger {
  readonly #spread: Spread
  readonly #unacknowledged = new Set<number>()
  /** How often a row was updated, and how often perhaps; by its number. */
  readonly #updated = new Map<number, { sure: number; perhaps: number }>()
  nextId = 1

  constructor(spread: Spread) {
    this.#spread = spread
  }

  add(measured: Measured): void {
    this.nextId = measured.nextId
    for (const id of measured.unacknowledged) this.#unacknowledged.add(id)
    for (const row of measured.updated) this.#updatesOf(row).sure += 1
    for (const row of measured.maybeUpdated) this.#updatesOf(row).perhaps += 1
  }

  /** What each database should hold, by its number. */
  expected(): Map<number, Expected> {
    const all = new Map<number, Expected>()
    const expectedOf = (database: number): Expected => {
      const known = all.get(database)
      if (known !== undefined) return known
      const made = { inserted: new Set<number>(), maybeInserted: new Set<number>(), updated: [] }
      all.set(database, made)
      return made
    }
    for (let id = 1; id < this.nextId; id += 1) {
      const expected = expectedOf(databaseOfInserted(id, this.#spread))
      const isKnown = !this.#unacknowledged.has(id)
      const ids = isKnown ? expected.inserted : expected.maybeInserted
      ids.add(FIRST_INSERTED_ID + id)
    }
    for (const [row, counts] of this.#updated) {
      const { database, id } = placeOfLoaded(row, this.#spread)
      expectedOf(database).updated.push({ id, ...counts })
    }
    return all
  }

  #updatesOf(row: number): { sure: number; perhaps: number } {
    const known = this.#updated.get(row)
    if (known !== undefined) return known
    const made = { sure: 0, perhaps: 0 }
    this.#updated.set(row, made)
    return made
  }
}

interface Expected {
  readonly inserted: Set<number>
  readonly maybeInserted: Set<number>
  readonly updated: { id: number; sure: number; perhaps: number }[]
}

/** Rows that a node holds beside the loaded ones, and updates of those; of one database. */
interface Held {
  readonly ids: readonly number[]
  readonly updates: number
}

export async function audit(cluster: CurveCluster, ledger: Ledger): Promise<Verdict> {
  const expected = ledger.expected()
  const faults: string[] = []
  for (const node of cluster.nodes) {
    await forEachOf([...expected], AT_ONCE, async ([number, wanted]) => {
      const held = await readDatabase(cluster, node, databaseName(number), wanted)
      const where = `${databaseName(number)} on ${node.nodeId}`
      faults.push(...faultsOf(wanted, held).map(fault => `${where}: ${fault}`))
    })
  }
  const all = [...expected.values()]
  return {
    acknowledgedInserts: all.reduce((sum, { inserted }) => sum + inserted.size, 0),
    acknowledgedUpdates: all
      .flatMap(({ updated }) => updated)
      .reduce((sum, { sure }) => sum + sure, 0),
    faults,
  }
}

/** What is wrong with a database, in words. */
export function faultsOf(expected: Expected, { ids, updates }: Held): string[] {
  const faults: string[] = []
  const present = new Set(ids)
  const missing = [...expected.inserted].filter(id => !present.has(id)).length
  if (missing > 0) faults.push(`${missing} acknowledged rows are not there`)
  const strange = ids.filter(id => !expected.inserted.has(id) && !expected.maybeInserted.has(id))
  if (strange.length > 0) faults.push(`${strange.length} rows are there that nobody inserted`)
  if (present.size < ids.length) faults.push('a row is there twice')
  const sure = expected.updated.reduce((sum, one) => sum + one.sure, 0)
  const perhaps = expected.updated.reduce((sum, one) => sum + one.perhaps, 0)
  if (updates < sure || updates > sure + perhaps) {
    faults.push(`${updates} updates took effect; ${sure} were acknowledged, ${perhaps} perhaps`)
  }
  return faults
}

async function readDatabase(
  cluster: CurveCluster,
  node: LocalNode,
  database: string,
  expected: Expected,
): Promise<Held> {
  const ids: number[] = []
  for (let after = FIRST_INSERTED_ID; ;) {
    const page = await cluster.query(
      node,
      database,
      `SELECT id FROM t WHERE id > ${after} ORDER BY id LIMIT ${IDS_PER_PAGE}`,
    )
    for (const [id] of page) ids.push(must(id))
    if (page.length < IDS_PER_PAGE) break
    after = must(ids.at(-1))
  }
  let updates = 0
  for (let at = 0; at < expected.updated.length; at += UPDATED_PER_QUESTION) {
    const some = expected.updated.slice(at, at + UPDATED_PER_QUESTION)
    const sql = `SELECT SUM(b) FROM t WHERE id IN (${some.map(({ id }) => id).join()})`
    updates += (await cluster.query(node, database, sql))[0]?.[0] ?? 0
  }
  return { ids, updates }
}
