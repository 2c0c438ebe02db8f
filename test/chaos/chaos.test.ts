import assert from 'node:assert/strict'
import { existsSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { createClient } from '../../src/client/client.ts'
import { always } from './fault.ts'
import type { FaultKind } from './fault.ts'
import { faultsNamed } from './nemesis.ts'
import { isSound, runChaos } from './run.ts'
import type { ChaosOptions } from './run.ts'

const SHORT: Omit<ChaosOptions, 'log' | 'kinds'> = {
  seed: 5,
  minutes: 0.2,
  nodes: 3,
  engine: 'sqlite',
  network: 'proxies',
  clients: 2,
  pauseMs: 25,
  keep: undefined,
}

// A taste of `npm run chaos`, so that the harness itself stays in order; CI runs it for longer.
test('a cluster that is hurt for some seconds keeps its promises', async t => {
  const log = (text: string): void => t.diagnostic(text)
  const report = await runChaos({ ...SHORT, kinds: faultsNamed(undefined), log })
  assert(isSound(report), JSON.stringify(report.verdicts.filter(({ complaints }) => complaints[0])))
  assert(report.acknowledged > 50, `only ${report.acknowledged} writes were acknowledged`)
  assert(report.faults.size > 0, 'nothing went wrong')
  assert.equal(report.kept, undefined)
})

/** Takes back what a client was told, as a database that loses writes would. */
const loss: FaultKind = {
  name: 'loss',
  weight: 1,
  whyNot: always,
  async begin({ nodes }) {
    const client = createClient({ nodes: nodes.addresses })
    const sql = 'DELETE FROM entries WHERE rowid = (SELECT min(rowid) FROM entries)'
    await client.execute(sql, [], { database: 'ledger' })
    return { what: 'deleted a row', undo: async () => {} }
  },
}

test('a lost row is found, and all that could tell why is kept', async t => {
  const log = (text: string): void => t.diagnostic(text)
  const report = await runChaos({ ...SHORT, minutes: 0.05, kinds: [loss], log })
  const { kept } = report
  assert(kept !== undefined)
  t.after(() => rmSync(kept, { recursive: true }))
  assert(!isSound(report))
  const ledger = report.verdicts.find(({ checker }) => checker === 'rows exactly once')
  assert.match(ledger?.complaints[0] ?? '', /^lost: \d+ was acknowledged/)
  const history = readFileSync(join(kept, 'history.jsonl'), 'utf8').trim().split('\n')
  const lines = history.map(line => JSON.parse(line) as Record<string, unknown>)
  assert(lines.some(({ nemesis }) => /deleted a row/.test(String(nemesis))))
  assert(lines.some(({ workload, fate }) => workload === 'ledger' && fate === 'ok'))
  for (const nodeId of ['n1', 'n2', 'n3']) {
    assert.match(readFileSync(join(kept, `${nodeId}.log`), 'utf8'), /the node runs/)
    // On a small file system of its own, which is gone, it was copied from there.
    const data: string | undefined = [
      join(kept, `${nodeId}-data`),
      join(kept, nodeId, 'data'),
    ].find(existsSync)
    assert(data !== undefined && readdirSync(data).includes('node.json'), `no data of ${nodeId}`)
  }
})
