/**
 * Judges what was seen of a cluster: how old answers were, who led, and who held which data. Of
 * ages it is told where each key has one writer with rising numbers, so that the larger number is
 * the newer one.
 */
import { must } from '../../src/base/assert.ts'

export interface RisingWrite {
  readonly key: number
  readonly value: number
  /** When it was acknowledged; writes without an acknowledgement are left out. */
  readonly endMs: number
}

export interface RisingRead {
  readonly key: number
  readonly value: number
  readonly startMs: number
  readonly maxLagMs: number
  readonly what: string
}

/** Says which reads are older than `maxLagMs` allows. */
export function checkLag(writes: readonly RisingWrite[], reads: readonly RisingRead[]): string[] {
  const byKey = Map.groupBy(writes, ({ key }) => key)
  const complaints: string[] = []
  for (const { key, value, startMs, maxLagMs, what } of reads) {
    const missed = (byKey.get(key) ?? []).find(
      write => write.value > value && write.endMs < startMs - maxLagMs,
    )
    if (missed === undefined) continue
    const ageMs = (startMs - missed.endMs).toFixed(0)
    const answer = `${what} saw ${value} in ${key} with maxLagMs ${maxLagMs}`
    complaints.push(`${answer}; ${missed.value} was acknowledged ${ageMs} ms before it was asked`)
  }
  return complaints
}

/** What one session did, in its order. A write is listed only if it was acknowledged. */
export interface SessionStep {
  readonly type: 'write' | 'read'
  readonly key: number
  readonly value: number
  readonly what: string
}

/** Says where a session went back behind what it had read or written itself. */
export function checkSessions(sessions: readonly (readonly SessionStep[])[]): string[] {
  const complaints: string[] = []
  for (const [session, steps] of sessions.entries()) {
    const newest = new Map<number, SessionStep>()
    for (const step of steps) {
      const known = newest.get(step.key)
      if (known === undefined || step.value >= known.value) newest.set(step.key, step)
      else {
        const before = `${known.what} had ${known.type === 'write' ? 'written' : 'seen'}`
        const text = `${step.what} saw ${step.value} in ${step.key}, ${before} ${known.value}`
        complaints.push(`session ${session}: ${text}`)
      }
    }
  }
  return complaints
}

/**
 * Says where the writes of one client stand in another order than it made them. `rows` are the
 * values in the order in which they took effect, those of each writer rising.
 */
export function checkOrder(rows: readonly { readonly writer: number; readonly value: number }[]) {
  const last = new Map<number, number>()
  const complaints: string[] = []
  for (const { writer, value } of rows) {
    const before = last.get(writer) ?? -Infinity
    if (value <= before) complaints.push(`writer ${writer}: ${value} stands behind ${before}`)
    last.set(writer, Math.max(before, value))
  }
  return complaints
}

/** What a node said about itself at some moment. */
export interface LeaderSight {
  readonly nodeId: string
  readonly term: number
}

/** Says in which term two nodes led. That two lead at one moment, in two terms, is no harm. */
export function checkLeaders(sights: readonly LeaderSight[]): string[] {
  const byTerm = Map.groupBy(sights, ({ term }) => term)
  return [...byTerm].flatMap(([term, sights]) => {
    const nodes = [...new Set(sights.map(({ nodeId }) => nodeId))].sort()
    return nodes.length > 1 ? [`${nodes.join(' and ')} both led term ${term}`] : []
  })
}

export interface DigestSight {
  readonly nodeId: string
  readonly database: string
  readonly index: number
  readonly digest: string
}

/** Says which nodes held different data at one index. */
export function checkDigests(sights: readonly DigestSight[]): string[] {
  const byMoment = Map.groupBy(sights, ({ database, index }) => `${database} at entry ${index}`)
  return [...byMoment].flatMap(([moment, sights]) => {
    const first = must(sights[0])
    const other = sights.find(({ digest }) => digest !== first.digest)
    if (other === undefined) return []
    return [`${first.nodeId} and ${other.nodeId} hold different data in ${moment}`]
  })
}
