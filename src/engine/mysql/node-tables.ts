/**
 * What a node keeps on its server beside the data: whose data they are, how far they have applied
 * the log, which databases there are, and the books. All of it is in one database of its own,
 * `PREFIXlockstep`, and the applied index moves by compare-and-set in the transaction that it
 * speaks of.
 */
import { DbError } from '../../base/errors.ts'
import type { SqlValue } from '../../base/sql.ts'
import type { AcceptedEntry, Divergence, EnginePast } from '../engine.ts'
import type { CatalogueBook } from '../request-ids.ts'
import type { RecordsBuilder } from '../request-records.ts'
import type { Connection } from './connection.ts'
import { refuseForeignTables } from './foreign-tables.ts'
import { SYSTEM_DATABASES } from './refusals.ts'
import { literal, quoteName, quoteText } from './render.ts'
import { MysqlRequestBook } from './request-book.ts'

/** Which node of which cluster the data belong to. */
export interface Owner {
  readonly clusterId: string
  readonly nodeId: string
  readonly incarnation: string
}

/** What a schema change came to, until the others have compared it. */
export interface SchemaOutcome {
  readonly index: number
  readonly digest: string
}

/** What the requests of one entry add to the book. */
export interface EntryRecords {
  readonly index: number
  readonly records: RecordsBuilder
}

/** Version of these tables. */
const FORMAT = 1

/** `$` stands for the name of the database. */
const TABLES: readonly (readonly [name: string, columns: string])[] = [
  [
    'state',
    'id TINYINT PRIMARY KEY, format INT NOT NULL, cluster_id VARCHAR(64) NOT NULL, ' +
      'node_id VARCHAR(64) NOT NULL, incarnation VARCHAR(64) NOT NULL, applied BIGINT NOT NULL, ' +
      'now_ms BIGINT NOT NULL, request_floor BIGINT NOT NULL, request_key_floor BIGINT NOT NULL, ' +
      'request_row BIGINT NOT NULL, request_ids MEDIUMBLOB NOT NULL',
  ],
  ['db', 'name VARCHAR(64) PRIMARY KEY, made_by BIGINT NOT NULL'],
  ['request', 'entry BIGINT PRIMARY KEY, last BIGINT NOT NULL, ids MEDIUMBLOB NOT NULL'],
  // A schema change that is about to run: what the database looked like before.
  ['intent', 'entry BIGINT PRIMARY KEY, digest VARCHAR(32) NOT NULL'],
  // Schema changes that ran here and were not compared yet.
  ['outcome', 'entry BIGINT PRIMARY KEY, digest VARCHAR(32) NOT NULL'],
  ['accepted', 'entry BIGINT PRIMARY KEY, digest VARCHAR(32) NOT NULL'],
  ['note', 'name VARCHAR(64) PRIMARY KEY, value MEDIUMTEXT NOT NULL'],
]

/** Those that speak of the data, beside the state: a snapshot has them, too. */
export const DATA_TABLES = ['db', 'request', 'accepted', 'outcome']

/** What a database is made with. */
export const DATABASE_COLLATION = 'CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci'

/** Names of the columns of each. */
const COLUMNS = new Map(
  TABLES.map(([table, columns]) => [table, columns.split(', ').map(each => each.split(' ', 1)[0])]),
)

/** Name of the database that holds a node's own tables. */
export function ownDatabase(prefix: string): string {
  return `${prefix}lockstep`
}

export class NodeTables implements CatalogueBook {
  readonly #connection: Connection
  readonly #prefix: string
  readonly #databases = new Map<string, number>()
  #book: MysqlRequestBook
  #applied: number
  #nowMs: number
  #outcomes: SchemaOutcome[] = []
  #accepted = new Map<number, string>()
  #condemned: Divergence | undefined
  #copiedIndex = 0
  #foreign: ReadonlySet<string> = new Set()

  private constructor(
    connection: Connection,
    prefix: string,
    applied: number,
    nowMs: number,
    book: MysqlRequestBook,
  ) {
    this.#connection = connection
    this.#prefix = prefix
    this.#applied = applied
    this.#nowMs = nowMs
    this.#book = book
  }

