/**
 * Brings the steps of a dump to a cluster, each once: with the rows of a step its number is written
 * in the same request, so that an import that was interrupted goes on where it was, whatever
 * interrupted it. Schema changes, which no request can hold beside others, have keys of their own.
 */
import { randomBytes } from 'node:crypto'
import { must } from '../base/assert.ts'
import { DbError, type ErrorCode } from '../base/errors.ts'
import type { Client } from '../client/client.ts'
import type { DumpStep, LeftOut } from './dump-steps.ts'
import { stepsOf, type Survey } from './import-survey.ts'

/** In the database that is filled, until it is. */
const PROGRESS_TABLE = 'lockstep_import'
const CREATE_PROGRESS =
  `CREATE TABLE IF NOT EXISTS ${PROGRESS_TABLE} ` +
  '(position BIGINT PRIMARY KEY, note VARCHAR(255) NOT NULL)'
const INSERT_PROGRESS = `INSERT INTO ${PROGRESS_TABLE} (position, note) VALUES (?, ?)`
const TIMEOUT_MS = 600_000
/** What the data are refused for: the same dump will be, again. */
const REFUSALS: ReadonlySet<string> = new Set<ErrorCode>([
  'SQL_CONSTRAINT',
  'SQL_ERROR',
  'SQL_SYNTAX',
  'UNKNOWN_TABLE',
  'UNSUPPORTED',
])

/** Where an import stands. */
export interface Progress {
  /** Makes its keys differ from those of others. */
  readonly importId: string
  /** The last step that took effect; 0 if none did. */
  readonly position: number
}

export interface Load {
  readonly client: Client
  readonly file: string
  readonly isMariaDb: boolean
  readonly progress: Progress
  readonly onBytes: (done: number) => void
  /** What the cluster refused, that the others do without: views. */
  readonly onLeftOut: (leftOut: LeftOut) => void
}

/**
 * Finds or makes the note of an import in an empty database. Throws INVALID_REQUEST if the database
 * holds anything else, or another dump in part.
 */
export async function beginImport(
  client: Client,
  { sha256, steps }: Pick<Survey, 'sha256' | 'steps'>,
): Promise<Progress> {
  const options = { timeoutMs: TIMEOUT_MS }
  const shown = await client.query('SHOW TABLES', [], options)
  const tables = shown.rows.map(row => String(Object.values(row)[0]))
  if (tables.length > 0 && !tables.includes(PROGRESS_TABLE)) {
    const message = `the database has tables already (${tables[0]}): nothing is overwritten`
    throw new DbError('INVALID_REQUEST', `${message}; import into another one, or drop it first`)
  }
  if (tables.length === 0) await client.execute(CREATE_PROGRESS, [], options)
  const noted = await readProgress(client)
  const dump = `${sha256} ${steps}`
  if (noted === undefined) {
    const importId = randomBytes(8).toString('hex')
    await client.execute(INSERT_PROGRESS, [0, `${importId} ${dump}`], options)
    return { importId, position: 0 }
  }
  const [importId = '', ...known] = noted.note.split(' ')
  if (known.join(' ') !== dump) {
    const message = 'another dump was imported here in part'
    throw new DbError('INVALID_REQUEST', `${message}; finish that one, or drop the database first`)
  }
  return { importId, position: noted.position }
}

async function readProgress(
  client: Client,
): Promise<{ readonly note: string; readonly position: number } | undefined> {
  const { rows } = await client.query<{ position: number | null; note: string | null }>(
    'SELECT max(position) AS position, max(CASE position WHEN 0 THEN note END) AS note ' +
      `FROM ${PROGRESS_TABLE}`,
    [],
    { timeoutMs: TIMEOUT_MS },
  )
  const { position, note } = must(rows[0])
  return position === null || note === null ? undefined : { note, position }
}

/** Runs the steps that are still to be done, in order. */
export async function load({ client, file, isMariaDb, ...rest }: Load): Promise<void> {
  const { progress, onBytes, onLeftOut } = rest
  let position = 0
  // What the dump itself leaves out was told by the survey.
  for await (const step of stepsOf(file, isMariaDb, () => {})) {
    position += 1
    if (position > progress.position) {
      await runStep(client, step, position, progress.importId, onLeftOut)
    }
    onBytes(step.endBytes)
  }
}

async function runStep(
  client: Client,
  step: DumpStep,
  position: number,
  importId: string,
  onLeftOut: Load['onLeftOut'],
): Promise<void> {
  const options = { timeoutMs: TIMEOUT_MS }
  const note = { sql: INSERT_PROGRESS, params: [position, ''] }
  try {
    if (step.type === 'rows') {
      await client.batch([{ sql: step.sql, params: step.params }, note], options)
      return
    }
    if (step.type === 'write') {
      await client.batch([{ sql: step.sql }, note], options)
      return
    }
    const idempotencyKey = `import ${importId} ${position}`
    await client.execute(step.sql, [], { ...options, idempotencyKey })
  } catch (error) {
    if (!(error instanceof DbError)) throw error
    // A request of an earlier try of ours may have come late, and has done this step.
    if (error.code === 'SQL_CONSTRAINT' && (await isDone(client, position))) return
    if (step.type !== 'view' || error.fate !== 'not-applied') throw atStep(error, step)
    onLeftOut({ what: `view ${step.name}`, why: error.message })
  }
  await client.execute(INSERT_PROGRESS, note.params, options)
}

async function isDone(client: Client, position: number): Promise<boolean> {
  const { rows } = await client.query(
    `SELECT 1 FROM ${PROGRESS_TABLE} WHERE position = ?`,
    [position],
    { timeoutMs: TIMEOUT_MS },
  )
  return rows.length > 0
}

/** The same error with what it is about. */
function atStep(error: DbError, step: DumpStep): DbError {
  const statement = step.sql.replaceAll(/\s+/g, ' ').slice(0, 100)
  const message = `${error.message}, at ${statement}…`
  return new DbError(error.code, `${message} ${adviceAfter(error)}`, {
    cause: error,
    details: error.details,
  })
}

/** What is there of the dump now, and what to do. */
function adviceAfter({ code, fate }: DbError): string {
  if (code === 'TOO_LARGE') {
    const again = 'start them with a larger one, and run the same line again: it goes on there'
    return `All before it is imported. The limit is --max-body-bytes of the nodes: ${again}`
  }
  if (fate !== 'not-applied' || !REFUSALS.has(code)) {
    return 'What came before it is imported; run the same line again: it goes on there'
  }
  return (
    'What came before it is imported, the rest is not. Correct it on the old server, drop the ' +
    'database of the cluster, and import a new dump'
  )
}

/** How many rows the cluster has of a table. */
export async function countRows(client: Client, table: string): Promise<number> {
  const { rows } = await client.query<{ found: number }>(
    `SELECT count(*) AS found FROM \`${table.replaceAll('`', '``')}\``,
    [],
    { timeoutMs: TIMEOUT_MS },
  )
  return must(rows[0]).found
}

/** Removes the note: the import is done. */
export async function endImport(client: Client): Promise<void> {
  await client.execute(`DROP TABLE ${PROGRESS_TABLE}`, [], { timeoutMs: TIMEOUT_MS })
}
