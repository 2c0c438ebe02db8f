/**
 * Runs statements of many forms on three nodes over three MariaDB servers whose settings differ in
 * all that a node fixes for itself, hands leadership on now and then, and compares what all have.
 */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { must } from '../../src/base/assert.ts'
import { LocalCluster } from '../../src/cli/local-cluster.ts'
import { SimRandom } from '../../sim/sim-random.ts'
import { MariaDbServer, queryServer } from '../fixtures/mariadb-server.ts'
import { Forms, TABLES } from './forms.ts'
import { get, post } from './kit.ts'

export interface FormsOptions {
  readonly seed: number
  readonly requests: number
  readonly log: (text: string) => void
}

export interface FormsReport {
  readonly succeeded: number
  /** How many requests failed, by the code of their error. */
  readonly failed: ReadonlyMap<string, number>
  /** What differed, and what was run since nothing did; undefined if nothing differs. */
  readonly complaint: string | undefined
}

const DATABASE = 'forms'
const SETTINGS: readonly (readonly string[])[] = [
  [],
  [
    'collation-server=latin1_swedish_ci',
    'character-set-server=latin1',
    'innodb_strict_mode=OFF',
    'sql_mode=',
    'default_time_zone=+05:00',
    'innodb_autoinc_lock_mode=0',
    'transaction_isolation=READ-COMMITTED',
    'default_storage_engine=MyISAM',
    'log_bin',
    'binlog_format=MIXED',
    'server_id=7',
    'auto_increment_increment=3',
    'auto_increment_offset=2',
    'group_concat_max_len=10',
  ],
  [
    'innodb_autoinc_lock_mode=2',
    'max_allowed_packet=64M',
    'innodb_rollback_on_timeout=ON',
    'autocommit=0',
    'completion_type=CHAIN',
    'alter_algorithm=COPY',
  ],
]
/** What a server would not be installed with. */
const GLOBALS = 'SET GLOBAL sql_safe_updates = 1, sql_select_limit = 3, check_constraint_checks = 0'
const COMPARE_EVERY = 5
const HAND_OVER_EVERY = 40
const TOGETHER = 6

export async function runForms(options: FormsOptions): Promise<FormsReport> {
  mkdirSync('.lockstep', { recursive: true })
  const directory = mkdtempSync(join('.lockstep', 'forms-'))
  const servers: MariaDbServer[] = []
  let cluster: LocalCluster | undefined
  try {
    for (const settings of SETTINGS) servers.push(await MariaDbServer.start(settings))
    await queryServer(must(servers[1]), GLOBALS)
    cluster = await LocalCluster.start({
      nodes: servers.length,
      directory,
      nodeOptions: nodeId => ['--engine', must(servers[Number(nodeId.slice(1)) - 1]).url('')],
    })
    return await new Run(cluster, options).toTheEnd()
  } finally {
    await cluster?.stop('SIGKILL')
    await Promise.all(servers.map(server => server.stop()))
    rmSync(directory, { recursive: true, force: true })
  }
}

class Run {
  readonly #cluster: LocalCluster
  readonly #options: FormsOptions
  readonly #random: SimRandom
  readonly #forms: Forms
  readonly #failed = new Map<string, number>()
  #succeeded = 0
  /** What was run since all were found equal. */
  #recent: string[] = []

  constructor(cluster: LocalCluster, options: FormsOptions) {
    this.#cluster = cluster
    this.#options = options
    this.#random = new SimRandom(options.seed, 'run')
    this.#forms = new Forms(new SimRandom(options.seed, 'forms'))
  }

  async toTheEnd(): Promise<FormsReport> {
    await this.#cluster.ready()
    await this.#post('/execute', { action: 'create_db', database: DATABASE })
    for (const sql of TABLES) {
      const { status, json } = await this.#post('/execute', { database: DATABASE, sql })
      assert.equal(status, 200, JSON.stringify(json.error))
    }
    let complaint: string | undefined
    for (let number = 1; number <= this.#options.requests; number += 1) {
      if (number % HAND_OVER_EVERY === 0) await this.#handOver()
      await this.#step(number)
      if (number % COMPARE_EVERY === 0) complaint = await this.#compare(number)
      if (complaint !== undefined) break
    }
    complaint ??= await this.#compare(this.#options.requests)
    return { succeeded: this.#succeeded, failed: this.#failed, complaint }
  }

  /** One request, or several at once, each to any node. */
  async #step(number: number): Promise<void> {
    const count = this.#random.chance(0.1) ? TOGETHER : 1
    const run = async (): Promise<void> => {
      const texts = this.#forms.request()
      const statements = texts.map(sql => ({ sql }))
      const { json } = await this.#post('/execute', { database: DATABASE, statements })
      const told =
        json.error === undefined ? json.results : `${json.error.code} ${json.error.message}`
      const mark = count > 1 ? ' (at once)' : ''
      this.#recent.push(`${number}${mark}: ${texts.join('; ')} -> ${JSON.stringify(told)}`)
      if (json.error === undefined) this.#succeeded += 1
      else this.#failed.set(json.error.code, (this.#failed.get(json.error.code) ?? 0) + 1)
    }
    await Promise.all(Array.from({ length: count }, run))
  }

  async #handOver(): Promise<void> {
    const leader = await this.#cluster.ready()
    const others = this.#cluster.nodes.filter(({ nodeId }) => nodeId !== leader)
    const { nodeId } = this.#random.pick(others)
    const { json } = await this.#post('/members', { action: 'transfer', node: nodeId })
    const told = json.error?.message ?? `${nodeId} leads`
    this.#recent.push(told)
    this.#options.log(`${this.#succeeded} done; ${told}`)
  }

  /** What differs, undefined if nothing does. */
  async #compare(number: number): Promise<string | undefined> {
    const digests: unknown[] = []
    const divergences: unknown[] = []
    for (const { nodeId, address } of this.#cluster.nodes) {
      const { json } = await get(address, `/digest?database=${DATABASE}`)
      digests.push(json['digest'] ?? JSON.stringify(json))
      const status = (await get(address, '/status')).json as unknown as {
        readonly divergence: unknown
        readonly counters: { readonly divergences: number }
      }
      if (status.counters.divergences > 0) divergences.push([nodeId, status.divergence])
    }
    if (new Set(digests).size === 1 && divergences.length === 0) {
      this.#recent = []
      return undefined
    }
    const what = JSON.stringify({ digests, divergences })
    return [`after ${number} requests: ${what}`, ...this.#recent].join('\n')
  }

  #post(path: string, body: unknown): ReturnType<typeof post> {
    return post(this.#random.pick(this.#cluster.addresses), path, body)
  }
}
