/**
 * Speed of the SQLite engine alone, in this process: no log, no network, no second process.
 * Arguments: seconds for each line (default 2).
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { assert } from '../src/base/assert.ts'
import type { SqlParams } from '../src/base/sql.ts'
import type { EngineEntry, RequestId, WriterMessage, WriterReply } from '../src/engine/engine.ts'
import { encodeRequest } from '../src/engine/request.ts'
import { SqliteReader } from '../src/engine/sqlite/sqlite-reader.ts'
import { SqliteWriter } from '../src/engine/sqlite/sqlite-writer.ts'

const seconds = Number(process.argv[2] ?? 2)
const seed = new Uint8Array(16)
const INSERT = 'INSERT INTO t (a, b, c) VALUES (?, ?, ?)'

/** A writer with one table, and the index of its last entry. */
class Bench {
  readonly directory = mkdtempSync(join(tmpdir(), 'lockstep-bench-'))
  readonly writer = new SqliteWriter({ directory: this.directory })
  index = 0
  #batch = 0

  constructor() {
    this.writer.handle({ type: 'open' })
    this.execute([encodeRequest({ type: 'create-database', database: 'd' })])
    this.execute([
      request('CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c REAL)', []),
    ])
  }

  execute(requests: readonly Uint8Array[]): Uint8Array | undefined {
    const batch = ++this.#batch
    const nowMs = 1_700_000_000_000 + batch
    const executed = this.#send(
      { type: 'execute', batch, nowMs, seed, commitIndex: this.index, requests },
      'executed',
    )
    assert(
      executed.results.every(({ type }) => type === 'ok'),
      'every request succeeds',
    )
    if (executed.entry === undefined) return undefined
    this.#send({ type: 'commit', batch, index: ++this.index }, 'committed')
    this.writer.maintain()
    return executed.entry
  }

  apply(entries: readonly EngineEntry[]): void {
    const applied = this.#send({ type: 'apply', entries }, 'applied')
    assert(applied.divergence === undefined, 'the replica computed the same')
    this.index = applied.index
    this.writer.maintain()
  }

  close(): void {
    this.writer.close()
    rmSync(this.directory, { recursive: true })
  }

  #send<T extends WriterReply['type']>(message: WriterMessage, type: T): WriterReply & { type: T } {
    const reply = this.writer.handle(message)
    assert(reply.type === type, `${message.type} was answered by ${reply.type}`)
    return reply as WriterReply & { type: T }
  }
}

function request(sql: string, params: SqlParams, id?: RequestId): Uint8Array {
  const statements = [{ sql, params }]
  return encodeRequest({ type: 'statements', database: 'd', statements, ...(id && { id }) })
}

/** Calls `step` for some seconds and prints how many of the `perStep` things were done a second. */
function measure(name: string, perStep: number, step: (round: number) => void): void {
  for (let round = 0; round < 50; round++) step(round)
  const watch = new Watch()
  let rounds = 0
  while (watch.wallMs() < seconds * 1000) step(50 + rounds++)
  watch.report(name, rounds * perStep)
}

/** Wall clock and processor time: on a machine with other work, only the second repeats. */
class Watch {
  readonly #start = performance.now()
  readonly #cpu = process.cpuUsage()

  wallMs(): number {
    return performance.now() - this.#start
  }

  report(name: string, count: number): void {
    const { user, system } = process.cpuUsage(this.#cpu)
    const rate = Math.round((count * 1000) / this.wallMs())
    const micros = ((user + system) / count).toFixed(1)
    console.log(
      `${name.padEnd(44)} ${String(rate).padStart(9)}/s ${micros.padStart(8)} µs of processor`,
    )
  }
}

/** How the requests of a batch are known: not at all, by keys, or by so many sessions in turn. */
type Ids = 'none' | 'keys' | number

/** Gives the id of the next request. A key is born now: what was forgotten tells nothing of it. */
function idSource(ids: Ids, bench: Bench): () => RequestId | undefined {
  let count = 0
  return () => {
    if (ids === 'none') return undefined
    const number = count++
    if (ids === 'keys') {
      const key = `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`
      return { type: 'key', key, birth: bench.index }
    }
    const session = { birth: 1, name: 1e14 + (number % ids) }
    return { type: 'session', session, sequence: 1 + Math.floor(number / ids) }
  }
}

function measureInserts(size: number, ids: Ids): void {
  const bench = new Bench()
  const nextId = idSource(ids, bench)
  try {
    const what = ids === 'none' || ids === 'keys' ? ids : `${ids} sessions`
    measure(`batches of ${size}, ids: ${what}`, size, round => {
      const requests: Uint8Array[] = []
      for (let i = 0; i < size; i++) {
        requests.push(request(INSERT, [`name ${i}`, BigInt(round), i / 7], nextId()))
      }
      bench.execute(requests)
    })
  } finally {
    bench.close()
  }
}

/** Applies what another writer has logged, in messages of 16 entries. */
function measureApply(size: number): void {
  const source = new Bench()
  const target = new Bench()
  try {
    const count = Math.round((seconds * 40_000) / size)
    const entries: EngineEntry[] = []
    for (let i = 0; i < count; i++) {
      const requests: Uint8Array[] = []
      for (let k = 0; k < size; k++) requests.push(request(INSERT, [`name ${k}`, BigInt(i), k / 7]))
      const data = source.execute(requests)
      assert(data !== undefined, 'inserts are logged')
      entries.push({ index: source.index, data })
    }
    const watch = new Watch()
    for (let i = 0; i < count; i += 16) target.apply(entries.slice(i, i + 16))
    watch.report(`apply, entries of ${size}`, count * size)
  } finally {
    source.close()
    target.close()
  }
}

for (const size of [1, 8, 64, 512]) {
  for (const ids of ['none', 1, 64, 1000, 'keys'] as const) measureInserts(size, ids)
}
const leader = new Bench()
try {
  for (const size of [1, 8, 64, 512]) {
    measure(`execute + commit, batches of ${size}`, size, round => {
      const requests: Uint8Array[] = []
      for (let i = 0; i < size; i++) {
        requests.push(request(INSERT, [`name ${i}`, BigInt(round), i / 7]))
      }
      leader.execute(requests)
    })
  }
  measure('execute + commit, literal SQL, 64', 64, round => {
    const requests: Uint8Array[] = []
    for (let i = 0; i < 64; i++) {
      requests.push(request(`INSERT INTO t (a, b, c) VALUES ('name ${i}', ${round}, ${i}.5)`, []))
    }
    leader.execute(requests)
  })
  const rows = Array.from({ length: 100 }, () => '(?,?,?)').join(',')
  const values = Array.from({ length: 100 }, (_, i) => [`name ${i}`, BigInt(i), i / 7]).flat()
  measure('execute + commit, 100 rows a statement', 100, () => {
    leader.execute([request(`INSERT INTO t (a, b, c) VALUES ${rows}`, values)])
  })
  for (const size of [1, 64]) measureApply(size)
  const reader = new SqliteReader({ directory: leader.directory })
  const read = { database: 'd', maxRows: 1000, maxBytes: 1e6 }
  measure('point read', 1, round => {
    const statements = [
      { sql: 'SELECT * FROM t WHERE id = ?', params: [BigInt(1 + (round % 1000))] },
    ]
    reader.handle({ ...read, statements })
  })
  measure('read of 100 rows', 1, () => {
    reader.handle({ ...read, statements: [{ sql: 'SELECT * FROM t LIMIT 100', params: [] }] })
  })
  reader.close()
} finally {
  leader.close()
}
