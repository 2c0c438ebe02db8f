/** Formats carry versions, and what this release can't read is refused with a sentence. */
import { DbError } from '../base/errors.ts'

/** Throws WRONG_DATA unless `found` is the version that this release writes and reads. */
export function expectVersion(what: string, found: number, known: number): void {
  if (found === known) return
  const advice =
    found > known
      ? 'it is of a newer release: start that one here'
      : 'it is of an older release: start that one, make a backup, and restore it with this one'
  throw new DbError(
    'WRONG_DATA',
    `${what} is of format ${found}, this release has ${known}; ${advice}`,
  )
}
