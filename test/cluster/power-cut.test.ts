import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runPowerCuts } from './power-cut-run.ts'
import { isSound } from './writers.ts'

test('a power cut of all nodes loses only what no disk had flushed', async () => {
  const verdict = await runPowerCuts({ seed: 1, rounds: 3, connections: 8, log: () => {} })

  assert(verdict.rows > 50, `only ${verdict.rows} rows were written`)
  assert(isSound(verdict), JSON.stringify(verdict))
})
