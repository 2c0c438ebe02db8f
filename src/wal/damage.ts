/** The one way to say that the log on disk is not what was written. */
import { DbError } from '../base/errors.ts'

/**
 * A log that must not be used: cutting off what can't be read might forget an entry or a vote that
 * others count on, so the node stays down and a person decides.
 */
export function damaged(path: string, offset: number, reason: string): DbError {
  return new DbError(
    'CORRUPT',
    `the log file ${path} is damaged at byte ${offset}: ${reason}. Entries or a vote that the ` +
      'cluster counts on may be lost, so this node must not start with it: keep the files for ' +
      'inspection, remove the node from the cluster, and let it join again with an empty data ' +
      'directory under a new node id',
    { details: { file: path, offset, reason } },
  )
}
