import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MetricsText } from '../../src/cli/metrics-text.ts'
import { type Look, toLine } from '../../src/cli/node-line.ts'
import { topLines } from '../../src/cli/top-lines.ts'

const MEMBER = { nodeId: 'n1', address: '127.0.0.1:7070', isVoter: true }

function look(atMs: number, values: Readonly<Record<string, number>>): Look {
  const all = {
    process_start_time_seconds: 5,
    lockstep_is_leader: 1,
    lockstep_has_leader: 1,
    lockstep_commit_index: 10,
    lockstep_applied_index: 8,
    lockstep_quorum_apply_lag_ms: 3,
    lockstep_queued_requests: 2,
    lockstep_held_requests: 1,
    ...values,
  }
  const lines = Object.entries(all).map(([name, value]) => `${name} ${value}`)
  return { atMs, metrics: new MetricsText(lines.join('\n')) }
}

/** Buckets of a stage up to 1 ms, 2 ms, and all. */
function stage(
  name: string,
  counts: [number, number, number],
  sum: number,
): Record<string, number> {
  const base = 'lockstep_write_stage_seconds'
  const [one, two, all] = counts
  return {
    [`${base}_bucket{le="0.001",stage="${name}"}`]: one,
    [`${base}_bucket{le="0.002",stage="${name}"}`]: two,
    [`${base}_bucket{le="+Inf",stage="${name}"}`]: all,
    [`${base}_sum{stage="${name}"}`]: sum,
  }
}

test('a line tells what a node did between two looks, and how it stands', () => {
  const before = look(1000, {
    lockstep_batches_total: 100,
    lockstep_batch_requests_total: 1000,
    'lockstep_http_requests_total{route="execute",status="503"}': 7,
    ...stage('flush', [50, 100, 100], 0.1),
    ...stage('commit', [1, 1, 1], 0.001),
  })
  const now = look(3000, {
    lockstep_batches_total: 110,
    lockstep_batch_requests_total: 1250,
    'lockstep_http_requests_total{route="execute",status="503"}': 10,
    'lockstep_http_requests_total{route="query",status="400"}': 1,
    'lockstep_http_requests_total{route="query",status="200"}': 90,
    ...stage('flush', [50, 300, 300], 0.4),
    ...stage('commit', [1, 1, 1], 0.001),
  })
  assert.deepEqual(toLine(MEMBER, before, now), {
    node: 'n1',
    address: '127.0.0.1:7070',
    role: 'leader',
    lagMs: 3,
    behindEntries: 2,
    queuedRequests: 3,
    writesPerSecond: 125,
    requestsPerBatch: 25,
    stages: { flush: { count: 200, meanMs: 1.5, p50Ms: 1.5, p99Ms: 1.99 } },
    errorsPerSecond: 2,
  })
})

test('of a node that was away, or is another process by now, nothing is counted yet', () => {
  const now = look(3000, { lockstep_batch_requests_total: 1250 })
  const earlier = look(1000, { process_start_time_seconds: 4 })
  for (const before of [undefined, new Error('refused'), earlier]) {
    const line = toLine(MEMBER, before, now)
    assert.equal(line.writesPerSecond, undefined)
    assert.match(line.error ?? '', /just begun/)
    assert.equal(line.behindEntries, 2)
  }
  const away = toLine(MEMBER, now, new Error('connect ECONNREFUSED'))
  assert.deepEqual([away.role, away.error], ['away', 'connect ECONNREFUSED'])
})

test('a role is told as the node sees it', () => {
  const roleOf = (values: Readonly<Record<string, number>>, isVoter = true): string =>
    toLine({ ...MEMBER, isVoter }, undefined, look(0, values)).role
  assert.equal(roleOf({ lockstep_is_leader: 0 }), 'follower')
  assert.equal(roleOf({ lockstep_is_leader: 0 }, false), 'learner')
  assert.equal(roleOf({ lockstep_is_leader: 0, lockstep_has_leader: 0 }), 'lone')
})

test('lines stand under each other, and under a head that comes again now and then', () => {
  const lines = [
    toLine(MEMBER, look(0, {}), look(1000, stage('flush', [0, 10, 10], 0.015))),
    toLine(
      { ...MEMBER, nodeId: 'n2' },
      undefined,
      new Error('connect ECONNREFUSED 127.0.0.1:7071'),
    ),
  ]
  const at = new Date(2026, 0, 2, 3, 4, 5)
  const [title, head = '', leader = '', away = '', ...more] = topLines(lines, at, 0).split('\n')
  assert.match(title ?? '', /p50\/p99/)
  assert.deepEqual(more, [])
  assert.match(leader, /^03:04:05 +n1 +leader /)
  assert.equal(leader.indexOf('1.5/2.0'), head.indexOf('flush'))
  assert.match(away, /^03:04:05 +n2 +away +connect ECONNREFUSED 127\.0\.0\.1:7071/)
  assert.equal(topLines(lines, at, 1).split('\n').length, 2)
  assert.equal(topLines(lines, at, 10).split('\n').length, 4)
})
