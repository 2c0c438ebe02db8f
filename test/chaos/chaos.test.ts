import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isSound, runChaos } from './run.ts'

// A taste of `npm run chaos`, so that the harness itself stays in order; CI runs it for longer.
test('a cluster that is hurt for some seconds keeps its promises', async t => {
  const report = await runChaos({
    seed: 5,
    minutes: 0.2,
    nodes: 3,
    network: 'proxies',
    only: undefined,
    clients: 2,
    pauseMs: 25,
    keep: undefined,
    log: text => t.diagnostic(text),
  })
  assert(isSound(report), JSON.stringify(report.verdicts.filter(({ complaints }) => complaints[0])))
  assert(report.acknowledged > 50, `only ${report.acknowledged} writes were acknowledged`)
  assert(report.faults.size > 0, 'nothing went wrong')
  assert.equal(report.kept, undefined)
})
