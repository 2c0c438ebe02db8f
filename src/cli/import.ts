/** `lockstep import`: fills a database of a cluster on MySQL servers from a dump of one server. */
import { statSync } from 'node:fs'
import { SingleBar } from 'cli-progress'
import Table from 'cli-table3'
import { DbError } from '../base/errors.ts'
import { createClient, type Client } from '../client/index.ts'
import { addressList } from './client-commands.ts'
import type { LeftOut } from './dump-steps.ts'
import { beginImport, countRows, endImport, load } from './import-load.ts'
import { survey, type TableRows } from './import-survey.ts'

/** Lines of progress where the output is no terminal. */
const PROGRESS_STEPS = 10

/** Imports; resolves with false if rows are missing or too many in the end. */
export async function importDump(given: {
  readonly file: string
  readonly nodes: string
  readonly database: string
}): Promise<boolean> {
  const { file, database } = given
  if (!statSync(file).isFile()) throw invalid(`${file} is no file`)
  const client = createClient({ nodes: addressList(given.nodes), database })
  const isMariaDb = await isOnMariaDb(client)
  const found = await survey(file, isMariaDb)
  const rows = found.tables.reduce((sum, table) => sum + table.rows, 0)
  print(`${file}: ${found.tables.length} tables, ${rows} rows, ${found.bytes} bytes`)
  await createDatabase(client, database)
  const progress = await beginImport(client, found)
  const { position } = progress
  if (position > 0) print(`going on after step ${position} of ${found.steps}`)
  const leftOut = [...found.leftOut]
  const bar = createProgress(found.bytes)
  const startedMs = performance.now()
  await load({
    client,
    file,
    isMariaDb,
    progress,
    onBytes: bytes => bar.update(bytes),
    onLeftOut: each => void leftOut.push(each),
  }).finally(() => bar.stop())
  print(`loaded in ${((performance.now() - startedMs) / 1000).toFixed(1)} s`)
  printLeftOut(leftOut)
  const isWhole = await compare(client, found.tables)
  if (isWhole) await endImport(client)
  return isWhole
}

/** Throws UNSUPPORTED for a cluster on SQLite. */
async function isOnMariaDb(client: Client): Promise<boolean> {
  const { engineBuild } = await client.status()
  if (!engineBuild.startsWith('sqlite')) return engineBuild.startsWith('mariadb')
  const message = "a dump of a MySQL server is in MySQL's SQL, and the data of this cluster are in"
  throw new DbError('UNSUPPORTED', `${message} SQLite: start its nodes with --engine mysql://...`)
}

/** Makes it, if it is not there. */
async function createDatabase(client: Client, database: string): Promise<void> {
  try {
    await client.command({ action: 'create_db', database })
  } catch (error) {
    if (!(error instanceof DbError) || error.code !== 'DATABASE_EXISTS') throw error
  }
}

function printLeftOut(leftOut: readonly LeftOut[]): void {
  if (leftOut.length === 0) return
  print('Not imported as it stands in the dump:')
  for (const { what, why } of leftOut) print(`  ${what}: ${why}`)
}

/** A line for each table; true if all have the rows of the dump. */
async function compare(client: Client, tables: readonly TableRows[]): Promise<boolean> {
  const shown = new Table({
    head: ['table', 'rows in the dump', 'rows in the cluster', ''],
    style: { head: [], border: [], compact: true },
  })
  let isWhole = true
  for (const { name, rows, isExact } of tables) {
    const found = await countRows(client, name)
    const isSame = found === rows
    if (isExact && !isSame) isWhole = false
    shown.push([name, rows, found, isSame ? '' : isExact ? 'DIFFERS' : 'not compared'])
  }
  print(shown.toString())
  print(isWhole ? 'all rows are there' : 'THE ROWS DIFFER')
  return isWhole
}

function createProgress(totalBytes: number): {
  update: (bytes: number) => void
  stop: () => void
} {
  if (process.stdout.isTTY) {
    const format = 'importing {bar} {percentage}% | {value}/{total} bytes | {eta} s left'
    const bar = new SingleBar({ format })
    bar.start(totalBytes, 0)
    return { update: bytes => bar.update(bytes), stop: () => bar.stop() }
  }
  let shown = 0
  return {
    update: bytes => {
      const step = Math.floor((bytes / totalBytes) * PROGRESS_STEPS)
      if (step > shown) print(`importing: ${bytes} of ${totalBytes} bytes`)
      shown = step
    },
    stop: () => {},
  }
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

function invalid(message: string): DbError {
  return new DbError('INVALID_REQUEST', message)
}
