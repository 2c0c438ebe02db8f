/** The workloads: what each does, at how many connections, and which systems can do it. */
import { LOADED_ROWS } from './operations.ts'
import type { Operation } from './operations.ts'

/** Numbers that a workload draws from. */
export interface Draw {
  /** The first of `count` ids that no other operation of the run has. */
  takeIds(count: number): number
  /** A whole number from 0 to `below` - 1. */
  below(below: number): number
}

export interface Workload {
  readonly name: string
  readonly title: string
  readonly connections: readonly number[]
  /** Measured once for each read level of a system. */
  readonly hasLevels: boolean
  readonly rowsPerOperation: number
  readonly next: (draw: Draw) => Operation
}

const anyRow = (draw: Draw): number => 1 + draw.below(LOADED_ROWS)

const READ_MANY_ROWS = 1000
const UPDATES_IN_TEN = 1

export const WORKLOADS: readonly Workload[] = [
  {
    name: 'insert',
    title: 'insert, 1 row',
    connections: [1, 16, 64, 256],
    hasLevels: false,
    rowsPerOperation: 1,
    next: draw => ({ type: 'insert', firstId: draw.takeIds(1), rows: 1 }),
  },
  {
    name: 'insert-64',
    title: 'insert, 64 rows of one transaction',
    connections: [1],
    hasLevels: false,
    rowsPerOperation: 64,
    next: draw => ({ type: 'insert', firstId: draw.takeIds(64), rows: 64 }),
  },
  {
    name: 'put-200',
    title: 'put, 200 bytes',
    connections: [1, 16, 64, 256],
    hasLevels: false,
    rowsPerOperation: 1,
    next: draw => ({ type: 'put', id: draw.takeIds(1), sizeBytes: 200 }),
  },
  {
    name: 'put-512',
    title: 'put, 512 bytes',
    connections: [1, 16, 64, 256],
    hasLevels: false,
    rowsPerOperation: 1,
    next: draw => ({ type: 'put', id: draw.takeIds(1), sizeBytes: 512 }),
  },
  {
    name: 'update',
    title: 'update by primary key',
    connections: [1, 16, 64, 256],
    hasLevels: false,
    rowsPerOperation: 1,
    next: draw => ({ type: 'update', id: anyRow(draw) }),
  },
  {
    name: 'bulk',
    title: 'insert, 100 rows',
    connections: [1, 16],
    hasLevels: false,
    rowsPerOperation: 100,
    next: draw => ({ type: 'insert', firstId: draw.takeIds(100), rows: 100 }),
  },
  {
    name: 'point-read',
    title: 'read, 1 row',
    connections: [1, 64],
    hasLevels: true,
    rowsPerOperation: 1,
    next: draw => ({ type: 'read', firstId: anyRow(draw), rows: 1 }),
  },
  {
    name: 'range-read',
    title: 'read, 1,000 rows',
    connections: [16],
    hasLevels: true,
    rowsPerOperation: READ_MANY_ROWS,
    next: draw => ({
      type: 'read',
      firstId: 1 + draw.below(LOADED_ROWS - READ_MANY_ROWS),
      rows: READ_MANY_ROWS,
    }),
  },
  {
    name: 'mixed',
    title: '90 % reads, 10 % updates',
    connections: [64],
    hasLevels: false,
    rowsPerOperation: 1,
    next: draw =>
      draw.below(10) < UPDATES_IN_TEN
        ? { type: 'update', id: anyRow(draw) }
        : { type: 'read', firstId: anyRow(draw), rows: 1 },
  },
  {
    name: 'transaction',
    title: 'interactive transaction, 5 statements',
    connections: [1, 16],
    hasLevels: false,
    rowsPerOperation: 1,
    next: draw => {
      // In the order of their ids, so that row locks can't wait for each other in a ring.
      const from = 1 + draw.below(LOADED_ROWS - 1)
      const to = from + 1 + draw.below(LOADED_ROWS - from)
      return { type: 'transaction', from, to, entryId: draw.takeIds(1) }
    },
  },
]

/** One row of the table of figures, before it is measured. */
export interface Case {
  readonly workload: Workload
  readonly connections: number
  /** Empty if the workload doesn't read. */
  readonly level: string
}

export interface Abilities {
  /** Names of workloads. */
  readonly workloads: readonly string[]
  /** Of reads; the first is what the system does unless it is asked for another. */
  readonly levels: readonly string[]
  /** More are of no use, as one file has one writer. */
  readonly connectionsMax?: number
}

export interface Choice {
  readonly workloads?: readonly string[] | undefined
  readonly connections?: readonly number[] | undefined
}

/** What is measured of a system, in order. */
export function casesOf(abilities: Abilities, choice: Choice): Case[] {
  const chosen = WORKLOADS.filter(
    ({ name }) => abilities.workloads.includes(name) && (choice.workloads?.includes(name) ?? true),
  )
  return chosen.flatMap(workload => {
    const levels = workload.hasLevels ? abilities.levels : [abilities.levels[0] ?? '']
    const most = abilities.connectionsMax ?? Infinity
    const connections = new Set(
      (choice.connections ?? workload.connections).map(count => Math.min(count, most)),
    )
    return levels.flatMap(level =>
      [...connections].map(count => ({ workload, connections: count, level })),
    )
  })
}

/** Rounds over all systems, so that what the machine does meanwhile hits all alike: A B C A B C. */
export function interleave<T>(systems: readonly T[], repetitions: number): T[] {
  return Array.from({ length: repetitions }, () => systems).flat()
}
