/**
 * Loaded before a node's own code (`--import`) to note what its disk has surely kept: for each file
 * the end of what was written before its last finished flush, for each directory the names at its
 * last flush, for each SQLite WAL where its last complete checkpoint was. A power-cut test may then
 * take away everything else. The product has no part in this: it wraps Node's own functions, and
 * each note is written before the product hears that its flush is done.
 */
import childProcess from 'node:child_process'
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { directoryNote, fileNote, isDurable, walNote } from './flush-notes.ts'

type ErrorCallback = (error: NodeJS.ErrnoException | null) => void

const notes = process.env['FLUSH_NOTES'] ?? ''
/** What to pretend to have flushed, for showing that the test sees a missing flush. */
const skipped = process.env['FLUSH_SKIPPED'] ?? ''
const WAL_HEADER_BYTES = 32
const WAL_FRAME_BYTES = 4096 + 24

/** End of the last write to each open file. */
const writtenEnds = new Map<number, number>()
/** Open so that each write is a flush, too. */
const durableDescriptors = new Set<number>()

const real = {
  writev: fs.writev,
  writevSync: fs.writevSync,
  fdatasync: fs.fdatasync,
  fsync: fs.fsync,
  fsyncSync: fs.fsyncSync,
  openSync: fs.openSync,
  spawn: childProcess.spawn,
}

fs.openSync = (...args: Parameters<typeof fs.openSync>) => {
  const descriptor = real.openSync(...args)
  const [, flags] = args
  writtenEnds.delete(descriptor)
  durableDescriptors.delete(descriptor)
  if (isDurable(flags)) durableDescriptors.add(descriptor)
  return descriptor
}

fs.writev = ((
  descriptor: number,
  chunks: readonly Uint8Array[],
  offset: number,
  done: (error: NodeJS.ErrnoException | null, written: number) => void,
) => {
  real.writev(descriptor, chunks, offset, (error, written) => {
    if (error === null) noteWrite(descriptor, chunks, offset + written)
    done(error, written)
  })
}) as typeof fs.writev

fs.writevSync = ((descriptor: number, chunks: readonly Uint8Array[], offset: number) => {
  const written = real.writevSync(descriptor, chunks, offset)
  noteWrite(descriptor, chunks, offset + written)
  return written
}) as typeof fs.writevSync

fs.fdatasync = ((descriptor: number, done: ErrorCallback) => {
  const end = writtenEnds.get(descriptor) ?? 0
  if (skipped === 'fdatasync') {
    setImmediate(() => done(null))
    return
  }
  real.fdatasync(descriptor, error => {
    if (error === null) noteFile(descriptor, end)
    done(error)
  })
}) as typeof fs.fdatasync

fs.fsync = ((descriptor: number, done: ErrorCallback) => {
  if (skipped === 'directory') {
    setImmediate(() => done(null))
    return
  }
  real.fsync(descriptor, error => {
    if (error === null) noteDirectory(descriptor)
    done(error)
  })
}) as typeof fs.fsync

fs.fsyncSync = (descriptor: number) => {
  real.fsyncSync(descriptor)
  noteDirectory(descriptor)
}

const realPrepare = Object.getOwnPropertyDescriptor(DatabaseSync.prototype, 'prepare')
  ?.value as DatabaseSync['prepare']

DatabaseSync.prototype.prepare = function prepare(this: DatabaseSync, ...args) {
  const statement = realPrepare.apply(this, args)
  if (!args[0].startsWith('PRAGMA wal_checkpoint(') || args[0].includes('NOOP')) return statement
  const get = statement.get.bind(statement)
  // It has no parameters.
  statement.get = () => {
    const row = get()
    const [busy, inLog, done] = row as unknown as readonly bigint[]
    const path = this.location()
    if (busy === 0n && inLog === done && path !== null) noteCheckpoint(`${path}-wal`, Number(inLog))
    return row
  }
  return statement
}

/** Engine processes are watched like their parent. */
childProcess.spawn = ((command: string, args: readonly string[], options: object) => {
  const watched = ['--import', fileURLToPath(import.meta.url), ...args]
  return real.spawn(command, command === process.execPath ? watched : args, options)
}) as typeof childProcess.spawn

syncBuiltinESMExports()

function noteWrite(descriptor: number, chunks: readonly Uint8Array[], end: number): void {
  // Zeros that are filled in ahead are no data: losing them loses nothing.
  if (chunks.every(chunk => chunk.every(byte => byte === 0))) return
  writtenEnds.set(descriptor, Math.max(writtenEnds.get(descriptor) ?? 0, end))
  if (durableDescriptors.has(descriptor) && skipped !== 'fdatasync') noteFile(descriptor, end)
}

function noteFile(descriptor: number, end: number): void {
  const { ino } = fs.fstatSync(descriptor)
  const name = fileNote(ino)
  // What an earlier life of the node has flushed stays flushed.
  const before = fs.existsSync(join(notes, name)) ? Number(readNote(name)) : 0
  leaveNote(name, String(Math.max(before, end)))
}

function noteDirectory(descriptor: number): void {
  const path = fs.readlinkSync(`/proc/self/fd/${descriptor}`)
  if (!fs.fstatSync(descriptor).isDirectory()) return
  const names: Record<string, number> = {}
  for (const name of fs.readdirSync(path)) names[name] = fs.statSync(join(path, name)).ino
  leaveNote(directoryNote(path), JSON.stringify(names))
}

function noteCheckpoint(path: string, frames: number): void {
  const descriptor = real.openSync(path, 'r')
  const header = Buffer.alloc(WAL_HEADER_BYTES)
  fs.readSync(descriptor, header, 0, WAL_HEADER_BYTES, 0)
  fs.closeSync(descriptor)
  const end = frames === 0 ? 0 : WAL_HEADER_BYTES + frames * WAL_FRAME_BYTES
  leaveNote(walNote(path), JSON.stringify({ header: header.toString('hex'), end }))
}

/** Whole or not at all: the process may be killed in the middle. */
function leaveNote(name: string, text: string): void {
  const path = join(notes, name)
  fs.writeFileSync(`${path}-${process.pid}`, text)
  fs.renameSync(`${path}-${process.pid}`, path)
}

function readNote(name: string): string {
  return fs.readFileSync(join(notes, name), 'utf8')
}
