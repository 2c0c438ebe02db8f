/**
 * Which rows there are, and in which database each is. The generator writes by it, the check
 * afterwards expects by it.
 */
import type { Settings } from './curves.ts'

export type CurveOperation =
  | { readonly type: 'insert'; readonly id: number }
  /** Adds 1 to `b` of the loaded row of this number. */
  | { readonly type: 'update'; readonly row: number }

export type Spread = Pick<Settings, 'databases' | 'loadedRows'>

export const TABLE = 'CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT NOT NULL, b INTEGER NOT NULL)'
/** Inserted rows have ids above it, loaded ones below, counted from 1 in each database. */
export const FIRST_INSERTED_ID = 1_000_000_000

export function databaseName(number: number): string {
  return `d${number}`
}

/**
 * The database of an inserted row. Neighbours are strewn, because ids taken in turn would visit the
 * databases in turn, which is what a cache of the last used ones likes least.
 */
export function databaseOfInserted(id: number, { databases }: Spread): number {
  let mixed = Math.imul(id ^ (id >>> 16), 0x45d9f3b)
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x45d9f3b)
  return ((mixed ^ (mixed >>> 16)) >>> 0) % databases
}

/** Where the loaded row of a number from 0 on is. */
export function placeOfLoaded(
  row: number,
  { databases }: Spread,
): { database: number; id: number } {
  return { database: row % databases, id: 1 + Math.floor(row / databases) }
}

/** How many rows are loaded into a database. */
export function loadedRowsOf(database: number, { databases, loadedRows }: Spread): number {
  return Math.floor(loadedRows / databases) + (database < loadedRows % databases ? 1 : 0)
}
