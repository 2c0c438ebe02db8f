/** What a replica counts, from the start of its process. */
import type { ReplicaCounters } from './types.ts'

/** All of them at zero. */
export function newCounters(): ReplicaCounters {
  return {
    batches: 0,
    requests: 0,
    failedRequests: 0,
    appliedEntries: 0,
    engineRestarts: 0,
    forwarded: 0,
    roleChanges: 0,
    transactions: 0,
    transactionConflicts: 0,
    transactionsExpired: 0,
    transactionReplays: 0,
    divergences: 0,
    heals: 0,
    digests: 0,
    digestFailures: 0,
  }
}
