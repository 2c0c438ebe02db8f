/**
 * Loaded before a node's own code (`--import`): a durable write of the log takes at least FLUSH_MS, as
 * on a slower disk. The product has no part in this. Timers of Node count in whole milliseconds, so
 * that it is up to one more.
 */
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { isDurable } from '../../test/cluster/flush-notes.ts'

type Done = (error: NodeJS.ErrnoException | null, written: number) => void

const flushMs = Number(process.env['FLUSH_MS'])
const real = {
  openSync: fs.openSync,
  writev: fs.writev,
  writevSync: fs.writevSync,
  fdatasync: fs.fdatasync,
}
const durable = new Set<number>()

fs.openSync = (...args: Parameters<typeof fs.openSync>) => {
  const descriptor = real.openSync(...args)
  durable.delete(descriptor)
  if (isDurable(args[1])) durable.add(descriptor)
  return descriptor
}

/** Calls `done` when the time is over. */
function later(startedMs: number, done: () => void): void {
  const leftMs = startedMs + flushMs - performance.now()
  if (leftMs <= 0) done()
  else setTimeout(done, Math.ceil(leftMs))
}

fs.writev = ((
  descriptor: number,
  chunks: readonly NodeJS.ArrayBufferView[],
  position: number,
  done: Done,
) => {
  if (!durable.has(descriptor)) return real.writev(descriptor, chunks, position, done)
  const startedMs = performance.now()
  return real.writev(descriptor, chunks, position, (error, written) =>
    later(startedMs, () => done(error, written)),
  )
}) as typeof fs.writev

fs.writevSync = ((
  descriptor: number,
  chunks: readonly NodeJS.ArrayBufferView[],
  position: number,
) => {
  const startedMs = performance.now()
  const written = real.writevSync(descriptor, chunks, position)
  const leftMs = startedMs + flushMs - performance.now()
  if (durable.has(descriptor) && leftMs > 0) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, leftMs)
  }
  return written
}) as typeof fs.writevSync

fs.fdatasync = ((descriptor: number, done: (error: NodeJS.ErrnoException | null) => void) => {
  const startedMs = performance.now()
  return real.fdatasync(descriptor, error => later(startedMs, () => done(error)))
}) as typeof fs.fdatasync

syncBuiltinESMExports()
