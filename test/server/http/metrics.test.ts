import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PEER_METRICS, SERVER_METRICS, STATUS_METRICS } from '../../../src/server/http/metrics.ts'
import { startTestServer, STATUS } from './fake-service.ts'

test('every metric of the table is given, and no other of our own', async () => {
  await using server = await startTestServer()
  await server.get('/health/live')
  const answer = await fetch(`${server.url}/metrics`)
  const text = await answer.text()

  assert.match(answer.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/)
  const given = [...text.matchAll(/^# TYPE (lockstep_\w+)/gm)].map(match => match[1])
  const table = [STATUS_METRICS, PEER_METRICS, SERVER_METRICS].flatMap(rows => Object.keys(rows))
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
