/**
 * Loaded before a node's own code (`--import`) to make its SQL or its disk go wrong as a file says
 * that a test writes while the node runs. The product has no part in this: it wraps Node's own
 * functions, in the node's main process and in those of its engine.
 */
import childProcess from 'node:child_process'
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { DatabaseSync, StatementSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import type { Fault } from './faulty-nodes.ts'
import { isDurable } from './flush-notes.ts'

type ErrorCallback = (error: NodeJS.ErrnoException | null) => void

const real = {
  writev: fs.writev,
  writevSync: fs.writevSync,
  fdatasync: fs.fdatasync,
  openSync: fs.openSync,
  readSync: fs.readSync,
  rename: fs.rename,
  spawn: childProcess.spawn,
  readFileSync: fs.readFileSync,
}

/** Which node this process belongs to, as its directory is named. */
const words = process.argv.join('/')
const [, nodeId = ''] = /\/(n\d+)(?:\/|$)/.exec(words.replaceAll('//', '/')) ?? []
const path = join(process.env['FAULTS'] ?? '', `${nodeId}.json`)

function faults<Type extends Fault['type']>(type: Type): Extract<Fault, { type: Type }>[] {
  try {
    const all = JSON.parse(real.readFileSync(path, 'utf8')) as Fault[]
    return all.filter((fault): fault is Extract<Fault, { type: Type }> => fault.type === type)
  } catch {
    // No such file: nothing is to go wrong.
    return []
  }
}

const realPrepare = Object.getOwnPropertyDescriptor(DatabaseSync.prototype, 'prepare')
  ?.value as DatabaseSync['prepare']

DatabaseSync.prototype.prepare = function prepare(this: DatabaseSync, sql, ...rest) {
  const error = faults('sql-error').find(({ find }) => sql.includes(find))
  if (error !== undefined) {
    const { errcode } = error
    throw Object.assign(new Error('injected'), { code: 'ERR_SQLITE_ERROR', errcode })
  }
  return realPrepare.call(this, altered(sql), ...rest)
}

function altered(sql: string): string {
  return faults('sql').reduce((text, { find, replace }) => text.replace(find, replace), sql)
}

// What goes to a MySQL server passes here, many statements in one text.
if (words.includes('mysql:')) {
  const { default: mysql } = await import('mysql2')
  const { Connection } = mysql as unknown as {
    readonly Connection: { readonly prototype: { query: (options: { sql: string }) => unknown } }
  }
  const { query } = Connection.prototype
  Connection.prototype.query = function altering(options) {
    return query.call(this, { ...options, sql: altered(options.sql) })
  }
}

for (const name of ['run', 'get', 'all'] as const) {
  const realRun = Object.getOwnPropertyDescriptor(StatementSync.prototype, name)?.value as (
    ...values: unknown[]
  ) => unknown
  Object.defineProperty(StatementSync.prototype, name, {
    value: function run(this: StatementSync, ...values: unknown[]) {
      const error = faults('run-error').find(({ find }) => this.sourceSQL.includes(find))
      if (error === undefined) return realRun.apply(this, values)
      const { errcode } = error
      throw Object.assign(new Error('injected'), { code: 'ERR_SQLITE_ERROR', errcode })
    },
  })
}

function errorOf(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`injected ${code}`), { code })
}

function onFile<Found extends { readonly path: string }>(
  found: readonly Found[],
  descriptor: number,
): Found | undefined {
  if (found.length === 0) return undefined
  const file = fs.readlinkSync(`/proc/self/fd/${descriptor}`)
  return found.find(fault => file.includes(fault.path))
}

/** Open so that each write is a flush, too. */
const durableDescriptors = new Set<number>()

fs.openSync = (...args: Parameters<typeof fs.openSync>) => {
  const descriptor = real.openSync(...args)
  const [, flags] = args
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
  const fault = onFile(faults('write'), descriptor)
  if (fault !== undefined) return setImmediate(() => done(errorOf(fault.code), 0))
  const flush = durableDescriptors.has(descriptor) ? onFile(faults('flush'), descriptor) : undefined
  if (flush !== undefined) {
    const { code, delayMs = 0 } = flush
    return setTimeout(() => {
      // As after a flush that failed, the bytes are in the system's cache.
      real.writev(descriptor, chunks, offset, (error, written) => {
        if (code === undefined) done(error, written)
        else done(errorOf(code), 0)
      })
    }, delayMs)
  }
  const short = onFile(faults('short-write'), descriptor)
  const first = chunks.find(({ length }) => length > 0)
  if (short === undefined || first === undefined) {
    return real.writev(descriptor, chunks, offset, done)
  }
  return real.writev(descriptor, [first.subarray(0, short.sizeBytes)], offset, done)
}) as typeof fs.writev

fs.writevSync = ((descriptor: number, chunks: readonly Uint8Array[], offset: number) => {
  const fault = onFile(faults('write'), descriptor)
  if (fault !== undefined) throw errorOf(fault.code)
  const flush = durableDescriptors.has(descriptor) ? onFile(faults('flush'), descriptor) : undefined
  // The process stands still as long as the disk does.
  if (flush !== undefined) standStill(flush.delayMs ?? 0)
  const short = onFile(faults('short-write'), descriptor)
  const first = chunks.find(({ length }) => length > 0)
  const isShort = short !== undefined && first !== undefined
  const taken = isShort ? [first.subarray(0, short.sizeBytes)] : chunks
  const written = real.writevSync(descriptor, taken, offset)
  if (flush?.code !== undefined) throw errorOf(flush.code)
  return written
}) as typeof fs.writevSync

function standStill(durationMs: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, durationMs)
}

fs.readSync = ((descriptor: number, ...rest: [Uint8Array, number, number, number]) => {
  const fault = onFile(faults('read'), descriptor)
  if (fault !== undefined) throw errorOf(fault.code)
  return real.readSync(descriptor, ...rest)
}) as typeof fs.readSync

fs.rename = ((from: string, to: string, done: ErrorCallback) => {
  const fault = faults('rename').find(({ path: part }) => to.includes(part))
  if (fault === undefined) return real.rename(from, to, done)
  return setImmediate(() => done(errorOf(fault.code)))
}) as typeof fs.rename

fs.fdatasync = ((descriptor: number, done: ErrorCallback) => {
  const fault = onFile(faults('flush'), descriptor)
  if (fault === undefined) return real.fdatasync(descriptor, done)
  const { code, delayMs = 0 } = fault
  const error = code === undefined ? null : errorOf(code)
  return setTimeout(() => {
    if (error === null) real.fdatasync(descriptor, done)
    else done(error)
  }, delayMs)
}) as typeof fs.fdatasync

/** Engine processes are hurt like their parent. */
childProcess.spawn = ((command: string, args: readonly string[], options: object) => {
  const hurt = ['--import', fileURLToPath(import.meta.url), ...args]
  return real.spawn(command, command === process.execPath ? hurt : args, options)
}) as typeof childProcess.spawn

syncBuiltinESMExports()
