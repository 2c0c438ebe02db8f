import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Registry, Histogram, Counter } from 'prom-client'
import { Distribution, MetricsText } from '../../src/cli/metrics-text.ts'

test('numbers are found by name and labels, whatever stands between them', async () => {
  const registry = new Registry()
  const options = { help: 'a {b} "c" 5', registers: [registry] }
  const requests = new Counter({
    ...options,
    name: 'requests_total',
    labelNames: ['route', 'status'],
  })
  requests.inc({ route: 'execute', status: 200 }, 7)
  requests.inc({ route: 'a "b", c', status: 404 }, 2)
  new Counter({ ...options, name: 'alone' }).inc(3)
  const metrics = new MetricsText(await registry.metrics())

  assert.equal(metrics.value('alone'), 3)
  assert.equal(metrics.value('requests'), undefined)
  assert.equal(
    metrics.sum('requests_total', () => true),
    9,
  )
  assert.equal(
    metrics.sum('requests_total', ({ status }) => status === '404'),
    2,
  )
})

test('a histogram is read as a whole, those of other labels left out', async () => {
  const registry = new Registry()
  const times = new Histogram({
    name: 'seconds',
    help: 'how long',
    labelNames: ['stage'],
    buckets: [1, 2, 4],
    registers: [registry],
  })
  for (const seconds of [0.5, 1.5, 1.6, 3]) times.observe({ stage: 'a' }, seconds)
  times.observe({ stage: 'b' }, 100)
  const metrics = new MetricsText(await registry.metrics())
  const a = metrics.distribution('seconds', { stage: 'a' })
  assert.deepEqual([a.count, a.mean, a.quantile(0.25)], [4, 1.65, 1])
  assert.equal(metrics.distribution('seconds', { stage: 'b' }).quantile(0.5), 4)
  assert.equal(metrics.distribution('seconds', { stage: 'c' }).count, 0)
  assert.equal(metrics.distribution('minutes').mean, undefined)
})

test('a percentile lies in its bucket, as far as its share of it', () => {
  const taken = new Distribution(
    [
      { upTo: 1, count: 0 },
      { upTo: 2, count: 10 },
      { upTo: 4, count: 10 },
      { upTo: 8, count: 20 },
      { upTo: Infinity, count: 21 },
    ],
    99,
  )
  assert.equal(taken.quantile(5 / 21), 1.5)
  assert.equal(taken.quantile(10 / 21), 2)
  assert.equal(taken.quantile(15 / 21), 6)
  assert.equal(taken.quantile(1), 8)
  assert.equal(new Distribution([], 0).quantile(0.5), undefined)
})

test('what was measured between two readings is told without what was before', () => {
  const bounds = [1, 2, Infinity]
  const reading = (counts: number[], sum: number): Distribution =>
    new Distribution(
      bounds.map((upTo, at) => ({ upTo, count: counts[at] ?? 0 })),
      sum,
    )
  const between = reading([5, 9, 9], 12).since(reading([5, 5, 5], 4))
  assert.deepEqual([between.count, between.mean, between.quantile(0.5)], [4, 2, 1.5])
  assert.equal(reading([1, 1, 1], 1).since(reading([1, 1, 1], 1)).mean, undefined)
})
