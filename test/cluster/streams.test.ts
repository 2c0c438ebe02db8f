import assert from 'node:assert/strict'
import { test } from 'node:test'
import { must } from '../../src/base/assert.ts'
import { createClient } from '../../src/client/index.ts'
import { StreamClient } from '../server/http/stream-kit.ts'
import { post, rolesOf, startCluster, until } from './kit.ts'

const DATABASE = 'app'

/** An empty table without any key: a line that took effect twice shows. */
async function prepare(address: string): Promise<void> {
  await post(address, '/execute', { action: 'create_db', database: DATABASE })
  const sql = 'DROP TABLE IF EXISTS t; CREATE TABLE t (id INTEGER PRIMARY KEY, stream, n)'
  const { status } = await post(address, '/execute', { database: DATABASE, sql })
  assert.equal(status, 200)
}

/** What every stream has written, in the order in which it took effect. */
async function readRows(addresses: readonly string[]): Promise<Map<number, number[]>> {
  const db = createClient({ nodes: addresses, database: DATABASE, timeoutMs: 30_000 })
  const sql = 'SELECT stream, n FROM t ORDER BY id'
  const { rows } = await db.query<{ stream: number; n: number }>(sql)
  const groups = Map.groupBy(rows, ({ stream }) => stream)
  return new Map([...groups].map(([stream, own]) => [stream, own.map(({ n }) => n)]))
}

/** Inserts rows with numbers from 0 on, 60 of them on their way. */
class Writer {
  readonly client: StreamClient
  readonly session: string
  readonly #address: string
  readonly #stream: number
  #sent = 0
  #timer: NodeJS.Timeout

  private constructor(client: StreamClient, session: string, address: string, stream: number) {
    this.client = client
    this.session = session
    this.#address = address
    this.#stream = stream
    this.#timer = setInterval(() => this.#fill(), 1)
  }

  static async open(address: string, stream: number): Promise<Writer> {
    const { json } = await post(address, '/sessions', {})
    const client = await StreamClient.open(`http://${address}`)
    return new Writer(client, String(json['session']), address, stream)
  }

  get address(): string {
    return this.#address
  }

  get answered(): number {
    return this.client.answers.length
  }

  get sent(): number {
    return this.#sent
  }

  idOf(n: number): string {
    return `${this.session}/${n + 1}`
  }

