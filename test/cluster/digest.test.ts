/** Rows that change behind a node's back, and that no statement ever touches again. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { must } from '../../src/base/assert.ts'
import type { LocalCluster, LocalNode } from '../../src/cli/local-cluster.ts'
import type { Dialect } from './dialects.ts'
import { type EngineCluster, testEngines } from './engines.ts'
import { get, lockstep, post, rolesOf, until } from './kit.ts'

const OPTIONS = ['--digest-interval-ms', '1000']
const HEAL_MS = 40_000

interface Status {
  readonly state: string
  readonly counters: Readonly<Record<string, number>>
  readonly divergence: Readonly<Record<string, unknown>> | null
  readonly dispute: unknown
  readonly dataDigest: { readonly verifiedIndex: number; readonly durationMs: number }
}

async function statusOf(address: string): Promise<Status> {
  return (await get(address, '/status')).json as unknown as Status
}

async function fill(leader: string, { key }: Dialect): Promise<void> {
  for (const database of ['app', 'books']) {
    await post(leader, '/execute', { action: 'create_db', database })
    for (const sql of [
      'CREATE TABLE still (id INTEGER PRIMARY KEY, text TEXT)',
      "INSERT INTO still VALUES (1, 'one'), (2, 'two'), (3, 'three')",
      `CREATE TABLE busy (id ${key}, n INTEGER)`,
    ]) {
      const { status } = await post(leader, '/execute', { database, sql })
      assert.equal(status, 200)
    }
  }
}

/** Changes a row of `books` at a node that doesn't lead, and tells which. */
async function rot({ cluster, changeBehind }: EngineCluster): Promise<LocalNode> {
  const leaderId = await cluster.ready()
  const node = cluster.nodes.find(({ nodeId }) => nodeId !== leaderId)
  assert(node !== undefined)
  await changeBehind(node.nodeId, 'books', "UPDATE still SET text = 'tvo' WHERE id = 2")
  return node
}

async function assertSame(cluster: LocalCluster): Promise<void> {
  for (const database of ['app', 'books']) {
    const answers = await Promise.all(
      cluster.addresses.map(address => get(address, `/digest?database=${database}`)),
    )
    assert.equal(new Set(answers.map(({ json }) => json['digest'])).size, 1)
  }
}

testEngines(
  'a row that nobody touches is found wrong and healed, while clients write',
  async (t, engine) => {
    const started = await engine.start(t, { options: OPTIONS })
    const { cluster } = started
    const { leader } = await rolesOf(cluster)
    await fill(leader, engine.dialect)
    for (const address of cluster.addresses) {
      await until(
        () => statusOf(address),
        ({ dataDigest }) => dataDigest.verifiedIndex > 0,
      )
    }
    const odd = await rot(started)

    const address = (await rolesOf(cluster)).leader
    const over = new AbortController()
    const writing = (async () => {
      for (let n = 0; !over.signal.aborted; n++) {
        const sql = `INSERT INTO busy (n) VALUES (${n})`
        const { status, json } = await post(address, '/execute', { database: 'app', sql })
        assert.equal(status, 200, JSON.stringify(json))
      }
    })()
    const healed = await until(
      () => statusOf(odd.address),
      ({ counters, state }) => (counters['heals'] ?? 0) > 0 && state === 'ready',
      HEAL_MS,
    )
    over.abort()
    await writing
    assert.deepEqual([healed.divergence, healed.counters['divergences']], [null, 1])
    for (const { nodeId, address: other } of cluster.nodes) {
      if (nodeId === odd.nodeId) continue
      assert.equal((await statusOf(other)).counters['divergences'], 0, `${nodeId} was condemned`)
    }
    await assertSame(cluster)
    const log = readFileSync(join(odd.directory, '..', `${odd.nodeId}.log`), 'utf8')
    const line = log.split('\n').find(each => each.includes('this replica is wrong'))
    for (const fact of ['"database":"books"', 'data of digest']) {
      assert(line?.includes(fact), `${fact} is not in ${line}`)
    }
    // What it has now is what the others have, and says so.
    await until(
      () => statusOf(odd.address),
      ({ dataDigest }) => dataDigest.verifiedIndex > 0,
    )
    const metrics = await (await fetch(`http://${odd.address}/metrics`)).text()
    assert.match(metrics, /^lockstep_digests_total [1-9]/m)
    assert.match(metrics, /^lockstep_digest_verified_index [1-9]/m)
  },
)

testEngines(
  'of two nodes that differ none writes until an operator trusts one',
  async (t, engine) => {
    // No digest is taken before the row is changed: what two nodes once agreed on is known to both,
    // and whoever takes a digest of that entry again, when it has started again, knows who is wrong.
    let options = ['--digest-interval-ms', '0']
    const started = await engine.start(t, { nodes: 2, nodeOptions: () => options })
    const { cluster } = started
    await fill((await rolesOf(cluster)).leader, engine.dialect)
    const odd = await rot(started)
    const sound = must(cluster.nodes.find(({ nodeId }) => nodeId !== odd.nodeId))
    options = OPTIONS
    for (const { nodeId } of cluster.nodes) {
      await cluster.kill(nodeId, 'SIGTERM')
      cluster.restart(nodeId)
    }
    const { leader } = await rolesOf(cluster)

    const insert = { database: 'app', sql: 'INSERT INTO busy (n) VALUES (1)' }
    await until(
      () => post(leader, '/execute', insert),
      ({ json }) => json.error?.code === 'DISPUTED',
      HEAL_MS,
    )
    const { dispute } = await statusOf(leader)
    assert.match(JSON.stringify(dispute), /"isTie":true,"subject":"data"/)
    assert.equal((await statusOf(odd.address)).counters['heals'], 0)

    const { code, output } = await lockstep(['trust', sound.nodeId, '--nodes', leader])
    assert.equal(code, 0, output)
    await until(
      () => statusOf(odd.address),
      ({ counters, state }) => (counters['heals'] ?? 0) > 0 && state === 'ready',
      HEAL_MS,
    )
    await until(
      () => post(leader, '/execute', insert),
      ({ status }) => status === 200,
    )
    await assertSame(cluster)
    const read = { database: 'books', sql: 'SELECT text FROM still WHERE id = 2' }
    assert.deepEqual((await post(odd.address, '/query', read)).json.results?.[0]?.rows, [['two']])
  },
)
