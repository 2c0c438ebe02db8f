/**
 * Time and chance of a connection. SQLite's own functions ask the machine; these ask the entry, so
 * that a statement gives the same on every node and at every replay. They replace the built-in ones
 * wherever SQL can call them: queries, defaults, checks, triggers, views and indexes.
 */
import type { DatabaseSync, SQLInputValue, SQLOutputValue, StatementSync } from 'node:sqlite'
import { DatabaseSync as Database } from 'node:sqlite'
import { assert } from '../../base/assert.ts'
import { DbError } from '../../base/errors.ts'
import { Chance } from '../chance.ts'
import { VALUE_BYTES_MAX } from '../limits.ts'

/** End of the year 9999, the last that SQLite's dates know. */
const NOW_MS_MAX = 253_402_300_799_999
const DATE_FUNCTIONS = ['date', 'time', 'datetime', 'julianday', 'unixepoch'] as const

/** What a connection's functions answer from; moved on before each statement. */
export class Determinism {
  readonly #chance = new Chance()
  #nowMs = -1
  /** The moment as SQLite writes it, `2026-11-20 12:34:56.789`; empty until it is asked for. */
  #now = ''

  /** Gives the connection these functions instead of the built-in ones. */
  install(database: DatabaseSync): void {
    installDates(database, () => this.#moment())
    const chance = this.#chance
    // Not deterministic in SQLite's sense: else it would call once and use the value for all rows.
    database.function('random', {}, () => chance.int64())
    database.function('randomblob', { useBigIntArguments: true }, (length: SQLOutputValue) =>
      chance.bytes(blobLength(length)),
    )
  }

  /** Sets moment and seed of an entry. */
  beginEntry(nowMs: number, seed: Uint8Array | (() => Uint8Array)): void {
    this.#chance.setSeed(seed)
    if (nowMs === this.#nowMs) return
    assert(Number.isInteger(nowMs) && nowMs >= 0 && nowMs <= NOW_MS_MAX, `${nowMs} is no moment`)
    this.#nowMs = nowMs
    this.#now = ''
  }

  /** Sets the place of a statement: number of its request in the entry, and its own number. */
  beginStatement(position: number, statement: number): void {
    this.#chance.begin(position, statement)
  }

  #moment(): string {
    if (this.#now === '') {
      this.#now = new Date(this.#nowMs).toISOString().replace('T', ' ').replace('Z', '')
    }
    return this.#now
  }
}

function installDates(database: DatabaseSync, now: () => string): void {
  // Deterministic in SQLite's sense: without the flag, legal indexes over date(column) break.
  const options = { deterministic: true, varargs: true, useBigIntArguments: true }
  for (const name of DATE_FUNCTIONS) {
    database.function(name, options, (...args: SQLOutputValue[]) =>
      builtIn.call(name, withMoment(args, 0, now)),
    )
  }
  database.function('strftime', options, (...args: SQLOutputValue[]) =>
    args.length === 0 ? null : builtIn.call('strftime', withMoment(args, 1, now)),
  )
  database.function(
    'timediff',
    { ...options, varargs: false },
    (later: SQLOutputValue, earlier: SQLOutputValue) =>
      builtIn.call('timediff', [
        isMoment(later) ? now() : later,
        isMoment(earlier) ? now() : earlier,
      ]),
  )
  database.function('current_timestamp', {}, () => now().slice(0, 19))
  database.function('current_date', {}, () => now().slice(0, 10))
  database.function('current_time', {}, () => now().slice(11, 19))
}

/**
 * SQLite's own date functions, called on a connection of their own for what doesn't ask the clock.
 * They keep nothing from call to call, so that one is enough for all connections.
 */
class BuiltIn {
  #database: DatabaseSync | undefined
  readonly #statements = new Map<string, StatementSync>()

  call(name: string, args: readonly SQLOutputValue[]): SQLInputValue {
    const key = `${name} ${args.length}`
    let statement = this.#statements.get(key)
    if (statement === undefined) {
      const marks = Array.from({ length: args.length }, () => '?').join(',')
      this.#database ??= new Database(':memory:', { readBigInts: true, returnArrays: true })
      statement = this.#database.prepare(`SELECT ${name}(${marks})`)
      this.#statements.set(key, statement)
    }
    const row = statement.get(...args) as unknown as readonly SQLInputValue[]
    return row[0] ?? null
  }
}

const builtIn = new BuiltIn()

/**
 * The arguments with the entry's moment where the machine's would be asked for: in place of 'now',
 * of no argument at all, and before 'subsec', which implies it. Local time is UTC on every node, so
 * 'localtime' and 'utc' say nothing and are left out.
 */
function withMoment(
  args: readonly SQLOutputValue[],
  at: number,
  now: () => string,
): readonly SQLOutputValue[] {
  if (args.length <= at) return [...args, now()]
  const moment = args[at] ?? null
  const modifiers = args.slice(at + 1).filter(modifier => !isZone(modifier))
  const before = args.slice(0, at)
  const text = shortText(moment)
  if (text === 'now') return [...before, now(), ...modifiers]
  if (isSubsecond(text)) return [...before, now(), moment, ...modifiers]
  return [...before, moment, ...modifiers]
}

function isMoment(value: SQLOutputValue): boolean {
  const text = shortText(value)
  return text === 'now' || isSubsecond(text)
}

function isSubsecond(text: string): boolean {
  return text === 'subsec' || text === 'subsecond'
}

function isZone(value: SQLOutputValue): boolean {
  const text = shortText(value)
  return text === 'localtime' || text === 'utc'
}

/**
 * A short text in small letters, as SQLite's C code sees it: a BLOB counts as text, and a text ends
 * at its first NUL. Longer ones are none of the words looked for.
 */
function shortText(value: SQLOutputValue): string {
  if (typeof value === 'string') {
    const end = value.indexOf('\0')
    if (end < 0) return value.length > 10 ? '' : value.toLowerCase()
    return end > 10 ? '' : value.slice(0, end).toLowerCase()
  }
  if (!(value instanceof Uint8Array)) return ''
  const end = value.indexOf(0)
  const length = end < 0 ? value.length : end
  if (length > 10) return ''
  return String.fromCharCode(...value.subarray(0, length)).toLowerCase()
}

/** The length that SQLite's randomblob takes from its argument. */
function blobLength(value: SQLOutputValue): number {
  let length = 0
  if (typeof value === 'bigint' || typeof value === 'number') length = Math.trunc(Number(value))
  else if (value instanceof Uint8Array) length = leadingInteger(new TextDecoder().decode(value))
  else if (value !== null) length = leadingInteger(value)
  if (length > VALUE_BYTES_MAX) {
    throw new DbError('TOO_LARGE', `randomblob gives at most ${VALUE_BYTES_MAX} bytes`)
  }
  return Math.max(1, length)
}

/** The whole number that a text begins with, 0 if with none, as a CAST to INTEGER gives it. */
function leadingInteger(text: string): number {
  return Number(/^\s*([+-]?\d+)/.exec(text)?.[1] ?? 0)
}
