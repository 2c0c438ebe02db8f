/**
 * Takes from a dead node's disk what a power cut could take: by the notes of flush-recorder.ts,
 * everything in the log past its flushed length from a random point on, names that no flush of
 * their directory has kept, and of each SQLite WAL what was written after its last complete
 * checkpoint, again from a random point on.
 */
import {
  closeSync,
  existsSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { join, resolve } from 'node:path'
import { directoryNote, fileNote, walNote } from './flush-notes.ts'

const WAL_HEADER_BYTES = 32

/** A whole number from 0 to before `bound`. */
export type Dice = (bound: number) => number

/** Cuts the power of the node whose data are in `directory`; its processes must be gone. */
export function cutPower(directory: string, notes: string, dice: Dice): void {
  const log = resolve(directory, 'group-1', 'log')
  if (existsSync(log)) {
    loseNames(log, notes, dice)
    for (const name of readdirSync(log)) loseTail(join(log, name), notes, dice)
  }
  const engine = resolve(directory, 'group-1', 'engine')
  if (!existsSync(engine)) return
  for (const name of readdirSync(engine, { recursive: true, encoding: 'utf8' })) {
    if (name.endsWith('-wal')) loseWalTail(join(engine, name), notes, dice)
    if (name.endsWith('-shm')) rmSync(join(engine, name))
  }
}

/** A name that was made or changed since the last flush of its directory may be as it was then. */
function loseNames(directory: string, notes: string, dice: Dice): void {
  const note = join(notes, directoryNote(directory))
  const kept = existsSync(note)
    ? (JSON.parse(readFileSync(note, 'utf8')) as Record<string, number>)
    : {}
  for (const name of readdirSync(directory)) {
    const path = join(directory, name)
    const { ino } = statSync(path)
    if (kept[name] === ino || dice(2) === 0) continue
    const oldName = Object.keys(kept).find(other => kept[other] === ino)
    if (oldName === undefined) rmSync(path)
    else renameSync(path, join(directory, oldName))
  }
}

function loseTail(path: string, notes: string, dice: Dice): void {
  const { ino, size } = statSync(path)
  const note = join(notes, fileNote(ino))
  const flushed = existsSync(note) ? Number(readFileSync(note, 'utf8')) : 0
  const written = writtenEnd(path)
  if (written <= flushed) return
  const cut = flushed + dice(written - flushed + 1)
  const descriptor = openSync(path, 'r+')
  // Either the file got shorter, or the blocks are there and hold nothing.
  ftruncateSync(descriptor, cut)
  if (dice(2) === 0) ftruncateSync(descriptor, size)
  // A sector that was being written may hold anything from the cut on.
  if (dice(4) === 0) writeSync(descriptor, Buffer.alloc(dice(64), dice(256)), 0, undefined, cut)
  closeSync(descriptor)
}

/** Where the last byte that isn't zero ends. */
function writtenEnd(path: string): number {
  const bytes = readFileSync(path)
  let end = bytes.length
  while (end > 0 && bytes[end - 1] === 0) end -= 1
  return end
}

function loseWalTail(path: string, notes: string, dice: Dice): void {
  const bytes = readFileSync(path)
  if (bytes.length === 0) return
  const note = join(notes, walNote(path))
  const kept = existsSync(note)
    ? (JSON.parse(readFileSync(note, 'utf8')) as { header: string; end: number })
    : undefined
  const header = bytes.subarray(0, WAL_HEADER_BYTES).toString('hex')
  // A WAL that began anew since has a new header, which SQLite flushes before any frame.
  const begin = kept === undefined ? 0 : kept.header === header ? kept.end : WAL_HEADER_BYTES
  if (bytes.length <= begin) return
  const descriptor = openSync(path, 'r+')
  ftruncateSync(descriptor, begin + dice(bytes.length - begin + 1))
  closeSync(descriptor)
}
