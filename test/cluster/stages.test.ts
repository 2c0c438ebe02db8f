import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MetricsText } from '../../src/cli/metrics-text.ts'
import type { NodeLine, StageTimes } from '../../src/cli/node-line.ts'
import { WRITE_STAGES, type WriteStage } from '../../src/replica/write-stages.ts'
import { lockstep, post, rolesOf, startCluster } from './kit.ts'

const STAGES = Object.keys(WRITE_STAGES) as WriteStage[]
const WRITES = 400
const WRITERS = 16

async function scrape(address: string): Promise<MetricsText> {
  return new MetricsText(await (await fetch(`http://${address}/metrics`)).text())
}

/** Writes from so many clients at once, each one after the other, until `isOver` says so. */
async function write(address: string, isOver: (count: number) => boolean): Promise<void> {
  let count = 0
  const writers = Array.from({ length: WRITERS }, async () => {
    while (!isOver(count)) {
      count += 1
      const sql = 'INSERT INTO t (a) VALUES (?)'
      const answer = await post(address, '/execute', { database: 'd', sql, params: [count] })
      assert.equal(answer.status, 200)
    }
  })
  await Promise.all(writers)
}

test('the stages of writes add up to what their clients waited for, and top shows them', async t => {
  const cluster = await startCluster(t)
  const { leader, follower } = await rolesOf(cluster)
  await post(leader, '/execute', { action: 'create_db', database: 'd' })
  const sql = 'CREATE TABLE t (id INTEGER PRIMARY KEY, a)'
  assert.equal((await post(leader, '/execute', { database: 'd', sql })).status, 200)

  const seen = async (
    address: string,
    work: () => Promise<void>,
  ): Promise<{ counts: Partial<Record<WriteStage, number>>; share: number }> => {
    const before = await scrape(address)
    await work()
    const after = await scrape(address)
    const risen = (name: string, labels: Readonly<Record<string, string>>) =>
      after.distribution(name, labels).since(before.distribution(name, labels))
    const stages = STAGES.map(stage => {
      const { count, mean = 0 } = risen('lockstep_write_stage_seconds', { stage })
      return { stage, count, seconds: count * mean }
    }).filter(({ count }) => count > 0)
    const whole = risen('lockstep_http_request_duration_seconds', { route: 'execute' })
    const seconds = stages.reduce((sum, stage) => sum + stage.seconds, 0)
    return {
      counts: Object.fromEntries(stages.map(({ stage, count }) => [stage, count])),
      share: seconds / (whole.count * (whole.mean ?? 0)),
    }
  }

  await t.test('on the leader', async () => {
    const { counts, share } = await seen(leader, () => write(leader, count => count >= WRITES))
    const { forward: _, ...rest } = WRITE_STAGES
    assert.deepEqual(Object.keys(counts), Object.keys(rest))
    assert.deepEqual([...new Set(Object.values(counts))], [WRITES])
    assert(share > 0.9 && share < 1.01, `the stages are ${share} of the whole`)
  })

  await t.test('on a node that passes them on', async () => {
    const { counts, share } = await seen(follower, () => write(follower, count => count >= WRITES))
    assert.deepEqual(counts, { receive: WRITES, forward: WRITES, answer: WRITES })
    assert(share > 0.9 && share < 1.01, `the stages are ${share} of the whole`)
  })

  await t.test('lockstep top --once --json has a line for each node', async () => {
    let isOver = false
    const load = write(leader, () => isOver)
    const words = ['top', '--nodes', follower, '--once', '--interval-ms', '500']
    const asJson = await lockstep([...words, '--json'])
    const asText = await lockstep(words)
    isOver = true
    await load

    assert.equal(asJson.code, 0, asJson.output)
    const look = JSON.parse(asJson.output) as { intervalMs: number; nodes: NodeLine[] }
    assert.equal(look.intervalMs, 500)
    assert.deepEqual(look.nodes.map(({ address }) => address).sort(), [...cluster.addresses].sort())
    const first = look.nodes.find(({ role }) => role === 'leader')
    assert.equal(first?.address, leader)
    assert((first.writesPerSecond ?? 0) > 10, asJson.output)
    assert((first.requestsPerBatch ?? 0) > 1, asJson.output)
    for (const stage of STAGES.filter(name => name !== 'forward')) {
      const taken: StageTimes | undefined = first.stages[stage]
      assert(taken !== undefined && taken.count > 0, `${stage}: ${asJson.output}`)
      assert(taken.p50Ms >= 0 && taken.p99Ms >= taken.p50Ms, `${stage}: ${asJson.output}`)
    }
    for (const line of look.nodes) {
      assert((line.logFlush?.p50Ms ?? 0) > 0, asJson.output)
      assert.equal(typeof line.behindEntries, 'number')
      assert.equal(line.errorsPerSecond, 0)
    }

    assert.equal(asText.code, 0, asText.output)
    const rows = asText.output.trimEnd().split('\n').slice(1)
    assert.match(rows[0] ?? '', /^time +node +role +writes\/s +req\/batch +receive +forward +wait /)
    assert.deepEqual(
      rows
        .slice(1)
        .map(row => row.split(/ +/)[2] ?? '')
        .sort(),
      ['follower', 'follower', 'leader'],
    )
  })

  await t.test('a look at a node that is gone says so, and goes on', async () => {
    const gone = cluster.nodes.find(({ address }) => address !== leader && address !== follower)
    assert(gone !== undefined)
    await cluster.kill(gone.nodeId)
    const words = ['top', '--nodes', leader, '--once', '--interval-ms', '100', '--json']
    const { code, output } = await lockstep(words)
    assert.equal(code, 0, output)
    const { nodes } = JSON.parse(output) as { nodes: NodeLine[] }
    const line = nodes.find(({ node }) => node === gone.nodeId)
    assert.equal(line?.role, 'away')
    assert.match(line.error ?? '', /ECONNREFUSED/)
    const refused = await lockstep(['top', '--nodes', leader, '--interval-ms', '5'])
    assert.deepEqual(
      [refused.code, refused.output],
      [1, 'lockstep: --interval-ms must be a whole number from 100 to 3600000\n'],
    )
  })
})
