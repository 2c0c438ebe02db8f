/** Names of databases that fit on a server, whatever the prefix of a node is. */
import { DbError } from '../../base/errors.ts'
import { refuseName } from '../names.ts'
import { SYSTEM_DATABASES } from './refusals.ts'

/** With the longest prefix, 63 characters: as long as the server lets names be, or one less. */
const LENGTH_MAX = 40

/** Why no database can have this name, undefined if one can. */
export function refuseServerName(name: string): DbError | undefined {
  if (name.length > LENGTH_MAX) {
    const message = `a name of a database has at most ${LENGTH_MAX} characters on a MySQL server`
    return new DbError('INVALID_REQUEST', message)
  }
  if (SYSTEM_DATABASES.has(name.toLowerCase())) {
    return new DbError('INVALID_REQUEST', `${name} is a database of the MySQL server itself`)
  }
  return refuseName(name)
}
