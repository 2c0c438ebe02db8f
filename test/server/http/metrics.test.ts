import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HISTOGRAM_METRICS } from '../../../src/server/http/histograms.ts'
import { PEER_METRICS, SERVER_METRICS, STATUS_METRICS } from '../../../src/server/http/metrics.ts'
import { startTestServer, STATUS } from './fake-service.ts'

test('every metric of the table is given, and no other of our own', async () => {
  await using server = await startTestServer()
  await server.get('/health/live')
  const answer = await fetch(`${server.url}/metrics`)
  const text = await answer.text()

  assert.match(answer.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/)
  const given = [...text.matchAll(/^# TYPE (lockstep_\w+)/gm)].map(match => match[1])
  const tables = [STATUS_METRICS, PEER_METRICS, HISTOGRAM_METRICS, SERVER_METRICS]
  const table = tables.flatMap(rows => Object.keys(rows))
  assert.deepEqual(new Set(given), new Set(table))
  assert.match(text, /^lockstep_term 3$/m)
  assert.match(text, /^lockstep_batches_total 5$/m)
  assert.match(text, /^lockstep_peer_lag_entries\{peer="n3"\} 42$/m)
  assert.match(text, /^lockstep_http_requests_total\{route="live",status="200"\} 1$/m)
  assert.match(text, /^nodejs_eventloop_lag_seconds /m)
})

test('a metric follows the node, and what is unknown is absent', async () => {
  await using server = await startTestServer()
  const read = async (name: string): Promise<string | undefined> => {
    const text = await (await fetch(`${server.url}/metrics`)).text()
    return text.match(new RegExp(`^${name} (.*)$`, 'm'))?.[1]
  }
  assert.equal(await read('lockstep_lag_ms'), '0')
  assert.equal(await read('lockstep_is_ready'), '1')

  server.service.statusNow = { ...STATUS, lagMs: undefined, engine: 'down' }
  assert.equal(await read('lockstep_lag_ms'), undefined)
  assert.equal(await read('lockstep_is_ready'), '0')
  const counters = { ...STATUS.counters, batches: 8 }
  server.service.statusNow = { ...STATUS, counters }
  assert.equal(await read('lockstep_batches_total'), '8')
})

test('a histogram of the replica is given in seconds, its buckets adding up', async () => {
  await using server = await startTestServer()
  const { stages } = STATUS
  stages.flush.observe(2.5, 3)
  stages.flush.observe(0.004)
  stages.flush.observe(20_000)
  const text = await (await fetch(`${server.url}/metrics`)).text()
  const read = (name: string): string | undefined =>
    text
      .split('\n')
      .find(line => line.startsWith(`${name} `))
      ?.slice(name.length + 1)

  const name = 'lockstep_write_stage_seconds'
  assert.equal(read(`# TYPE ${name}`), 'histogram')
  assert.equal(read(`${name}_bucket{le="0.00001",stage="flush"}`), '1')
  assert.equal(read(`${name}_bucket{le="0.002",stage="flush"}`), '1')
  assert.equal(read(`${name}_bucket{le="0.003",stage="flush"}`), '4')
  assert.equal(read(`${name}_bucket{le="10",stage="flush"}`), '4')
  assert.equal(read(`${name}_bucket{le="+Inf",stage="flush"}`), '5')
  assert.equal(read(`${name}_count{stage="flush"}`), '5')
  assert.equal(Number(read(`${name}_sum{stage="flush"}`)).toFixed(6), '20.007504')
  assert.equal(read(`${name}_count{stage="quorum"}`), '0')
  assert.equal(read('lockstep_log_flush_seconds_count'), '0')
})
