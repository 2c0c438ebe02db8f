/**
 * The digest of all data of a node as of one entry: of every database, with what Lockstep itself
 * remembers in its file, and of the catalogue. It is equal on nodes that hold the same, however
 * their files are laid out, and whatever a node knows for itself alone is no part of it.
 */
import type { DataDigest } from '../snapshot.ts'
import type { DatabaseSync } from 'node:sqlite'
import { must } from '../../base/assert.ts'
import type { SqlValue } from '../../base/sql.ts'
import { databaseFileName, SYSTEM_FILE } from './catalogue.ts'
import { Determinism } from './determinism.ts'
import { formatDigest, RowHash } from '../hash.ts'
import type { ReadTransactions } from './read-transactions.ts'
import { BOOK_NAMES } from './request-book.ts'
import { addDatabase, RowSum } from './table-digest.ts'

/**
 * What every node's file says of itself alike. Left out is `schema`, which also counts attempts
 * that only the leader saw.
 */
const OF_DATABASE = [
  `SELECT applied, now_ms, ${BOOK_NAMES} FROM lockstep_meta`,
  'SELECT entry, last, ids FROM lockstep_request',
]
/**
 * Left out are the floor and its moment, which say what is on this node's disk, and verdicts, which
 * only those have who were concerned.
 */
const OF_CATALOGUE = [
  `SELECT applied, dropped_floor, ${BOOK_NAMES} FROM lockstep_state`,
  'SELECT name, made_by FROM lockstep_database',
  'SELECT name, dropped_by FROM lockstep_dropped',
  'SELECT entry, last, ids FROM lockstep_request',
]

/**
 * Digests all files, and lets go of each when it is done. Yields now and then how many bytes of
 * values it has read since, so that its host may pause it; returns the digest.
 */
export function* digestFiles(files: ReadTransactions): Generator<number, DataDigest> {
  const catalogue = must(files.open.get(SYSTEM_FILE))
  const names = readNames(catalogue)
  const parts = [{ name: '', digest: digestOwn(catalogue, OF_CATALOGUE, new RowSum()) }]
  files.letGo(SYSTEM_FILE)
  for (const [name, madeBy] of names) {
    const file = databaseFileName(madeBy)
    const database = must(files.open.get(file), `the file of ${name}`)
    new Determinism().install(database)
    const sum = new RowSum()
    yield* addDatabase(database, sum)
    parts.push({ name, digest: digestOwn(database, OF_DATABASE, sum) })
    files.letGo(file)
  }
  const hash = new RowHash()
  hash.reset()
  for (const { name, digest } of parts) hash.row([name, digest])
  return { digest: formatDigest(hash.digest()), parts }
}

function digestOwn(database: DatabaseSync, queries: readonly string[], sum: RowSum): string {
  for (const sql of queries) {
    const statement = database.prepare(sql)
    try {
      for (const row of statement.iterate()) sum.add(sql, row as unknown as readonly SqlValue[])
    } finally {
      statement.close()
    }
  }
  return sum.digest()
}

function readNames(catalogue: DatabaseSync): readonly (readonly [string, number])[] {
  const statement = catalogue.prepare('SELECT name, made_by FROM lockstep_database ORDER BY name')
  try {
    const rows = statement.all() as unknown as readonly (readonly [string, bigint])[]
    return rows.map(([name, madeBy]) => [name, Number(madeBy)])
  } finally {
    statement.close()
  }
}
