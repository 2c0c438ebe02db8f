/** A cluster of real processes for one benchmark, and its large table. */
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { LocalCluster } from '../src/cli/local-cluster.ts'
import type { LocalClusterOptions } from '../src/cli/local-cluster.ts'
import { ask } from './one-by-one.ts'

/** Starts it in a directory of its own, or the given one; both are gone afterwards. */
export async function withCluster(
  name: string,
  options: Omit<LocalClusterOptions, 'directory'> & { readonly directory?: string | undefined },
  act: (cluster: LocalCluster) => Promise<void>,
): Promise<void> {
  mkdirSync('.lockstep', { recursive: true })
  const directory = options.directory ?? mkdtempSync(join('.lockstep', `${name}-`))
  try {
    const cluster = await LocalCluster.start({ ...options, directory })
    try {
      await act(cluster)
    } finally {
      await cluster.stop()
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** For statements that load much at once. */
const EXECUTE_MS_MAX = 60_000
export const LARGE_STATEMENTS = ['--max-execute-ms', String(EXECUTE_MS_MAX)] as const

export interface LargeTable {
  /** Beside `id INTEGER PRIMARY KEY`. */
  readonly columns: string
  /** What the other columns get, as SQL; `x` counts the rows of a statement. */
  readonly values: string
  /** About, of one row. */
  readonly rowBytes: number
  readonly rowsPerStatement: number
}

/** Makes the database `main` with so much in its table `big`, and a table `small` to write to. */
export async function fillTables(
  address: string,
  megabytes: number,
  { columns, values, rowBytes, rowsPerStatement }: LargeTable,
): Promise<void> {
  const execute = (sql: string): Promise<unknown> =>
    ask(address, '/execute', { database: 'main', sql, timeoutMs: EXECUTE_MS_MAX })
  await ask(address, '/execute', { action: 'create_db', database: 'main' })
  await execute(`CREATE TABLE big (id INTEGER PRIMARY KEY, ${columns})`)
  await execute('CREATE TABLE small (id INTEGER PRIMARY KEY, text)')
  const numbers = `WITH RECURSIVE n(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n LIMIT ${rowsPerStatement})`
  // Null becomes the next id.
  const insert = `INSERT INTO big ${numbers} SELECT NULL, ${values} FROM n`
  const rows = (megabytes * 1e6) / rowBytes
  for (let done = 0; done < rows; done += rowsPerStatement) await execute(insert)
}

/** The process `pid` of a node and its children, with what each is there for. */
export function processesOf(pid: number): { readonly pid: number; readonly task: string }[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap(thread =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' ').filter(Boolean),
  )
  const found = children.map(child => {
    const words = readFileSync(`/proc/${child}/cmdline`, 'utf8').split('\0')
    return { pid: Number(child), task: words[2] ?? '?' }
  })
  return [{ pid, task: 'main' }, ...found]
}
