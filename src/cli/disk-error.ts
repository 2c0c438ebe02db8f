/** What the system says against a file or a directory, told as an expected failure. */
import { DbError } from '../base/errors.ts'

const FULL_CODES = new Set(['ENOSPC', 'EDQUOT'])
const SQLITE_FULL = 13
/** SQLITE_READONLY, SQLITE_IOERR, SQLITE_FULL, SQLITE_CANTOPEN. */
const SQLITE_OF_DISK = new Set([8, 10, SQLITE_FULL, 14])

/**
 * Throws DISK_FULL, or WRONG_DATA for the rest, if the system refuses what `act` does at `place`;
 * `after` says what is left of it, or what to do.
 */
export function orDiskError<Value>(place: string, act: () => Value, after = ''): Value {
  try {
    return act()
  } catch (error) {
    throw toDiskError(place, error, after)
  }
}

/** The same of an error that was caught. What is no word of the system's stays as it is. */
export function toDiskError(place: string, error: unknown, after = ''): unknown {
  // A disk that fills up while bytes come over the network was told already, without its place.
  const isTold = error instanceof DbError && error.code === 'DISK_FULL'
  const cause = isTold ? error.cause : error
  if (!(cause instanceof Error) || cause instanceof DbError) return error
  const why = whyRefused(cause)
  if (why === undefined) return error
  const message = `${place} can not be written: ${cause.message}${after && `; ${after}`}`
  return new DbError(why === 'full' ? 'DISK_FULL' : 'WRONG_DATA', message, { cause })
}

function whyRefused(error: Error): 'full' | 'other' | undefined {
  const code = 'code' in error ? error.code : undefined
  if (code === 'ERR_SQLITE_ERROR' && 'errcode' in error) {
    const errcode = Number(error.errcode) & 0xff
    if (!SQLITE_OF_DISK.has(errcode)) return undefined
    return errcode === SQLITE_FULL ? 'full' : 'other'
  }
  if (typeof code !== 'string' || code.startsWith('ERR_')) return undefined
  return FULL_CODES.has(code) ? 'full' : 'other'
}
