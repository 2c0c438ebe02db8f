/** One MariaDB server in a directory of its own: made, started, asked. For those that use several. */
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { must } from '../../../src/base/assert.ts'
import { until } from '../children.ts'
import type { Children } from '../children.ts'
import { MYSQL_DATABASE } from '../drivers/mysql.ts'
import { findProgram } from '../install.ts'
import { idsBy, totalsBy } from '../sql.ts'
import type { Query } from '../sql.ts'
import type { Totals } from '../system.ts'

export const MARIADB_PROGRAMS = ['mariadbd', 'mariadb', 'mariadb-install-db'] as const
export const USER = 'bench'
/** Alike on all nodes, so that the disk is asked as often as a commit promises. */
export const MARIADB_SETTINGS = [
  'innodb_flush_log_at_trx_commit = 1',
  'innodb_buffer_pool_size = 256M',
  'performance_schema = OFF',
  'prepared statements',
] as const

export interface NodeOptions {
  readonly directory: string
  readonly port: number
  readonly serverId: number
  /** Lines of its configuration. */
  readonly settings: readonly string[]
  readonly children: Children
}

export class MariadbNode {
  readonly address: string
  readonly port: number
  readonly #options: NodeOptions
  readonly #log: string
  #pid = 0

  constructor(options: NodeOptions) {
    this.#options = options
    this.port = options.port
    this.address = `127.0.0.1:${options.port}`
    this.#log = join(options.directory, 'server.log')
  }

  get pid(): number {
    return this.#pid
  }

  /** Copies empty data into its directory and writes its configuration. */
  prepare(emptyData: string): void {
    const { directory, port, serverId, settings } = this.#options
    mkdirSync(directory, { recursive: true })
    cpSync(emptyData, join(directory, 'data'), { recursive: true })
    const lines = [
      '[mariadbd]',
      ...(isRoot() ? ['user=mysql'] : []),
      `datadir=${join(directory, 'data')}`,
      `socket=${this.#socket}`,
      `pid-file=${join(directory, 'server.pid')}`,
      `port=${port}`,
      'bind-address=127.0.0.1',
      `log-error=${this.#log}`,
      `server-id=${serverId}`,
      'skip-name-resolve',
      'character-set-server=utf8mb4',
      'default-time-zone=+00:00',
      'max-connections=400',
      'performance-schema=OFF',
      'innodb-buffer-pool-size=256M',
      'innodb-flush-log-at-trx-commit=1',
      'loose-feedback=OFF',
      ...settings,
    ]
    writeFileSync(this.#configuration, `${lines.join('\n')}\n`)
    if (!isRoot()) return
    chmodSync(dirname(directory), 0o755)
    const run = runText('chown', ['-R', 'mysql:mysql', directory], '')
    if (run.status !== 0) throw new Error(`chown: ${run.stderr}`)
  }

  /** Resolves when it answers. */
  async start(...args: string[]): Promise<void> {
    const program = must(findProgram('mariadbd'))
    const { children, directory } = this.#options
    const log = join(directory, 'output.log')
    this.#pid = children.start(program, [`--defaults-file=${this.#configuration}`, ...args], log)
    const answers = async (): Promise<boolean> => {
      if (!children.isRunning(this.#pid)) throw new Error(`mariadbd ended; see ${this.#log}`)
      return Promise.resolve(this.#run('SELECT 1').status === 0)
    }
    await until('mariadbd answers', answers, { log: this.#log })
  }

  /** Rows as texts, columns apart by tabs. Throws with the server's message. */
  sql(text: string): string[] {
    const { status, stdout, stderr } = this.#run(text)
    if (status !== 0) throw new Error(`mariadb: ${stderr.trim()}`)
    return stdout.split('\n').filter(line => line !== '')
  }

  /** The value of a status variable, such as Rpl_semi_sync_master_clients. */
  status(name: string): string {
    const [value = ''] = this.sql(
      `SELECT variable_value FROM information_schema.global_status WHERE variable_name = '${name}'`,
    )
    return value
  }

  /** Makes the user that load comes from, without telling other nodes of it. */
  createUser(password: string, isLocal: boolean): void {
    this.sql(
      `${isLocal ? 'SET sql_log_bin = 0;' : ''} CREATE USER '${USER}'@'%' IDENTIFIED BY '${password}';
       GRANT ALL ON *.* TO '${USER}'@'%'`,
    )
  }

  ids(from: number, to: number): Promise<number[]> {
    return idsBy(this.#query, from, to)
  }

  totals(): Promise<Totals> {
    return totalsBy(this.#query)
  }

  readonly #query: Query = async sql =>
    Promise.resolve(
      this.sql(`USE ${MYSQL_DATABASE}; ${sql}`).map(line => line.split('\t').map(Number)),
    )

  get #socket(): string {
    return join(this.#options.directory, 'sock')
  }

  get #configuration(): string {
    return join(this.#options.directory, 'my.cnf')
  }

  #run(text: string): ReturnType<typeof runText> {
    return runText(
      must(findProgram('mariadb')),
      ['--no-defaults', '-S', this.#socket, '-uroot', '-N', '-B'],
      text,
    )
  }
}

/** Makes the data of a server that has nothing; every node begins with a copy. */
export function emptyData(directory: string): string {
  const data = join(directory, 'empty')
  const args = [
    '--no-defaults',
    `--datadir=${data}`,
    '--auth-root-authentication-method=normal',
    '--skip-test-db',
  ]
  if (isRoot()) args.push('--user=root')
  const run = runText(must(findProgram('mariadb-install-db')), args, '')
  if (run.status !== 0) throw new Error(`mariadb-install-db: ${run.stderr || run.stdout}`)
  return data
}

export function newPassword(): string {
  return randomBytes(12).toString('hex')
}

export function mariadbVersion(): string {
  const { stdout } = runText(must(findProgram('mariadbd')), ['--version'], '')
  return /Ver (\S+)/.exec(stdout)?.[1] ?? 'unknown'
}

/** Root's servers become the user that the package has made; those of others stay who they are. */
function isRoot(): boolean {
  return process.getuid?.() === 0
}

function runText(
  program: string,
  args: readonly string[],
  input: string,
): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(program, args, { input, encoding: 'utf8', maxBuffer: 2 ** 28 })
}
