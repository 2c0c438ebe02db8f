/** Names of the notes that flush-recorder.ts leaves and power-cut.ts reads. */

export function fileNote(inode: number): string {
  return `file-${inode}`
}

export function directoryNote(path: string): string {
  return `directory-${encodeURIComponent(path)}`
}

export function walNote(path: string): string {
  return `wal-${encodeURIComponent(path)}`
}
