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

/** A time in which something was wrong. */
export interface Disturbance {
  readonly beginMs: number
  readonly endMs: number
  /** The nodes that can't do their part meanwhile; absent if it may be any number of them. */
  readonly hurts?: readonly string[]
  /** How many nodes there were. */
  readonly nodes: number
}

/**
 * Says where nobody's write was acknowledged for longer than a gap of those moments may last,
 * although a majority of the nodes was well all that time. `acknowledgedAtMs` begins and ends with
 * the time looked at.
 */
export function checkProgress(
  acknowledgedAtMs: readonly number[],
  disturbances: readonly Disturbance[],
  limitMs: (fromMs: number, toMs: number) => number,
): string[] {
  const sorted = acknowledgedAtMs.toSorted((left, right) => left - right)
  const complaints: string[] = []
  for (const [at, fromMs] of sorted.entries()) {
    const toMs = sorted[at + 1] ?? fromMs
    const maxMs = limitMs(fromMs, toMs)
    if (toMs - fromMs <= maxMs) continue
    const during = disturbances.filter(each => each.beginMs < toMs && each.endMs > fromMs)
    // The longest part of the gap with one set of disturbances or better decides.
    const edges = during.flatMap(({ beginMs, endMs }) => [beginMs, endMs])
    const moments = [fromMs, ...edges.filter(edge => edge > fromMs && edge < toMs), toMs]
    moments.sort((left, right) => left - right)
    let wellSinceMs = fromMs
    for (const [index, beginMs] of moments.entries()) {
      const endMs = moments[index + 1]
      if (endMs === undefined) break
      const isWell = hasMajority(
        during.filter(each => each.beginMs < endMs && each.endMs > beginMs),
      )
      if (!isWell) wellSinceMs = endMs
      else if (endMs - wellSinceMs > maxMs) {
        const length = `${Math.round(toMs - fromMs)} ms without a write from ${Math.round(fromMs)} ms on`
        complaints.push(`${length}, with a majority from ${Math.round(wellSinceMs)} ms on`)
        break
      }
    }
  }
  return complaints
}

function hasMajority(disturbances: readonly Disturbance[]): boolean {
  if (disturbances.some(({ hurts }) => hurts === undefined)) return false
  const hurt = new Set(disturbances.flatMap(({ hurts }) => hurts ?? []))
  const nodes = Math.min(...disturbances.map(each => each.nodes))
  return hurt.size <= Math.floor((nodes - 1) / 2)
}
