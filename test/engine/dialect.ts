/** What the suites of all engines must say in the SQL of each. */
import { existsSync, readdirSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import type { SqlValue } from '../../src/base/sql.ts'

/** What the same thing is called in the SQL of an engine. */
export interface Dialect {
  readonly table: string
  /** An insert tells an id that the client gave. */
  readonly tellsGivenId: boolean
  /** A table v of a number n and values, and in which of its columns a value belongs. */
  readonly valueTable: string
  readonly valueColumn: (value: SqlValue) => string
  /** Counts from 1 to `count`. */
  readonly numbers: (count: number) => string
  /** Numbers with a text and a fraction. */
  readonly wideRows: (count: number) => string
  readonly largeValue: (size: number) => string
  /** Fills t with ids and names from a JSON list. */
  readonly insertFromJson: string
  readonly timeAndChance: readonly [create: string, insert: string]
  readonly appendIdToName: string
  /** A table n whose ids are chosen, with a text a that is unique and a whole number b. */
  readonly idTable: string
  /** A whole number by chance, and the moment in seconds. */
  readonly chance: string
  readonly moment: string
}

/** SQLite's. */
export const SQLITE: Dialect = {
  table: 'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)',
  tellsGivenId: true,
  valueTable: 'CREATE TABLE v (n INTEGER PRIMARY KEY, x)',
  valueColumn: () => 'x',
  numbers: count =>
    'WITH RECURSIVE n(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n WHERE x < ' +
    `${count}) SELECT x FROM n`,
  wideRows: count =>
    `WITH RECURSIVE n(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n WHERE x < ${count}) ` +
    "SELECT x, 'row number ' || x, x / 2.0 FROM n",
  largeValue: size => `SELECT zeroblob(${size})`,
  insertFromJson: 'INSERT INTO t SELECT value, value FROM json_each(?)',
  timeAndChance: [
    'CREATE TABLE r (x, y DEFAULT CURRENT_TIMESTAMP)',
    'INSERT INTO r (x) VALUES (random()), (randomblob(8))',
  ],
  appendIdToName: 'UPDATE t SET name = name || id',
  idTable: 'CREATE TABLE n (id INTEGER PRIMARY KEY, a TEXT UNIQUE, b INTEGER)',
  chance: 'random()',
  moment: 'unixepoch()',
}

/** What the suite of snapshots needs of an engine. */
export interface SnapshotDialect {
  /** A table t of an id and a text. */
  readonly table: string
  /** Another table, which is to be gone. */
  readonly otherTable: string
  /** Adds a row of a text by chance to t. */
  readonly insertChance: string
  /** The file of what the engine itself remembers. */
  readonly systemFile: string
  /** Once what was staged at `location` is adopted, its files are where they are used, or gone. */
  readonly isTidy: (location: string) => boolean
}

export const SQLITE_SNAPSHOTS: SnapshotDialect = {
  table: 'CREATE TABLE t (id INTEGER PRIMARY KEY, text)',
  otherTable: 'CREATE TABLE other (x)',
  insertChance: 'INSERT INTO t VALUES (500, randomblob(8))',
  systemFile: 'system.sqlite',
  isTidy: location => {
    const generations = readdirSync(dirname(location)).filter(name => name.startsWith('gen-'))
    return generations.length === 1 && generations[0] === basename(location)
  },
}

export const MARIADB_SNAPSHOTS: SnapshotDialect = {
  table: 'CREATE TABLE t (id BIGINT PRIMARY KEY, text LONGTEXT)',
  otherTable: 'CREATE TABLE other (x BIGINT)',
  insertChance: 'INSERT INTO t VALUES (500, UUID())',
  systemFile: 'system.sql',
  isTidy: location => !existsSync(location),
}
