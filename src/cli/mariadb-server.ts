/**
 * A private MariaDB server, for the demonstration and for tests: made in a temporary directory, on
 * a socket and a port that the system chose, without systemd and by whoever runs this, root or not.
 * It ends with this process; on Linux even when that is killed.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createConnection, createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { must } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import { findProgram } from '../platform/programs.ts'

/** What there must be on the machine. */
export const MARIADB_PROGRAMS = ['mariadbd', 'mariadb-install-db'] as const
const START_MS_MAX = 60_000
const POLL_MS = 20
const REASON_CHARACTERS = 1000

/** Settings for several small servers on one machine. */
const SETTINGS = [
  'bind-address=127.0.0.1',
  'skip-name-resolve',
  'performance-schema=OFF',
  'innodb-buffer-pool-size=16M',
  'innodb-log-buffer-size=2M',
  'innodb-log-file-size=8M',
  'innodb-flush-log-at-trx-commit=1',
  'key-buffer-size=64K',
  'aria-pagecache-buffer-size=1M',
  'max-connections=100',
]

/** Why there can be no server on this machine, and what to do then; undefined if there can. */
export function whyNoMariaDb(): string | undefined {
  const missing = MARIADB_PROGRAMS.filter(name => findProgram(name) === undefined)
  if (missing.length === 0) return undefined
  return `${missing.join(' and ')} not found (Debian, as root: apt-get install mariadb-server)`
}

export class MariaDbServer {
  readonly port: number
  readonly #directory: string
  readonly #settings: readonly string[]
  #process: ChildProcess | undefined
  readonly #onExit = (): void => {
    // The last resort, should this process end without `stop`.
    this.#process?.kill('SIGKILL')
    rmSync(this.#directory, { recursive: true, force: true })
  }

  private constructor(directory: string, port: number, settings: readonly string[]) {
    this.#directory = directory
    this.port = port
    this.#settings = settings
    process.on('exit', this.#onExit)
  }

  /** Makes an empty server and starts it. `settings`: lines of its configuration, beside ours. */
  static async start(settings: readonly string[] = []): Promise<MariaDbServer> {
    const reason = whyNoMariaDb()
    if (reason !== undefined) throw new DbError('NOT_READY', reason)
    const directory = mkdtempSync(join(tmpdir(), 'lockstep-mariadb-'))
    const server = new MariaDbServer(directory, await freePort(), settings)
    try {
      await server.#install()
      await server.restart()
      return server
    } catch (error) {
      await server.stop()
      throw error
    }
  }

  /** For the option `engine` of a node. */
  url(prefix: string): string {
    return `mysql://root@127.0.0.1:${this.port}/?prefix=${prefix}`
  }

  get pid(): number | undefined {
    return this.#process?.pid
  }

  /** Ends it as a power cut would end its process, and waits until it is gone. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#process
    this.#process = undefined
    if (child === undefined || hasEnded(child)) return
    const exit = once(child, 'exit')
    child.kill(signal)
    await exit
  }

  /** Starts it, if it does not run; resolves when it answers. */
  async restart(): Promise<void> {
    if (this.#process !== undefined) return
    const command = [programOf('mariadbd'), `--defaults-file=${this.#configuration}`]
    // Becomes the server, which the system then kills when this process is gone.
    const guard = process.platform === 'linux' ? findProgram('setpriv') : undefined
    if (guard !== undefined) command.unshift(guard, '--pdeathsig', 'KILL')
    const child = spawn(must(command[0]), command.slice(1), { stdio: 'ignore' })
    this.#process = child
    const deadline = performance.now() + START_MS_MAX
    while (!(await this.#answers())) {
      if (hasEnded(child) || performance.now() > deadline) {
        const what = hasEnded(child) ? 'ended by itself' : 'does not answer'
        throw new DbError('SERVER_DOWN', `mariadbd ${what}: ${this.#endOfLog()}`)
      }
      await pause(POLL_MS)
    }
  }

  /** Ends it and removes its data. */
  async stop(): Promise<void> {
    await this.kill()
    process.off('exit', this.#onExit)
    rmSync(this.#directory, { recursive: true, force: true })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  get #configuration(): string {
    return join(this.#directory, 'my.cnf')
  }

  get #log(): string {
    return join(this.#directory, 'error.log')
  }

  async #install(): Promise<void> {
    const directory = this.#directory
    const data = join(directory, 'data')
    const isRoot = process.getuid?.() === 0
    const lines = [
      '[mariadbd]',
      ...(isRoot ? ['user=root'] : []),
      `datadir=${data}`,
      // Two servers that share one take each other's temporary tables away.
      `tmpdir=${directory}`,
      `socket=${join(directory, 'socket')}`,
      `pid-file=${join(directory, 'pid')}`,
      `port=${this.port}`,
      `log-error=${this.#log}`,
      ...SETTINGS,
      ...this.#settings,
    ]
    writeFileSync(this.#configuration, `${lines.join('\n')}\n`)
    const child = spawn(
      programOf('mariadb-install-db'),
      [
        `--defaults-file=${this.#configuration}`,
        `--datadir=${data}`,
        '--auth-root-authentication-method=normal',
        '--skip-test-db',
        ...(isRoot ? ['--user=root'] : []),
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    )
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', chunk => (output += String(chunk)))
    }
    const [code] = (await once(child, 'close')) as [number | null]
    if (code === 0) return
    const reason = `${output} ${this.#endOfLog()}`.slice(-REASON_CHARACTERS)
    throw new DbError('SERVER_DOWN', `mariadb-install-db failed: ${reason}`)
  }

  /** Greets whoever connects once it is ready. */
  async #answers(): Promise<boolean> {
    const socket = createConnection({ host: '127.0.0.1', port: this.port })
    try {
      await once(socket, 'data')
      return true
    } catch {
      return false
    } finally {
      socket.destroy()
    }
  }

  #endOfLog(): string {
    if (!existsSync(this.#log)) return 'it has written no log'
    return readFileSync(this.#log, 'utf8').trim().slice(-REASON_CHARACTERS)
  }
}

function programOf(name: string): string {
  return must(findProgram(name), `program ${name}`)
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
