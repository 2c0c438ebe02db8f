/** Names that databases can have, the same for every engine. */
import { DbError } from '../base/errors.ts'

const NAME = /^[A-Za-z_][A-Za-z0-9_-]{0,63}$/

/** Why no database can have this name, undefined if one can. */
export function refuseName(name: string): DbError | undefined {
  if (NAME.test(name) && !name.toLowerCase().startsWith('lockstep')) return undefined
  return new DbError(
    'INVALID_REQUEST',
    `${JSON.stringify(name)} can't name a database: use 1 to 64 letters, digits, _ and -, ` +
      'a letter or _ first, and not lockstep',
  )
}
