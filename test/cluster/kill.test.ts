import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runKills } from './kill-run.ts'
import { isSound } from './writers.ts'

test('a leader killed with SIGKILL takes no acknowledged write with it, and the others go on', async () => {
  const { ledger, verdict, gapsMs } = await runKills({
    nodes: 3,
    connections: 8,
    seconds: 16,
    killEverySeconds: 8,
    downSeconds: 3,
    log: () => {},
  })

  assert(ledger.acknowledged.size > 100, `only ${ledger.acknowledged.size} were acknowledged`)
  assert(isSound(verdict), JSON.stringify(verdict))
  assert.equal(gapsMs.length, 2)
  // Service came back before the next kill, or there would be no acknowledgement after the first.
  assert(gapsMs.every(gap => gap > 0))
})
