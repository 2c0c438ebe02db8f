/** How many databases a process can hold open, by the descriptors that the system lets it have. */
import { readFileSync } from 'node:fs'

/** The file of a database, its WAL, and the index of that. */
const DESCRIPTORS_PER_DATABASE = 3
/** For everything else of the process. */
const OTHER_DESCRIPTORS = 64
const OPEN_FILES_MIN = 1

/** At most `most`, and `unknown` where the system doesn't tell. */
export function openFilesWithin(most: number, unknown: number): number {
  return openFilesOf(readLimits(), most, unknown)
}

/** The same for what Linux says in `/proc/self/limits`. */
export function openFilesOf(limits: string | undefined, most: number, unknown: number): number {
  // Node raises the first number, which binds, to the second when it starts.
  const [, text] = /^Max open files +(\d+|unlimited) /m.exec(limits ?? '') ?? []
  if (text === undefined) return unknown
  if (text === 'unlimited') return most
  const count = Math.floor((Number(text) - OTHER_DESCRIPTORS) / DESCRIPTORS_PER_DATABASE)
  return Math.max(OPEN_FILES_MIN, Math.min(most, count))
}

function readLimits(): string | undefined {
  try {
    return readFileSync('/proc/self/limits', 'utf8')
  } catch {
    // Not Linux.
    return undefined
  }
}
