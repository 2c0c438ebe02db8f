/**
 * What a node's files know of entries that replicas computed differently: which were applied with
 * this replica's own outcomes because the others agreed with it, whether these files were found
 * wrong, and from where on this replica has computed by itself. It is in the catalogue, so that it
 * is copied with the data that it speaks of, and flushed before anything rests on it.
 */
import type { DatabaseSync } from 'node:sqlite'
import { DbError } from '../../base/errors.ts'
import type { AcceptedEntry, Divergence, EnginePast } from '../engine.ts'

/**
 * `lockstep_accepted`: entries whose written outcomes do not count, and a digest of those that do.
 * `lockstep_note`: `condemned` is a divergence as JSON, `copied` the entry of a snapshot.
 */
export const VERDICTS_SCHEMA = `
  CREATE TABLE IF NOT EXISTS lockstep_accepted (
    entry INTEGER PRIMARY KEY, digest TEXT NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS lockstep_note (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT`
const CONDEMNED = 'condemned'
const COPIED = 'copied'

export class Verdicts {
  readonly #database: DatabaseSync
  readonly #accepted: Map<number, string>
  #condemned: Divergence | undefined
  #copiedIndex: number

  /** `database` is the catalogue, open for writing. */
  constructor(database: DatabaseSync) {
    this.#database = database
    database.exec(VERDICTS_SCHEMA)
    this.#accepted = readAccepted(database)
    const condemned = readNote(database, CONDEMNED)
    this.#condemned = condemned === undefined ? undefined : parseDivergence(condemned)
    this.#copiedIndex = Number(readNote(database, COPIED) ?? 0)
  }

  /** All of it, for the replica. */
  get past(): EnginePast {
    const accepted = [...this.#accepted].map(([index, digest]) => ({ index, digest }))
    return { copiedIndex: this.#copiedIndex, accepted, condemned: this.#condemned }
  }

  /** Digest of the outcomes that count for entry `index`, if they aren't those it carries. */
  digestOf(index: number): string | undefined {
    return this.#accepted.get(index)
  }

  accept({ index, digest }: AcceptedEntry): void {
    this.#durably(
      'INSERT OR REPLACE INTO lockstep_accepted VALUES (CAST(? AS INTEGER), ?)',
      String(index),
      digest,
    )
    this.#accepted.set(index, digest)
  }

  /** These files are wrong; only a snapshot of another replica takes that away, with the files. */
  condemn(divergence: Divergence): void {
    this.#setNote(CONDEMNED, JSON.stringify(divergence))
    this.#condemned = divergence
  }

  /** These files came from a healthy replica as of entry `index`. */
  copied(index: number): void {
    this.#setNote(COPIED, String(index))
    this.#copiedIndex = index
    this.pardon()
  }

  /** These files count as right after all. */
  pardon(): void {
    this.#durably('DELETE FROM lockstep_note WHERE name = ?', CONDEMNED)
    this.#condemned = undefined
  }

  #setNote(name: string, value: string): void {
    this.#durably('INSERT OR REPLACE INTO lockstep_note VALUES (?, ?)', name, value)
  }

  /** Flushed at its COMMIT, unlike all else: no log brings it back. */
  #durably(sql: string, ...values: readonly string[]): void {
    this.#database.exec('PRAGMA synchronous = FULL')
    const statement = this.#database.prepare(sql)
    try {
      statement.run(...values)
    } finally {
      statement.close()
      this.#database.exec('PRAGMA synchronous = NORMAL')
    }
  }
}

function readAccepted(database: DatabaseSync): Map<number, string> {
  const statement = database.prepare('SELECT entry, digest FROM lockstep_accepted ORDER BY entry')
  try {
    const rows = statement.all() as unknown as readonly (readonly [bigint, string])[]
    return new Map(rows.map(([entry, digest]) => [Number(entry), digest]))
  } finally {
    statement.close()
  }
}

function readNote(database: DatabaseSync, name: string): string | undefined {
  const statement = database.prepare('SELECT value FROM lockstep_note WHERE name = ?')
  try {
    const row = statement.get(name) as unknown as readonly [string] | undefined
    return row?.[0]
  } finally {
    statement.close()
  }
}

function parseDivergence(text: string): Divergence {
  const read = JSON.parse(text) as Partial<Record<keyof Divergence, unknown>>
  const { index, database, sql, expected, actual, digest } = read
  if (typeof index !== 'number') throw new DbError('CORRUPT', `no divergence: ${text}`)
  return {
    index,
    database: String(database),
    sql: String(sql),
    expected: String(expected),
    actual: String(actual),
    digest: String(digest),
  }
}
