/** Messages of consensus as a line of the trace. */
import type { Message } from '../src/raft/types.ts'

/** What one needs to see of a message to understand a run. */
export function describeMessage(message: Message): string {
  const { type, from, term, index, logTerm, commit, entries, reject, rejectHint } = message
  const of = entries.map(entry => `${entry.index}/${entry.term}`).join(' ')
  const no = reject ? ` REJECTED, hint ${rejectHint}` : ''
  return `${type} from ${from} in ${term} at ${index}/${logTerm} commit ${commit} [${of}]${no}`
}
