/** The interface behind which each database stands that is compared. */
import type { Children } from './children.ts'
import type { Target } from './operations.ts'
import type { Abilities } from './workloads.ts'

/** Sums over the tables of one node, to compare nodes by. */
export interface Totals {
  readonly rows: number
  readonly idSum: number
  /** Of the table that updates change; 0 if there is none. */
  readonly loadedSum: number
}

/** A database that runs, with its tables made and loaded. */
export interface Deployment {
  readonly version: string
  target(level: string): Target
  /** Of all its servers; empty if it lives in the load generator's process. */
  pids(): readonly number[]
  /** Resolves when all nodes have done what they were given: for what the work cost in all. */
  settle(): Promise<void>
  /** How many nodes can be asked for what they have; the first is the one that is written to. */
  readonly nodes: number
  /** Ids of inserted rows that a node has, from `from` to below `to`, ascending. */
  ids(node: number, from: number, to: number): Promise<readonly number[]>
  totals(node: number): Promise<Totals>
}

export interface Place {
  /** Empty, and removed afterwards. */
  readonly directory: string
  readonly children: Children
}

export interface System {
  readonly name: string
  readonly title: string
  readonly nodes: number
  /** What an acknowledged write has gone through. */
  readonly acknowledged: string
  /** What is set otherwise than by default, and what matters of the defaults. */
  readonly settings: readonly string[]
  readonly abilities: Abilities
  /** Why it can't be measured here; undefined if it can. May install it if it is allowed to. */
  find(mayInstall: boolean): Promise<string | undefined>
  start(place: Place): Promise<Deployment>
}
