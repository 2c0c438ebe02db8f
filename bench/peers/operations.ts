/**
 * The words between workloads and the systems that are compared: what is done, whom to ask, and a
 * connection that does one operation after the other.
 */
import type { Failure, LoadConnection } from '../load.ts'

/** One operation of a workload. Each system says it in its own way. */
export type Operation =
  /** Rows with the ids from `firstId` on, together in one statement. */
  | { readonly type: 'insert'; readonly firstId: number; readonly rows: number }
  /** Adds 1 to `b` of a row of the table `r`. */
  | { readonly type: 'update'; readonly id: number }
  /** Rows of the table `r` with the ids from `firstId` on. */
  | { readonly type: 'read'; readonly firstId: number; readonly rows: number }
  /** Five statements, each sent when the one before is answered: moves 1 between rows of `r`. */
  | {
      readonly type: 'transaction'
      readonly from: number
      readonly to: number
      readonly entryId: number
    }
  /** One key with a value of so many bytes. */
  | { readonly type: 'put'; readonly id: number; readonly sizeBytes: number }

/** Rows of the table `r`, ids from 1 on, `b` is 1000 in each. */
export const LOADED_ROWS = 10_000
export const LOADED_B = 1000
export const ROW_TEXT = 'some text that a row may hold'

export type Connection = LoadConnection<Operation>

export interface Target {
  readonly driver: 'lockstep' | 'lockstep-stream' | 'rqlite' | 'mysql' | 'etcd' | 'sqlite'
  readonly address: string
  /** For reads; the words are the system's own. */
  readonly level: string
  readonly user: string
  readonly password: string
}

/** Makes so many connections, and resolves when all can be used. */
export type Connect = (target: Target, count: number) => Promise<readonly Connection[]>

/** A failure that isn't a conflict. */
export function failure(text: string): Failure {
  return { text: text.slice(0, 300), isConflict: false }
}