  /**
   * Opens the tables of this owner, or makes them where there are none. Rejects with WRONG_DATA if
   * somebody else has them.
   */
  static async open(connection: Connection, prefix: string, owner: Owner): Promise<NodeTables> {
    const own = quoteName(ownDatabase(prefix))
    const [state] = await connection.rows(await selectState(connection, prefix))
    // They are not there, or their maker was ended before the last step.
    if (state === undefined) {
      await make(connection, prefix, owner)
      return NodeTables.open(connection, prefix, owner)
    }
    expectOwner(state, prefix, owner)
    const [, , , , applied, nowMs, floor, keyFloor, row, ids] = state
    const book = await MysqlRequestBook.load(connection, `${own}.request`, {
      floors: { sessions: Number(floor), keys: Number(keyFloor) },
      row: Number(row),
      ids: ids as Uint8Array,
    })
    const tables = new NodeTables(connection, prefix, Number(applied), Number(nowMs), book)
    await tables.#load()
    return tables
  }

  /** The last entry that is here. The last that moved anything may be before it, in a copy. */
  get applied(): number {
    return Math.max(this.#applied, this.#copiedIndex)
  }

  /** Newest moment of an entry. */
  get nowMs(): number {
    return this.#nowMs
  }

  get requests(): MysqlRequestBook {
    return this.#book
  }

  /** A book is never dropped with its database here, so that none is missed. */
  droppedAt(): number {
    return 0
  }

  /** Index of the entry that made a database, undefined if there is none of this name. */
  madeBy(name: string): number | undefined {
    return this.#databases.get(name)
  }

  get size(): number {
    return this.#databases.size
  }

  /** Name of a database on the server. */
  serverName(database: string): string {
    return `${this.#prefix}${database}`
  }

  /** Whether a name is one of a database on the server, be it this node's or another's. */
  readonly isForeign = (name: string): boolean =>
    SYSTEM_DATABASES.has(name) || this.#foreign.has(name)

  /** Schema changes whose outcomes the others have not compared yet, the oldest first. */
  get outcomes(): readonly SchemaOutcome[] {
    return this.#outcomes
  }

  get past(): EnginePast {
    const accepted = [...this.#accepted].map(([index, digest]) => ({ index, digest }))
    return { copiedIndex: this.#copiedIndex, accepted, condemned: this.#condemned }
  }

  /** Digest of the outcomes that the replicas agreed on for an entry, if they had to. */
  agreedDigest(index: number): string | undefined {
    return this.#accepted.get(index)
  }

  /** Looks which databases the server has, so that none is reached that isn't the client's. */
  async lookAround(): Promise<void> {
    const rows = await this.#connection.rows('SHOW DATABASES')
    this.#foreign = new Set(rows.map(([name]) => String(name).toLowerCase()))
  }

  /**
   * The statements that end a transaction whose last entry is `index`; `records`: ids of requests,
   * with the entry of each. Memory is changed at once: if the transaction fails, these tables must
   * be opened anew.
   */
  commitSql(index: number, nowMs: number, records: readonly EntryRecords[]): readonly string[] {
    const own = quoteName(ownDatabase(this.#prefix))
    const moment = Math.max(nowMs, this.#nowMs)
    const statements = records.flatMap(each => this.#book.add(each.index, each.records))
    // NULL where a number must be: the transaction fails before its COMMIT.
    const applied = `applied = IF(applied = ${this.#applied}, ${index}, NULL)`
    let changes = `${applied}, now_ms = ${moment}`
    if (records.length > 0) {
      const { floors, row, ids } = this.#book.state
      changes +=
        `, request_floor = ${floors.sessions}, request_key_floor = ${floors.keys}, ` +
        `request_row = ${row}, request_ids = ${literal(ids)}`
    }
    this.#applied = index
    this.#nowMs = moment
    return [...statements, `UPDATE ${own}.state SET ${changes} WHERE id = 1`, 'COMMIT']
  }

  /** Adds a database to the list; gives the statement for the transaction of its entry. */
  addSql(name: string, index: number): string {
    this.#databases.set(name, index)
    return `INSERT INTO ${this.#own('db')} VALUES (${quoteText(name)}, ${index})`
  }

  removeSql(name: string): string {
    this.#databases.delete(name)
    return `DELETE FROM ${this.#own('db')} WHERE name = ${quoteText(name)}`
  }

  /** What the database looked like before the schema change of entry `index`, if it was begun. */
  async intentOf(index: number): Promise<string | undefined> {
    const rows = await this.#connection.rows(
      `SELECT digest FROM ${this.#own('intent')} WHERE entry = ${index}`,
    )
    return rows[0] && String(rows[0][0])
  }

  /** Writes down that the schema change of entry `index` is about to run. */
  async intend(index: number, digest: string): Promise<void> {
    await this.#connection.expect(
      `INSERT INTO ${this.#own('intent')} VALUES (${index}, ${quoteText(digest)})`,
    )
  }

  /** The statement that notes what a schema change came to, for the transaction of its entry. */
  outcomeSql(outcome: SchemaOutcome): readonly string[] {
    const { index, digest } = outcome
    this.#outcomes.push(outcome)
    return [`INSERT INTO ${this.#own('outcome')} VALUES (${index}, ${quoteText(digest)})`]
  }

  /** The statement for the transaction after which nothing is intended any more. */
  endIntentSql(): readonly string[] {
    return [`DELETE FROM ${this.#own('intent')}`]
  }

  /** What this node's schema change at an entry came to, if it is not compared yet. */
  outcomeOf(index: number): SchemaOutcome | undefined {
    return this.#outcomes.find(outcome => outcome.index === index)
  }

  /** The statement for the transaction in which schema changes up to `index` were compared. */
  comparedSql(index: number): string {
    this.#outcomes = this.#outcomes.filter(outcome => outcome.index > index)
    return `DELETE FROM ${this.#own('outcome')} WHERE entry <= ${index}`
  }

  /** Makes all that is committed survive a power cut, on a server that flushes now and then. */
  flush(): Promise<void> {
    return flushServer(this.#connection, this.#prefix, this.#applied)
  }

  async accept({ index, digest }: AcceptedEntry): Promise<void> {
    const values = `${index}, ${quoteText(digest)}`
    await this.#connection.expect(`REPLACE INTO ${this.#own('accepted')} VALUES (${values})`)
    this.#accepted.set(index, digest)
  }

  async condemn(divergence: Divergence): Promise<void> {
    const values = `'condemned', ${quoteText(JSON.stringify(divergence))}`
    await this.#connection.expect(`REPLACE INTO ${this.#own('note')} VALUES (${values})`)
    this.#condemned = divergence
  }

  get condemned(): Divergence | undefined {
    return this.#condemned
  }

  #own(table: string): string {
    return `${quoteName(ownDatabase(this.#prefix))}.${table}`
  }

  async #load(): Promise<void> {
    const read = (table: string): Promise<readonly (readonly SqlValue[])[]> =>
      this.#connection.rows(`SELECT * FROM ${this.#own(table)} ORDER BY 1`)
    for (const [name, madeBy] of await read('db')) this.#databases.set(String(name), Number(madeBy))
    for (const [entry, digest] of await read('accepted')) {
      this.#accepted.set(Number(entry), String(digest))
    }
    for (const [entry, digest] of await read('outcome')) {
      this.#outcomes.push({ index: Number(entry), digest: String(digest) })
    }
    for (const [name, value] of await read('note')) {
      // We wrote it, and nobody else may.
      if (name === 'condemned') this.#condemned = JSON.parse(String(value)) as Divergence
      if (name === 'copied') this.#copiedIndex = Number(value)
    }
    await this.lookAround()
  }
}

/** Whether the tables are there. Rejects with WRONG_DATA if they are another's. */
export async function refuseStrangers(
  connection: Connection,
  prefix: string,
  owner: Owner,
): Promise<boolean> {
  const [state] = await connection.rows(await selectState(connection, prefix))
  if (state === undefined) return false
  expectOwner(state, prefix, owner)
  return true
}

/**
 * Makes all that is committed survive a power cut, on a server that flushes only now and then. One
 * transaction is flushed, and with it all before it.
 */
export async function flushServer(
  connection: Connection,
  prefix: string,
  applied: number,
): Promise<void> {
  const lock = "'lockstep.flush'"
  const setting = 'GLOBAL innodb_flush_log_at_trx_commit'
  const [[flushes] = []] = await connection.rows('SELECT @@global.innodb_flush_log_at_trx_commit')
  if (flushes === 1n) return
  // Nodes that share the server take turns, or one would take the other's setting back.
  await connection.expect(
    [
      `SELECT GET_LOCK(${lock}, 10)`,
      `SET @lockstep_flush = @@${setting.replace('GLOBAL ', 'global.')}`,
      `SET ${setting} = 1`,
      `REPLACE INTO ${quoteName(ownDatabase(prefix))}.note VALUES ('flushed', '${applied}')`,
      `SET ${setting} = @lockstep_flush`,
      `SELECT RELEASE_LOCK(${lock})`,
    ].join('; '),
  )
}

/** Makes the tables in a database of this name, which it makes too. */
export async function makeTables(connection: Connection, database: string): Promise<void> {
  const name = quoteName(database)
  await connection.expect(
    `CREATE DATABASE IF NOT EXISTS ${name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,
  )
  for (const [table, columns] of TABLES) {
    await connection.expect(
      `CREATE TABLE IF NOT EXISTS ${name}.${table} (${columns}) ENGINE = InnoDB`,
    )
  }
}

async function make(connection: Connection, prefix: string, owner: Owner): Promise<void> {
  const name = quoteName(ownDatabase(prefix))
  await refuseForeignTables(connection, ownDatabase(prefix), COLUMNS)
  await makeTables(connection, ownDatabase(prefix))
  await connection.expect(`USE ${name}; ${initialStateSql(owner)}`)
}

/** The statement that makes the row of the state, in the current database. */
export function initialStateSql(owner: Owner): string {
  const { clusterId, nodeId, incarnation } = owner
  const texts = [clusterId, nodeId, incarnation].map(quoteText).join(', ')
  // No floor is above a session born at 0, nor above any key.
  return `INSERT INTO state VALUES (1, ${FORMAT}, ${texts}, 0, 0, -1, 0, 0, x'')`
}

async function selectState(connection: Connection, prefix: string): Promise<string> {
  const name = ownDatabase(prefix)
  const [[count] = []] = await connection.rows(
    `SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = ${quoteText(name)} ` +
      "AND table_name = 'state' AND column_name IN " +
      "('format', 'cluster_id', 'node_id', 'incarnation')",
  )
  // There is none, or it is no table of Lockstep's.
  if (count !== 4n) return 'SELECT 1 FROM DUAL WHERE 1 = 0'
  return (
    'SELECT format, cluster_id, node_id, incarnation, applied, now_ms, request_floor, ' +
    `request_key_floor, request_row, request_ids FROM ${quoteName(name)}.state`
  )
}

function expectOwner(state: readonly SqlValue[], prefix: string, owner: Owner): void {
  const [format, clusterId, nodeId, incarnation] = state
  const where = `${ownDatabase(prefix)} on the server`
  if (format !== BigInt(FORMAT)) {
    const message = `${where} is of format ${String(format)}, this release knows ${FORMAT}`
    throw new DbError('WRONG_DATA', message)
  }
  const isOwn =
    clusterId === owner.clusterId && nodeId === owner.nodeId && incarnation === owner.incarnation
  if (isOwn) return
  const whose =
    clusterId === owner.clusterId && nodeId === owner.nodeId
      ? `an earlier life of node ${owner.nodeId}, whose data directory is another`
      : `node ${String(nodeId)} of cluster ${String(clusterId)}`
  throw new DbError(
    'WRONG_DATA',
    `${where} belongs to ${whose}; give this node another prefix, or drop the databases of ` +
      'that one',
  )
}
