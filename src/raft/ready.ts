/**
 * What is to be stored, as messages to the node's own storage, and the responses that come back
 * when it is done. In synchronous mode the same responses are kept and stepped by `advance`.
 */
import type { RaftCore } from './core.ts'
import {
  type Entry,
  LOCAL_APPEND,
  LOCAL_APPLY,
  type Message,
  type Ready,
  createMessage,
} from './types.ts'

type Work = Pick<Ready, 'hardState' | 'entries' | 'snapshot'>

/**
 * The message that has log entries, hard state and snapshot written, or undefined if there is
 * nothing to write and nothing that waits for writes. All responses are to be delivered after all
 * writes of this message and of those before it.
 */
export function storageAppend(core: RaftCore, work: Work): Message | undefined {
  const { hardState, entries, snapshot } = work
  const isNothing = entries.length === 0 && hardState === undefined && snapshot === undefined
  if (isNothing && core.messagesAfterAppend.length === 0) return undefined
  const ownResponse = storageAppendResponse(core, work)
  // The leader's own acknowledgement comes before the report that its entries are stable: then
  // their terms can still be read from memory when it is counted.
  const responses = [
    ...core.messagesAfterAppend,
    ...(ownResponse === undefined ? [] : [ownResponse]),
  ]
  return createMessage({
    type: 'storage-append',
    from: core.id,
    to: LOCAL_APPEND,
    entries,
    ...hardState,
    ...(snapshot === undefined ? {} : { snapshot }),
    ...(responses.length === 0 ? {} : { responses }),
  })
}

/**
 * The report that everything up to the present end of the log is on disk. Three rules keep a late
 * report of overwritten entries from passing for one of their successors. It carries the term it
 * was asked in, and is ignored in any other: within one term only one leader writes here, which
 * never replaces its own entries. It names the last entry with its term. And it goes with every
 * write while anything is unstable, not only with writes of entries: so after a change of term,
 * which is itself written, a report will come that counts.
 */
export function storageAppendResponse(core: RaftCore, work: Work): Message | undefined {
  const hasEntries = core.log.unstable.entryCount > 0
  if (!hasEntries && work.snapshot === undefined) return undefined
  const last = hasEntries ? core.log.lastPosition() : undefined
  return createMessage({
    type: 'storage-append-response',
    from: LOCAL_APPEND,
    to: core.id,
    term: core.term,
    index: last?.index ?? 0,
    logTerm: last?.term ?? 0,
    ...(work.snapshot === undefined ? {} : { snapshot: work.snapshot }),
  })
}

/** The message that has committed entries applied; they belong to no term any more. */
export function storageApply(core: RaftCore, entries: readonly Entry[]): Message {
  return createMessage({
    type: 'storage-apply',
    from: core.id,
    to: LOCAL_APPLY,
    entries,
    responses: [storageApplyResponse(core, entries)],
  })
}

/** The report that these entries are applied. */
export function storageApplyResponse(core: RaftCore, entries: readonly Entry[]): Message {
  return createMessage({ type: 'storage-apply-response', from: LOCAL_APPLY, to: core.id, entries })
}
