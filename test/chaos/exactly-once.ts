/** Compares what is in a table in the end with what the writers of its rows were told. */
import type { Fate } from '../../src/base/errors.ts'

/** What the writer of a value was told in the end. */
export type ToldFate = 'ok' | Fate

/** Says what is lost, doubled, denied or invented, one sentence each; empty if nothing is. */
export function checkExactlyOnce(
  told: ReadonlyMap<number, ToldFate>,
  rows: readonly number[],
): string[] {
  const times = new Map<number, number>()
  for (const value of rows) times.set(value, (times.get(value) ?? 0) + 1)
  const complaints: string[] = []
  for (const [value, fate] of told) {
    const count = times.get(value) ?? 0
    if (fate === 'ok' && count === 0) complaints.push(`lost: ${value} was acknowledged`)
    if (fate === 'not-applied' && count > 0) complaints.push(`denied: ${value} is there`)
    if (count > 1) complaints.push(`doubled: ${value} is there ${count} times`)
  }
  for (const value of times.keys()) {
    if (!told.has(value)) complaints.push(`invented: nobody wrote ${value}`)
  }
  return complaints
}

/** A number that each of some writers raised by one: it must count the writes that took effect. */
export function checkCounter(told: readonly ToldFate[], count: number): string[] {
  const least = told.filter(fate => fate === 'ok').length
  const most = told.filter(fate => fate !== 'not-applied').length
  if (count >= least && count <= most) return []
  return [`the counter stands at ${count}, and from ${least} to ${most} writes took effect`]
}
