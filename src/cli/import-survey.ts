/** A look at a whole dump before anything is written: what it holds, and what would be refused. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { DbError } from '../base/errors.ts'
import { parseText } from '../engine/mysql/parsed-text.ts'
import { literal } from '../engine/mysql/render.ts'
import { STATEMENT_SIZE_BYTES_MAX } from '../engine/mysql/request-plan.ts'
import { DumpSteps, type DumpStep, type LeftOut } from './dump-steps.ts'

/** The rows that a dump has for a table. */
export interface TableRows {
  readonly name: string
  readonly rows: number
  /** False: statements change them in ways that nobody counts. */
  readonly isExact: boolean
}

/** What a dump is. */
export interface Survey {
  /** Of its bytes. */
  readonly sha256: string
  readonly bytes: number
  readonly tables: readonly TableRows[]
  readonly leftOut: readonly LeftOut[]
  readonly steps: number
}

const READ_BYTES = 1024 * 1024

/** The steps of a dump, and what is left out of it. */
export function stepsOf(
  file: string,
  isMariaDb: boolean,
  onLeftOut: (leftOut: LeftOut) => void,
  onBytes: (bytes: Uint8Array) => void = () => {},
): AsyncIterable<DumpStep> {
  return new DumpSteps({ isMariaDb, onLeftOut }).of(read(file, onBytes))
}

/**
 * Reads all of it. Throws INVALID_REQUEST, UNSUPPORTED or TOO_LARGE for what could not be imported
 * whole.
 */
export async function survey(file: string, isMariaDb: boolean): Promise<Survey> {
  try {
    return await readAll(file, isMariaDb)
  } catch (error) {
    if (!(error instanceof DbError)) throw error
    const { code, message, details } = error
    throw new DbError(code, `${message}. Nothing was written`, { cause: error, details })
  }
}

async function readAll(file: string, isMariaDb: boolean): Promise<Survey> {
  const leftOut: LeftOut[] = []
  const tables = new Map<string, { rows: number; isExact: boolean }>()
  const hash = createHash('sha256')
  let bytes = 0
  let steps = 0
  let hasOtherWrites = false
  const onLeftOut = (each: LeftOut): void => void leftOut.push(each)
  const onBytes = (piece: Uint8Array): void => {
    hash.update(piece)
    bytes += piece.length
  }
  for await (const step of stepsOf(file, isMariaDb, onLeftOut, onBytes)) {
    steps += 1
    if (step.type === 'rows') {
      const table = tables.get(step.table)
      if (table === undefined) throw noTable(step.table)
      refuseLong(step)
      table.rows += step.rows
      table.isExact &&= step.isExact
      continue
    }
    if (step.type === 'table') tables.set(step.name, { rows: 0, isExact: true })
    hasOtherWrites ||= step.type === 'write'
    refuseEarly(step)
  }
  if (steps === 0) {
    const message = `${file} holds no tables: it is to be what mariadb-dump writes, as SQL`
    throw new DbError('INVALID_REQUEST', message)
  }
  return {
    sha256: hash.digest('hex'),
    bytes,
    steps,
    leftOut,
    tables: [...tables].map(([name, { rows, isExact }]) => {
      return { name, rows, isExact: isExact && !hasOtherWrites }
    }),
  }
}

/** What no node would run is said before anything is written. Views are tried when all is there. */
function refuseEarly({ type, sql }: DumpStep): void {
  if (type === 'view') return
  for (const { refusal } of parseText(sql)) {
    if (refusal === undefined) continue
    const statement = sql.replaceAll(/\s+/g, ' ').slice(0, 100)
    throw new DbError('UNSUPPORTED', `the dump can not be imported: ${statement}…: ${refusal}`)
  }
}

/** A row of which no node makes one statement. The bytes of a value that is no text count twice. */
function refuseLong({ table, sql, params }: Extract<DumpStep, { type: 'rows' }>): void {
  const sizes = params.map(param => Buffer.byteLength(literal(param)))
  const sizeBytes = sizes.reduce((sum, size) => sum + size, Buffer.byteLength(sql))
  if (sizeBytes <= STATEMENT_SIZE_BYTES_MAX) return
  const message =
    `table ${table} has a row whose INSERT has ${sizeBytes} bytes (those of BLOBs count twice), ` +
    `and a statement has at most ${STATEMENT_SIZE_BYTES_MAX}: dump without the row (--where), ` +
    'and let a program bring it afterwards, its long values in parts by UPDATE ... CONCAT'
  throw new DbError('TOO_LARGE', message, { details: { sizeBytes } })
}

function noTable(table: string): DbError {
  const message = `the dump has rows of ${table}, but not the table: make it without`
  return new DbError('INVALID_REQUEST', `${message} --no-create-info`)
}

async function* read(
  file: string,
  onBytes: (bytes: Uint8Array) => void,
): AsyncGenerator<Uint8Array> {
  for await (const piece of createReadStream(file, { highWaterMark: READ_BYTES })) {
    const bytes = piece as Uint8Array
    onBytes(bytes)
    yield bytes
  }
}
