/** `lockstep import` and MariaDB's own programs, as tests run them. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { programPath } from '../../src/cli/program.ts'
import { findProgram } from '../../src/platform/programs.ts'
import type { MariaDbServer } from '../fixtures/mariadb-server.ts'

/** What became of an import. */
export interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** Starts an import of a dump into a database, and what it comes to. */
export function startImport(
  file: string,
  addresses: readonly string[],
  database: string,
): [ChildProcess, Promise<Ended>] {
  const args = ['import', file, '--database', database, '--nodes', addresses.join(',')]
  const child = spawn(process.execPath, [programPath('main'), ...args])
  let [out, err] = ['', '']
  child.stdout.on('data', chunk => (out += String(chunk)))
  child.stderr.on('data', chunk => (err += String(chunk)))
  return [child, once(child, 'close').then(([code]) => ({ code: code as number | null, out, err }))]
}

/** Runs a program of MariaDB's on the server; what it printed. */
export function runTool(
  server: MariaDbServer,
  name: string,
  args: readonly string[],
  input = '',
): Buffer {
  const program = findProgram(name) ?? assert.fail(`${name} is installed with the server`)
  const connection = ['-h', '127.0.0.1', '-P', String(server.port), '-u', 'root']
  const words = ['--no-defaults', '--default-character-set=utf8mb4', ...connection, ...args]
  const run = spawnSync(program, words, { input, maxBuffer: 2 ** 28 })
  assert.equal(run.status, 0, run.stderr.toString())
  return run.stdout
}
