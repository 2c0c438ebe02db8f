/**
 * Counts how often tables of a node changed their names. A server tells who reads as of an earlier
 * moment that a table is another one now, but not if two have only changed places.
 */
export class TableRenames {
  #count = 0

  get count(): number {
    return this.#count
  }

  /** A statement is about to run; it may do so. */
  note(sql: string): void {
    if (/\bRENAME\b/i.test(sql)) this.#count++
  }
}
