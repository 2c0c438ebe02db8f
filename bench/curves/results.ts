/** What the curves leave: a JSON file in which each point stands with when and where it was measured. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import type { Machine } from '../machine.ts'
import type { Verdict } from './audit.ts'
import { CURVES } from './curves.ts'
import type { Curve, CurveLoad, Settings } from './curves.ts'

/** One load at one point. */
export interface Result extends CurveLoad {
  readonly operations: number
  readonly operationsPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly p999Ms: number
  readonly maxMs: number
  /** Of an operation: of all processes of all nodes, and of those of the leader. */
  readonly serverCpuMicros: number
  readonly leaderCpuMicros: number
  readonly generatorCpuMicros: number
  /** Operations that shared an entry of the log, on average. */
  readonly operationsPerBatch: number
  readonly memoryBytesMax: number
  readonly errors: number
  readonly samples: readonly string[]
}

/** A point of a curve, measured. */
export interface PointResult {
  readonly curve: string
  readonly point: string
  readonly settings: Settings
  readonly date: string
  readonly machine: Machine
  /** The state of the checkout, if it is one. */
  readonly version: string
  readonly seconds: number
  readonly results: readonly Result[]
  readonly verdict: Verdict
  /** Why there are no results; or what happened that makes them doubtful. */
  readonly trouble?: string
}

export interface CurvesFile {
  readonly points: readonly PointResult[]
}

/** What is in the file; nothing if it isn't there. */
export function readCurves(path: string): CurvesFile {
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as CurvesFile) : { points: [] }
}

export function writeCurves(path: string, file: CurvesFile): void {
  writeFileSync(path, `${JSON.stringify(file, undefined, 2)}\n`)
}

/** The file with a point measured anew, in the order of the curves. */
export function withPoint(file: CurvesFile, point: PointResult): CurvesFile {
  const others = file.points.filter(
    other => other.curve !== point.curve || other.point !== point.point,
  )
  const order = CURVES.flatMap(({ name, points }) => points.map(({ label }) => `${name}/${label}`))
  const placeOf = (one: PointResult): number => order.indexOf(`${one.curve}/${one.point}`)
  const points = [...others, point].sort((a, b) => placeOf(a) - placeOf(b))
  return { points }
}

/** The measured points of a curve, in their order. */
export function pointsOf({ points }: CurvesFile, curve: Curve): PointResult[] {
  return points.filter(({ curve: name }) => name === curve.name)
}
