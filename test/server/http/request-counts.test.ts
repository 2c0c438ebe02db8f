import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RequestCounts } from '../../../src/server/http/request-counts.ts'
import { startTestServer } from './fake-service.ts'

test('requests are counted by route and status, and their durations by route', () => {
  const counts = new RequestCounts()
  counts.add('execute', 200, 1)
  counts.add('execute', 200, 2)
  counts.add('execute', 409, 4)
  counts.add('query', 200, 8)
  assert.deepEqual(
    [...counts.entries()],
    [
      ['execute', 200, 2],
      ['execute', 409, 1],
      ['query', 200, 1],
    ],
  )
  const { execute, query } = counts.durations
  assert.deepEqual([execute?.count, execute?.sumMs, query?.count, query?.sumMs], [3, 7, 1, 8])
})

test('a scrape gives what was counted so far, each time', async () => {
  await using server = await startTestServer()
  const scrape = async (): Promise<string> => (await fetch(`${server.url}/metrics`)).text()
  const write = { database: 'main', sql: 'INSERT INTO t VALUES (1)' }
  for (let count = 1; count <= 2; count += 1) {
    await server.post('/execute', write)
    const text = await scrape()
    const name = 'lockstep_http_request_duration_seconds'
    assert.match(
      text,
      new RegExp(`^lockstep_http_requests_total{.*"execute".*"200"} ${count}$`, 'm'),
    )
    assert.match(text, new RegExp(`^${name}_count{route="execute"} ${count}$`, 'm'))
    assert.match(text, new RegExp(`^${name}_bucket{le="\\+Inf",route="execute"} ${count}$`, 'm'))
  }
  assert.match(await scrape(), /^lockstep_http_requests_total\{.*"metrics".*"200"\} 2$/m)
})
