/** What became of each row that a load generator sent: a byte an id, in memory and in a file. */

/** As they stand in the file; 0: it never left. */
export const FATES = { applied: 1, 'not-applied': 2, unknown: 3 } as const

export class FateLedger {
  readonly #firstId: number
  #fates = new Uint8Array(1 << 16)
  #count = 0

  constructor(firstId: number) {
    this.#firstId = firstId
  }

  note(id: number, fate: (typeof FATES)[keyof typeof FATES]): void {
    const at = id - this.#firstId
    if (at >= this.#fates.length) {
      const larger = new Uint8Array(Math.max(2 * this.#fates.length, at + 1))
      larger.set(this.#fates)
      this.#fates = larger
    }
    this.#fates[at] = fate
    this.#count = Math.max(this.#count, at + 1)
  }

  bytes(): Uint8Array {
    return this.#fates.subarray(0, this.#count)
  }
}

/** Of the rows of one load, by what their clients were told and what is there. */
export interface Checked {
  readonly acknowledged: number
  readonly unknown: number
  /** Acknowledged, and not there. */
  readonly missing: number
  /** Refused as not applied, and there all the same. */
  readonly unwanted: number
}

/** Compares a part of a ledger, whose first id is `firstId`, with the ids that are there. */
export function check(fates: Uint8Array, firstId: number, present: readonly number[]): Checked {
  const there = new Set(present)
  const counts = { acknowledged: 0, unknown: 0, missing: 0, unwanted: 0 }
  for (const [at, fate] of fates.entries()) {
    const isThere = there.has(firstId + at)
    if (fate === FATES.applied) {
      counts.acknowledged += 1
      if (!isThere) counts.missing += 1
    } else if (fate === FATES.unknown) counts.unknown += 1
    else if (isThere) counts.unwanted += 1
  }
  return counts
}
