/**
 * Writes a snapshot: all definitions are read while the writer stands still, because no view of the
 * server keeps old ones; the rows follow while it goes on.
 */
import { DbError } from '../../base/errors.ts'
import type { SnapshotFile } from '../snapshot.ts'
import { ownDatabase } from './node-tables.ts'
import type { ReadView, ViewedDatabase, ViewedState } from './read-view.ts'
import { quoteName } from './render.ts'
import { inOneLine, withoutDefiner } from './schema-text.ts'
import { type DumpHeader, databaseFile, DumpWriter, SYSTEM_FILE } from './snapshot-files.ts'
import { dumpTable, type ViewedTable } from './table-dump.ts'

/** A database with its definitions as the view began to see them. */
interface ViewedSchema {
  readonly database: ViewedDatabase
  readonly tables: readonly ViewedTable[]
  readonly views: readonly string[]
}

/** All that is to be read. */
export interface SnapshotPlan {
  readonly index: number
  readonly nowMs: number
  readonly schemas: readonly ViewedSchema[]
  readonly own: readonly ViewedTable[]
}

/** Tables of the node's own that belong to the data, and not to the node. */
const OWN_TABLES = ['state', 'db', 'request', 'accepted', 'outcome']

/** Reads all definitions. The writer stands still at entry `index`, and the view has begun. */
export async function planSnapshot(
  view: ReadView,
  prefix: string,
  index: number,
  { nowMs, databases }: ViewedState,
): Promise<SnapshotPlan> {
  const [[intents] = []] = await view.rows(
    `SELECT count(*) FROM ${quoteName(ownDatabase(prefix))}.intent`,
  )
  if (intents !== 0n) {
    // It may have run already, and is of a later entry.
    throw new DbError('NOT_READY', 'a schema change that was cut short is to be finished first')
  }
  const schemas: ViewedSchema[] = []
  for (const database of databases) schemas.push(await readSchema(view, database))
  const server = ownDatabase(prefix)
  const own: ViewedTable[] = []
  for (const name of OWN_TABLES) own.push(await readTable(view, server, name))
  return { index, nowMs, schemas, own }
}

/** Writes all files into the directory; gives what they are. */
export async function writeSnapshot(
  view: ReadView,
  { index, nowMs, schemas, own }: SnapshotPlan,
  directory: string,
): Promise<readonly SnapshotFile[]> {
  const asOf = { index, nowMs }
  const files: SnapshotFile[] = []
  const databases = schemas.map(({ database: { name, madeBy } }) => ({ name, madeBy }))
  // The node's tables first: what was there when it began may be long gone otherwise.
  files.push(
    await writeFile(directory, SYSTEM_FILE, { ...asOf, databases }, async writer => {
      await addTables(view, own, writer)
    }),
  )
  for (const { database, tables, views } of schemas) {
    const { name, madeBy } = database
    const header = { ...asOf, database: name }
    files.push(
      await writeFile(directory, databaseFile(madeBy), header, async writer => {
        for (const table of tables) await writer.add(inOneLine(table.definition))
        await addTables(view, tables, writer)
        for (const each of views) await writer.add(each)
      }),
    )
  }
  return files
}

async function writeFile(
  directory: string,
  name: string,
  header: DumpHeader,
  fill: (writer: DumpWriter) => Promise<void>,
): Promise<SnapshotFile> {
  const writer = await DumpWriter.open(directory, name, header)
  try {
    await fill(writer)
  } catch (error) {
    await writer.abandon()
    throw error
  }
  return writer.close()
}

async function addTables(
  view: ReadView,
  tables: readonly ViewedTable[],
  writer: DumpWriter,
): Promise<void> {
  for (const table of tables) {
    for await (const statement of dumpTable(view, table)) await writer.add(statement)
  }
}

async function readSchema(view: ReadView, database: ViewedDatabase): Promise<ViewedSchema> {
  const { server } = database
  // Definitions of views name the databases that are not the current one.
  await view.connection.expect(`USE ${quoteName(server)}`)
  const tables: ViewedTable[] = []
  const views: string[] = []
  for (const [name, type] of await view.rows(`SHOW FULL TABLES FROM ${quoteName(server)}`)) {
    if (type === 'VIEW') views.push(await readView(view, server, String(name)))
    else if (type === 'BASE TABLE') tables.push(await readTable(view, server, String(name)))
    else {
      const message = `${database.name}.${String(name)} is a ${String(type)}: no snapshot holds it`
      throw new DbError('SNAPSHOT_FAILED', message)
    }
  }
  return { database, tables, views }
}

async function readTable(view: ReadView, server: string, name: string): Promise<ViewedTable> {
  const [row] = await view.rows(`SHOW CREATE TABLE ${quoteName(server)}.${quoteName(name)}`)
  return { server, name, definition: String(row?.[1]) }
}

async function readView(view: ReadView, server: string, name: string): Promise<string> {
  const [row] = await view.rows(`SHOW CREATE VIEW ${quoteName(server)}.${quoteName(name)}`)
  return inOneLine(withoutDefiner(String(row?.[1])))
}
