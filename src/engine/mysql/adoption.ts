/**
 * What is staged becomes the data. The server has nothing that would do that at once: a note says
 * first that it is to be, and from there on it is finished whatever happens between, at the latest
 * by the next writer before it does anything else. Whoever reads meanwhile sees the note, too.
 */
import { DbError } from '../../base/errors.ts'
import { DATABASE_COLLATION, DATA_TABLES, ownDatabase } from './node-tables.ts'
import { deleteNoteSql, readNote, replaceNoteSql } from './notes.ts'
import { quoteName, quoteText } from './render.ts'
import {
  readStaged,
  refuseTaken,
  removeStaged,
  type Server,
  type Staged,
  type StagedDatabase,
  stagedOwn,
  stagedSql,
  viewTable,
} from './staged-data.ts'

/** Name of the note that is there while it goes on. */
export const ADOPTING_NOTE = 'adopting'
/** Name of the note that says which snapshot the data came with. */
const ADOPTED_NOTE = 'adopted'
const STATE_COLUMNS =
  's.applied = t.applied, s.now_ms = t.now_ms, s.request_floor = t.request_floor, ' +
  's.request_key_floor = t.request_key_floor, s.request_row = t.request_row, ' +
  's.request_ids = t.request_ids'

interface Adoption {
  readonly staged: Staged
  /** Databases that were live before and go, by their names on the server; none once they went. */
  readonly old: readonly string[]
}

/**
 * Makes what is staged the data of this node; nobody else writes. It can be cut short anywhere:
 * before the note everything is as it was, after it {@link finishAdoption} does the rest.
 */
export async function adoptStaged(server: Server, prefix: string, id: string): Promise<void> {
  await finishAdoption(server, prefix)
  // It may have been cut short between its end and the answer.
  if ((await readNote(server, prefix, ADOPTED_NOTE)) === id) return
  const staged = await readStaged(server, prefix)
  if (staged?.id !== id || !staged.isLoaded) {
    throw new DbError('SNAPSHOT_FAILED', `the snapshot ${id} is not on the server any more`)
  }
  await refuseTaken(server, prefix, staged)
  const names = await server.rows(`SELECT name FROM ${quoteName(ownDatabase(prefix))}.db`)
  const old = names.map(([name]) => `${prefix}${String(name)}`)
  await server.expect(noteSql(prefix, { staged, old }))
  await finishAdoption(server, prefix)
}

/** Finishes an adoption that was begun, if there is one. */
export async function finishAdoption(server: Server, prefix: string): Promise<void> {
  const text = await readNote(server, prefix, ADOPTING_NOTE)
  if (text === undefined) return
  // We wrote it, and nobody else may.
  const { staged, old } = JSON.parse(text) as Adoption
  await server.expect('SET foreign_key_checks = 0')
  if (old.length > 0) {
    for (const name of old) await server.expect(`DROP DATABASE IF EXISTS ${quoteName(name)}`)
    // Databases of these names are new ones from here on.
    await server.expect(noteSql(prefix, { staged, old: [] }))
  }
  for (const database of staged.databases) await move(server, prefix, database)
  await takeOver(server, prefix, staged)
  await removeStaged(server, prefix)
  // The connection may be the one on which entries are applied from here on.
  await server.expect('SET foreign_key_checks = 1')
}

/** Gives the tables of a database their names, one after another, and then makes its views. */
async function move(
  server: Server,
  prefix: string,
  { name, staged, live }: StagedDatabase,
): Promise<void> {
  const [from, to] = [quoteName(staged), quoteName(live)]
  await server.expect(`CREATE DATABASE IF NOT EXISTS ${to} ${DATABASE_COLLATION}`)
  const tables = await server.rows(
    'SELECT table_name FROM information_schema.tables WHERE table_schema = ' +
      `${quoteText(staged)} AND table_type = 'BASE TABLE' ORDER BY table_name`,
  )
  for (const [table] of tables) {
    const quoted = quoteName(String(table))
    await server.expect(`RENAME TABLE ${from}.${quoted} TO ${to}.${quoted}`)
  }
  const views = await server.rows(
    `SELECT text FROM ${viewTable(prefix)} WHERE db = ${quoteText(name)} ORDER BY id`,
  )
  for (const [text] of views) {
    const replace = String(text).replace(/^CREATE /, 'CREATE OR REPLACE ')
    await server.expect(`USE ${to}; ${replace}`)
  }
}

/** In one transaction: what the node knows of its data, and that nothing is under way any more. */
async function takeOver(server: Server, prefix: string, staged: Staged): Promise<void> {
  const [own, next] = [quoteName(ownDatabase(prefix)), quoteName(stagedOwn(prefix))]
  const left: Staged = { ...staged, isLoaded: false }
  await server.expect(
    [
      'START TRANSACTION',
      `UPDATE ${own}.state s JOIN ${next}.state t SET ${STATE_COLUMNS}`,
      ...DATA_TABLES.flatMap(table => [
        `DELETE FROM ${own}.${table}`,
        `INSERT INTO ${own}.${table} SELECT * FROM ${next}.${table}`,
      ]),
      `DELETE FROM ${own}.intent`,
      deleteNoteSql(prefix, ADOPTING_NOTE),
      deleteNoteSql(prefix, 'condemned'),
      replaceNoteSql(prefix, 'copied', String(staged.index)),
      replaceNoteSql(prefix, ADOPTED_NOTE, staged.id),
      stagedSql(prefix, left),
      'COMMIT',
    ].join('; '),
  )
}

function noteSql(prefix: string, adoption: Adoption): string {
  return replaceNoteSql(prefix, ADOPTING_NOTE, JSON.stringify(adoption))
}
