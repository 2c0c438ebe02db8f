/** The server processes that a comparison starts: each is ended, whatever happens. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { openSync, closeSync, readFileSync } from 'node:fs'
import { must } from '../../src/base/assert.ts'

const STOP_MS_MAX = 20_000
const LOG_CHARACTERS = 1500

export class Children {
  readonly #processes = new Set<ChildProcess>()
  readonly #atStop: (() => Promise<void>)[] = []
  readonly #onExit = (): void => {
    for (const child of this.#processes) child.kill('SIGKILL')
  }

  constructor() {
    // The last resort, should this process end without `stop`.
    process.on('exit', this.#onExit)
  }

  /** Starts a server with its output in a file; tells its process id. */
  start(command: string, args: readonly string[], log: string): number {
    const output = openSync(log, 'a')
    const child = spawn(command, args, { stdio: ['ignore', output, output] })
    closeSync(output)
    this.#processes.add(child)
    child.once('exit', () => this.#processes.delete(child))
    child.once('error', () => this.#processes.delete(child))
    return must(child.pid, `${command} could not be started`)
  }

  isRunning(pid: number): boolean {
    return [...this.#processes].some(child => child.pid === pid)
  }

  /** Something to be done at `stop`, for processes that others started. */
  atStop(callback: () => Promise<void>): void {
    this.#atStop.push(callback)
  }

  /** Ends all; those that take too long are killed. */
  async stop(): Promise<void> {
    await Promise.all([
      ...[...this.#processes].map(end),
      ...this.#atStop.map(async callback => callback()),
    ])
    process.off('exit', this.#onExit)
  }
}

async function end(child: ChildProcess): Promise<void> {
  const exit = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX)
  await exit
  clearTimeout(timer)
}

/** Waits until `isTrue`, or fails with what was waited for and the end of a log. */
export async function until(
  what: string,
  isTrue: () => Promise<boolean>,
  { timeoutMs = 60_000, log }: { timeoutMs?: number; log?: string } = {},
): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs
  while (!(await isTrue())) {
    if (performance.now() > deadlineMs) {
      const text = log === undefined ? '' : `:\n${readFileSync(log, 'utf8').slice(-LOG_CHARACTERS)}`
      throw new Error(`${what}: not within ${timeoutMs / 1000} s${text}`)
    }
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}
