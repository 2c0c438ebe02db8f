/**
 * Runs the function of a transaction, commits what it did, and runs it again from its beginning
 * when the cluster asks for that, until the deadline.
 */
import { DbError } from '../base/errors.ts'
import type { ResultsResponse } from '../protocol/http-api.ts'
import { backoffMs } from './retry.ts'
import { sleep } from './sleep.ts'
import { nested, Transaction, type TransactionParts } from './transaction.ts'
import type { Writes } from './writes.ts'

export interface RunParts extends TransactionParts {
  readonly writes: Writes
  /** Told of the answer to the commit. */
  readonly onCommitted: (answer: ResultsResponse) => void
}

type Work<T> = (transaction: Transaction) => Promise<T>

/** Resolves with what `work` gave, once that is committed. */
export async function runTransaction<T>(parts: RunParts, work: Work<T>): Promise<T> {
  // Two transactions of one function would wait for each other, or undo each other for ever.
  if (CURRENT?.getStore()?.has(parts.writes) === true) throw nested()
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await runOnce(parts, work)
    } catch (error) {
      if (!(error instanceof DbError) || error.retry !== 'transaction') throw error
      const delayMs = backoffMs(attempt, Math.random())
      if (performance.now() + delayMs > parts.deadlineMs) throw error
      await sleep(delayMs, parts.signal)
    }
  }
}

async function runOnce<T>(parts: RunParts, work: Work<T>): Promise<T> {
  const transaction = await Transaction.begin(parts)
  let result: T
  try {
    result = await within(parts.writes, () => work(transaction))
    await transaction.end()
    transaction.requireWhole()
  } catch (error) {
    await transaction.rollback()
    // What was thrown may come from rows that others have changed by now.
    throw transaction.over?.retry === 'transaction' ? transaction.over : error
  }
  try {
    parts.onCommitted(await commit(parts, transaction))
  } catch (error) {
    const isOpen = error instanceof DbError && error.fate === 'not-applied'
    if (isOpen && error.retry !== 'transaction') await transaction.rollback()
    throw error
  }
  return result
}

async function commit(parts: RunParts, transaction: Transaction): Promise<ResultsResponse> {
  return parts.writes.send({
    path: transaction.commitPath,
    database: parts.database,
    deadlineMs: parts.deadlineMs,
    signal: parts.signal,
    idempotencyKey: undefined,
    body: timeoutMs => {
      transaction.sendCommit()
      return JSON.stringify({ timeoutMs })
    },
  })
}

/** What Node has of `AsyncLocalStorage`. */
interface Storage {
  getStore(): ReadonlySet<object> | undefined
  run<T>(store: ReadonlySet<object>, work: () => T): T
}

interface Runtime {
  readonly process?: {
    getBuiltinModule?(name: string): { readonly AsyncLocalStorage: new () => Storage } | undefined
  }
}

/** The transactions around the running code, where the runtime can tell: Node, not browsers. */
const CURRENT = makeStorage()

function makeStorage(): Storage | undefined {
  const hooks = (globalThis as Runtime).process?.getBuiltinModule?.('node:async_hooks')
  return hooks === undefined ? undefined : new hooks.AsyncLocalStorage()
}

function within<T>(client: object, work: () => Promise<T>): Promise<T> {
  if (CURRENT === undefined) return work()
  return CURRENT.run(new Set([...(CURRENT.getStore() ?? []), client]), work)
}
