/**
 * Loaded before a node's own code (`--import`) to make its SQL or its disk go wrong as a file says
 * that a test writes while the node runs. The product has no part in this: it wraps Node's own
 * functions, in the node's main process and in those of its engine.
 */
import childProcess from 'node:child_process'
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import type { Fault } from './faulty-nodes.ts'

type ErrorCallback = (error: NodeJS.ErrnoException | null) => void

const real = {
  writev: fs.writev,
  fdatasync: fs.fdatasync,
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
  let altered = sql
  for (const { find, replace } of faults('sql')) altered = altered.replace(find, replace)
  return realPrepare.call(this, altered, ...rest)
}

function onFile<Found extends { readonly path: string }>(
  found: readonly Found[],
  descriptor: number,
): Found | undefined {
  if (found.length === 0) return undefined
  const file = fs.readlinkSync(`/proc/self/fd/${descriptor}`)
  return found.find(fault => file.includes(fault.path))
}

fs.writev = ((
  descriptor: number,
  chunks: readonly Uint8Array[],
  offset: number,
  done: (error: NodeJS.ErrnoException | null, written: number) => void,
) => {
  const fault = onFile(faults('write'), descriptor)
  if (fault === undefined) return real.writev(descriptor, chunks, offset, done)
  const error = Object.assign(new Error(`injected ${fault.code}`), { code: fault.code })
  return setImmediate(() => done(error, 0))
}) as typeof fs.writev

fs.fdatasync = ((descriptor: number, done: ErrorCallback) => {
  const fault = onFile(faults('flush'), descriptor)
  if (fault === undefined) return real.fdatasync(descriptor, done)
  const { code, delayMs = 0 } = fault
  const error = code === undefined ? null : Object.assign(new Error(`injected ${code}`), { code })
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