  #fill(): void {
    if (this.client.isOver) return this.stop()
    while (this.#sent < this.answered + 60) {
      const params = [this.#stream, this.#sent]
      const sql = 'INSERT INTO t (stream, n) VALUES (?, ?)'
      this.client.send({ database: DATABASE, sql, params, request: this.idOf(this.#sent) })
      this.#sent += 1
    }
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** Sends no more and waits for what is on its way. */
  async end(): Promise<void> {
    this.stop()
    this.client.request.end()
    await until(
      () => this.client.isOver,
      isOver => isOver,
      40_000,
    )
  }
}

async function open(addresses: readonly string[], count: number): Promise<Writer[]> {
  return Promise.all(
    Array.from({ length: count }, (_, at) =>
      Writer.open(must(addresses[at % addresses.length]), at),
    ),
  )
}

async function untilAnswered(writers: readonly Writer[], more: number): Promise<void> {
  const marks = writers.map(({ answered }) => answered + more)
  await until(
    () => writers.map(({ answered }) => answered),
    now => now.every((answered, at) => answered >= must(marks[at])),
  )
}

/** Each line as often as it says, unknown ones as their fate says. */
async function check(writers: readonly Writer[], addresses: readonly string[]): Promise<number> {
  let unknown = 0
  const expected = new Map<number, Set<number>>()
  const ask = async (writer: Writer, n: number): Promise<boolean> => {
    unknown += 1
    const headers = { 'lockstep-request': writer.idOf(n) }
    const body = { database: DATABASE, timeoutMs: 10_000 }
    const survivor = must(addresses[0])
    const { json } = await post(survivor, '/cancel', body, headers)
    assert.ok(json['fate'] === 'applied' || json['fate'] === 'not-applied', JSON.stringify(json))
    return json['fate'] === 'applied'
  }
  for (const [stream, writer] of writers.entries()) {
    const own = new Set<number>()
    expected.set(stream, own)
    for (let n = 0; n < writer.sent; n += 1) {
      const answer = writer.client.answers[n]
      const isApplied =
        answer === undefined || answer.error?.fate === 'unknown'
          ? await ask(writer, n)
          : answer.error === undefined
      if (isApplied) own.add(n)
    }
  }
  const rows = await readRows(addresses)
  for (const [stream, own] of expected) {
    const found = rows.get(stream) ?? []
    assert.equal(new Set(found).size, found.length, 'a line took effect twice')
    assert.deepEqual(new Set(found), own)
  }
  return unknown
}

test('streams to all nodes of a cluster lose and double nothing, whatever becomes of nodes', async t => {
  const cluster = await startCluster(t)

  await t.test('while one node leads, lines take effect in their order, at any node', async () => {
    const { leader } = await rolesOf(cluster)
    await prepare(leader)
    const writers = await open(cluster.addresses, 6)
    await untilAnswered(writers, 300)
    await Promise.all(writers.map(writer => writer.end()))
    const rows = await readRows(cluster.addresses)
    for (const [stream, writer] of writers.entries()) {
      assert.equal(writer.client.isWhole, true)
      assert.deepEqual(
        writer.client.answers.filter(({ error }) => error !== undefined),
        [],
      )
      assert.deepEqual(
        rows.get(stream),
        Array.from({ length: writer.sent }, (_, n) => n),
      )
    }
  })

  await t.test('the leader is killed in the middle of streams', async () => {
    const { leader, leaderId } = await rolesOf(cluster)
    await prepare(leader)
    const writers = await open(cluster.addresses, 9)
    await untilAnswered(writers, 100)
    await cluster.kill(leaderId)
    const others = writers.filter(({ address }) => address !== leader)
    await untilAnswered(others, 100)
    await Promise.all(writers.map(writer => writer.end()))

    const own = writers.filter(({ address }) => address === leader)
    assert.ok(own.every(({ client }) => !client.isWhole))
    assert.ok(others.every(({ client, sent }) => client.isWhole && client.answers.length === sent))
    // Under their ids, other nodes brought theirs to the next leader.
    const errors = others.flatMap(({ client }) =>
      client.answers.flatMap(({ error }) => error ?? []),
    )
    assert.deepEqual(errors, [])
    const survivors = cluster.addresses.filter(address => address !== leader)
    const unknown = await check(writers, survivors)
    assert.ok(unknown > 0, 'some lines were on their way')
    cluster.restart(leaderId)
    await cluster.ready()
  })

  await t.test('a node that is stopped has answered all that it took', async () => {
    const { leader, leaderId } = await rolesOf(cluster)
    await prepare(leader)
    const writers = await open(cluster.addresses, 6)
    await untilAnswered(writers, 100)
    await cluster.kill(leaderId, 'SIGTERM')
    const others = writers.filter(({ address }) => address !== leader)
    await untilAnswered(others, 100)
    await Promise.all(writers.map(writer => writer.end()))

    for (const { client, address, sent } of writers) {
      assert.equal(client.isWhole, true)
      const errors = client.answers.flatMap(({ error }) => error ?? [])
      if (address !== leader) assert.deepEqual([errors, client.answers.length], [[], sent])
      else
        assert.ok(
          errors.every(({ code }) => code === 'SHUTTING_DOWN'),
          JSON.stringify(errors),
        )
    }
    const rows = await readRows(cluster.addresses.filter(address => address !== leader))
    for (const [stream, { client }] of writers.entries()) {
      const taken = client.answers.flatMap(({ error }, n) => (error === undefined ? [n] : []))
      // Nobody asked for the fate of those without an answer: they were not taken.
      assert.deepEqual(new Set(rows.get(stream)), new Set(taken))
    }
    cluster.restart(leaderId)
    await cluster.ready()
  })

  await t.test('a busy client streams through the death of leaders without an error', async () => {
    const { leader } = await rolesOf(cluster)
    await prepare(leader)
    const db = createClient({ nodes: cluster.addresses, database: DATABASE, timeoutMs: 30_000 })
    let written = 0
    const stop = new AbortController()
    const errors: unknown[] = []
    const workers = Array.from({ length: 100 }, async (_, worker) => {
      for (let n = 0; !stop.signal.aborted; n += 1) {
        try {
          await db.execute('INSERT INTO t (stream, n) VALUES (?, ?)', [worker, n])
          written += 1
        } catch (error) {
          errors.push(error)
          return
        }
      }
    })
    const metric = /^lockstep_http_streams ([1-9])/m
    for (let times = 0; times < 2; times += 1) {
      const now = await rolesOf(cluster)
      await until(
        async () => (await fetch(`http://${now.leader}/metrics`)).text(),
        text => metric.test(text),
      )
      const before = written
      await cluster.kill(now.leaderId)
      await until(
        () => written,
        count => count > before + 1000,
      )
      cluster.restart(now.leaderId)
      await cluster.ready()
    }
    stop.abort()
    await Promise.all(workers)
    assert.deepEqual(errors, [])
    const rows = [...(await readRows(cluster.addresses)).values()]
    for (const own of rows)
      assert.deepEqual(
        own,
        Array.from({ length: own.length }, (_, n) => n),
      )
    assert.equal(
      rows.reduce((sum, own) => sum + own.length, 0),
      written,
    )
  })
})
