/**
 * Names of the notes that flush-recorder.ts leaves and power-cut.ts reads, and which files are
 * flushed by each write.
 */
import { constants } from 'node:fs'

/** Whether a file that is opened so is flushed by each write to it. */
export function isDurable(flags: string | number): boolean {
  return typeof flags === 'number' && (flags & constants.O_DSYNC) !== 0
}

export function fileNote(inode: number): string {
  return `file-${inode}`
}

export function directoryNote(path: string): string {
  return `directory-${encodeURIComponent(path)}`
}

export function walNote(path: string): string {
  return `wal-${encodeURIComponent(path)}`
}
