/**
 * Which request ids are remembered, and the row that has each: the memory of one book. Its limits
 * are counts and never times, so that every node forgets the same at the same entry.
 */
import { must } from '../base/assert.ts'
import type { RequestId } from './engine.ts'
import type { RequestLimits } from './limits.ts'
import { SESSION_WINDOW } from './limits.ts'

/** Nothing is known of the id, so that it is new. */
export const FRESH = 0
/** It is older than what is remembered, so that nobody can tell. */
export const EXPIRED = -1

/** Two arrays as long as the window. */
const SESSION_WEIGHT = 12

interface Session {
  readonly name: number
  readonly birth: number
  /** Highest sequence that took effect. */
  last: number
  /** By sequence modulo the window: the sequence, and the row that has it. */
  readonly sequences: number[]
  readonly rows: number[]
  /** Those used just before it and just after it. */
  older: Session | undefined
  newer: Session | undefined
}

/** How many ids are in a row, and how many of them are still remembered. */
interface RowCount {
  live: number
  total: number
  /** The last entry that has ids in it; undefined while more may come. */
  last: number | undefined
}

/** Who was born up to there may have been forgotten. */
export interface Floors {
  /** Sessions whose birth is at most this. */
  readonly sessions: number
  /** Keys whose birth is below this. */
  readonly keys: number
}

export class RememberedIds {
  readonly #limits: RequestLimits
  readonly #sessions = new Map<number, Session>()
  /** A chain through all sessions in the order of their use: a map is slower at keeping one. */
  #oldest: Session | undefined
  #newest: Session | undefined
  /** By key its row, the oldest first. */
  readonly #keys = new Map<string, number>()
  readonly #rows = new Map<number, RowCount>()
  /** Rows of which something was forgotten. */
  readonly #thinned = new Set<number>()
  #floor: number
  #keyFloor: number

  constructor(limits: RequestLimits, floors: Floors) {
    this.#limits = limits
    this.#floor = floors.sessions
    this.#keyFloor = floors.keys
  }

  get floors(): Floors {
    return { sessions: this.#floor, keys: this.#keyFloor }
  }

  /** How much memory it takes, in units of about 100 bytes. */
  get weight(): number {
    return this.#sessions.size * SESSION_WEIGHT + this.#keys.size + this.#rows.size
  }

  /** The row that has this id, or `FRESH`, or `EXPIRED`. */
  locate(id: RequestId): number {
    if (id.type === 'key') return this.#keys.get(id.key) ?? this.#unknownKey(id.birth)
    const { session: wanted, sequence } = id
    const session = this.#sessions.get(wanted.name)
    if (session === undefined) return wanted.birth > this.#floor ? FRESH : EXPIRED
    // Two sessions that drew the same name: the second is to draw another.
    if (session.birth !== wanted.birth) return EXPIRED
    if (sequence > session.last) return FRESH
    if (sequence <= session.last - SESSION_WINDOW) return EXPIRED
    const slot = sequence % SESSION_WINDOW
    return session.sequences[slot] === sequence ? must(session.rows[slot]) : FRESH
  }

  /** What was forgotten took effect, or was cancelled, by an entry up to the floor. */
  #unknownKey(birth = 0): number {
    return birth >= this.#keyFloor ? FRESH : EXPIRED
  }

  /** Whether what is remembered of this id is in the row of this row. */
  isFrom(id: RequestId, row: number): boolean {
    if (id.type === 'key') return this.#keys.get(id.key) === row
    const session = this.#sessions.get(id.session.name)
    const slot = id.sequence % SESSION_WINDOW
    return session?.sequences[slot] === id.sequence && session.rows[slot] === row
  }

  /** Remembers ids that were added to a row, newer than all before. */
  add(row: number, ids: readonly RequestId[]): void {
    const count = this.#rows.get(row)
    if (count === undefined) {
      this.#rows.set(row, { live: ids.length, total: ids.length, last: undefined })
    } else {
      count.live += ids.length
      count.total += ids.length
    }
    for (const id of ids) {
      if (id.type === 'key') this.#addKey(id.key, row)
      else this.#addSequence(id.session, id.sequence, row)
    }
  }

  /** No more ids come to a row; those of entry `last` were the last. */
  close(row: number, last: number): void {
    this.countOf(row).last = last
  }

  /** Forgets what is over the limits, now that entry `entry` is added. */
  trim(entry: number): void {
    const { sessionsMax, keysMax } = this.#limits
    while (this.#sessions.size > sessionsMax) {
      const session = must(this.#oldest)
      this.#unchain(session)
      this.#sessions.delete(session.name)
      this.#floor = Math.max(this.#floor, session.birth)
      for (const row of session.rows) if (row !== undefined) this.#release(row)
    }
    for (const [key, row] of this.#keys) {
      if (this.#keys.size <= keysMax) break
      this.#keyFloor = Math.max(this.#keyFloor, this.countOf(row).last ?? entry)
      this.#keys.delete(key)
      this.#release(row)
    }
  }

  /** The same for what was read: the floors are above all that was forgotten before. */
  trimAsBefore(): void {
    const [floor, keyFloor] = [this.#floor, this.#keyFloor]
    this.trim(0)
    this.#floor = floor
    this.#keyFloor = keyFloor
  }

  /** Rows of which something was forgotten since this was last asked. */
  takeThinned(): readonly number[] {
    if (this.#thinned.size === 0) return []
    const thinned = [...this.#thinned]
    this.#thinned.clear()
    return thinned
  }

  countOf(row: number): RowCount {
    return must(this.#rows.get(row), `the count of row ${row}`)
  }

  /** A row holds only what is still remembered now; or it is gone. */
  noteRewritten(row: number): void {
    const count = must(this.#rows.get(row), `the count of row ${row}`)
    count.total = count.live
    if (count.live === 0) this.#rows.delete(row)
  }

  #addSequence(
    { birth, name }: { readonly birth: number; readonly name: number },
    sequence: number,
    row: number,
  ): void {
    let session = this.#sessions.get(name)
    if (session === undefined) {
      const [sequences, rows]: [number[], number[]] = [[], []]
      session = { name, birth, last: 0, sequences, rows, older: undefined, newer: undefined }
      this.#sessions.set(name, session)
      this.#chain(session)
    } else if (session !== this.#newest) {
      this.#unchain(session)
      this.#chain(session)
    }
    const slot = sequence % SESSION_WINDOW
    const before = session.rows[slot]
    if (before !== undefined) this.#release(before)
    session.sequences[slot] = sequence
    session.rows[slot] = row
    session.last = Math.max(session.last, sequence)
  }

  #chain(session: Session): void {
    session.older = this.#newest
    session.newer = undefined
    if (this.#newest === undefined) this.#oldest = session
    else this.#newest.newer = session
    this.#newest = session
  }

  #unchain({ older, newer }: Session): void {
    if (older === undefined) this.#oldest = newer
    else older.newer = newer
    if (newer === undefined) this.#newest = older
    else newer.older = older
  }

  #addKey(key: string, row: number): void {
    const before = this.#keys.get(key)
    if (before !== undefined) {
      this.#keys.delete(key)
      this.#release(before)
    }
    this.#keys.set(key, row)
  }

  #release(row: number): void {
    must(this.#rows.get(row)).live--
    this.#thinned.add(row)
  }
}
