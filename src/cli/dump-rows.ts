/**
 * The rows of an INSERT of a dump, in requests of a size that a cluster likes: bytes that are no
 * text become literals of bytes, large values go beside the statement.
 */
import { isUtf8 } from 'node:buffer'
import { DbError } from '../base/errors.ts'
import { nameAt, quoteEnd, toText, unquote, valueEnd } from './dump-text.ts'

/** So many bytes of SQL share a request, unless one row alone has more. */
const CHUNK_BYTES = 128 * 1024
const CHUNK_ROWS = 1000
/** A string that is longer goes as a value beside the statement. */
const INLINE_BYTES = 16 * 1024
const HEAD = /^(insert(?:\s+ignore)?|replace)\s+into\s+/i
const BINARY = /_binary\s*(?=')/iy
/** An even number of digits, whole. */
const HEX = /^0x(?:[\da-f]{2})+$/i
const NOT_ASCII = /[\u0080-\u00ff]/
const BLANK = /\s*/y

/** Some rows as one statement. */
export interface RowsChunk {
  readonly sql: string
  readonly params: readonly (string | Uint8Array)[]
  readonly rows: number
}

/** What an INSERT says before its rows. */
export interface InsertHead {
  readonly verb: string
  readonly table: string
  /** Names of columns if they are given. */
  readonly columns: readonly string[] | undefined
  /** Where the first row begins. */
  readonly rowsAt: number
}

/** Undefined if it is not of the form INSERT INTO table [(columns)] VALUES (...). */
export function insertHead(text: string): InsertHead | undefined {
  const head = HEAD.exec(text)
  if (head === null) return undefined
  const { name: table, end } = nameAt(text, head[0].length)
  const rest = /\s*(\((?:[^()`]|`(?:[^`]|``)+`)*\))?\s*values?\s*(?=\()/iy
  rest.lastIndex = end
  const found = rest.exec(text)
  if (found === null) return undefined
  const columns = found[1]
    ?.slice(1, -1)
    .split(',')
    .map(name => nameAt(name, 0).name)
  return { verb: (head[1] ?? '').toUpperCase(), table, columns, rowsAt: rest.lastIndex }
}

/** What is to be known of the columns, by their place in a row. */
export interface RowRules {
  /** Told the values of each row, as they stand in the dump. */
  readonly check?: (values: readonly string[]) => void
  /** Columns that the server computes, and lets nobody give. */
  readonly generated: ReadonlySet<number>
}

/** The rows in chunks that are always cut alike. Throws INVALID_REQUEST for what is no row. */
export function* chunkRows(text: string, head: InsertHead, rules: RowRules): Generator<RowsChunk> {
  const verb = `${head.verb} INTO ${quote(head.table)}`
  const columns = head.columns === undefined ? '' : ` (${head.columns.map(quote).join(', ')})`
  const begin = `${verb}${columns} VALUES `
  let chunk = new Chunk()
  for (let at = head.rowsAt; ;) {
    const row = readRow(text, at, rules.generated)
    rules.check?.(row.values)
    if (chunk.rows > 0 && !chunk.hasRoom(row)) {
      yield chunk.finish(begin)
      chunk = new Chunk()
    }
    chunk.add(row)
    at = skipBlank(text, row.end)
    if (at >= text.length) break
    if (text.charAt(at) !== ',') throw notRows(text, at)
    at = skipBlank(text, at + 1)
  }
  yield chunk.finish(begin)
}

interface Row {
  /** As they stand in the dump. */
  readonly values: readonly string[]
  /** As they are sent, bytes as characters. */
  readonly sql: string
  readonly params: readonly (string | Uint8Array)[]
  readonly bytes: number
  readonly end: number
}

class Chunk {
  rows = 0
  #bytes = 0
  readonly #sql: string[] = []
  readonly #params: (string | Uint8Array)[] = []

  hasRoom({ bytes }: Row): boolean {
    return this.rows < CHUNK_ROWS && this.#bytes + bytes <= CHUNK_BYTES
  }

  add({ sql, params, bytes }: Row): void {
    this.rows += 1
    this.#bytes += bytes
    this.#sql.push(sql)
    this.#params.push(...params)
  }

  finish(begin: string): RowsChunk {
    return {
      sql: begin + toText(this.#sql.join(',')),
      params: this.#params,
      rows: this.rows,
    }
  }
}

function readRow(text: string, start: number, generated: ReadonlySet<number>): Row {
  if (text.charAt(start) !== '(') throw notRows(text, start)
  const values: string[] = []
  const sent: string[] = []
  const params: (string | Uint8Array)[] = []
  let paramBytes = 0
  for (let at = start + 1; ;) {
    at = skipBlank(text, at)
    BINARY.lastIndex = at
    const isMarked = BINARY.test(text)
    const from = isMarked ? BINARY.lastIndex : at
    const isString = text.charAt(from) === "'"
    const end = skipBlank(text, isString ? quoteEnd(text, from) : valueEnd(text, from))
    const value = text.slice(from, end).trim()
    // MariaDB does not mark them.
    const isBinary = isMarked || (isString && !isText(value))
    const isGenerated = generated.has(values.length)
    const isLarge = value.length > INLINE_BYTES && (isString || HEX.test(value))
    if (isLarge && !isGenerated) {
      const param = largeValue(value, isBinary)
      params.push(param)
      paramBytes += param.length
    }
    values.push(value)
    if (isGenerated) sent.push('DEFAULT')
    else if (isLarge) sent.push('?')
    else sent.push(isBinary ? bytesLiteral(value) : value)
    const sign = text.charAt(end)
    if (sign !== ',' && sign !== ')') throw notRows(text, end)
    at = end + 1
    if (sign === ',') continue
    const sql = `(${sent.join(',')})`
    return { values, sql, params, bytes: sql.length + paramBytes, end: at }
  }
}

function largeValue(value: string, isBinary: boolean): string | Uint8Array {
  if (!value.startsWith("'")) return Buffer.from(value.slice(2), 'hex')
  const bytes = unquote(value)
  return isBinary ? Buffer.from(bytes, 'latin1') : toText(bytes)
}

function isText(bytes: string): boolean {
  return !NOT_ASCII.test(bytes) || isUtf8(Buffer.from(bytes, 'latin1'))
}

function bytesLiteral(literal: string): string {
  return `x'${Buffer.from(unquote(literal), 'latin1').toString('hex')}'`
}

function skipBlank(text: string, at: number): number {
  BLANK.lastIndex = at
  BLANK.test(text)
  return BLANK.lastIndex
}

function quote(name: string): string {
  return `\`${name.replaceAll('`', '``')}\``
}

function notRows(text: string, at: number): DbError {
  const near = text.slice(Math.max(0, at - 60), at + 60)
  return new DbError(
    'INVALID_REQUEST',
    `an INSERT of the dump is not a list of rows, near: ${near}`,
  )
}
