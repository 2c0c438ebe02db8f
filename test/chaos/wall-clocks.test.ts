import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { makeDirectory } from '../cluster/kit.ts'
import { findWallClocks } from './wall-clocks.ts'

const DAY_MS = 86_400_000
const NEAR_MS = 60_000
/** Says again and again by how much its clock is wrong, and how long its timers took. */
const PROGRAM = `
  let before = performance.now()
  setInterval(() => {
    const now = performance.now()
    console.log(JSON.stringify({ wallMs: Date.now(), elapsedMs: now - before }))
    before = now
  }, 20)`

for (const clocks of findWallClocks()) {
  test(`the wall clock of a process is moved by ${clocks.name}, and no other`, async t => {
    const file = join(makeDirectory(t), 'clock')
    clocks.set(file, 0)
    const imports = clocks.imports.flatMap(module => ['--import', module])
    const env = { ...process.env, ...clocks.environment(file) }
    const child = spawn(process.execPath, [...imports, '--eval', PROGRAM], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env,
    })
    t.after(() => child.kill('SIGKILL'))
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    for (const offsetMs of [0, DAY_MS, -DAY_MS, 5500, 0]) {
      clocks.set(file, offsetMs)
      for (;;) {
        const { value } = await lines.next()
        const { wallMs, elapsedMs } = JSON.parse(String(value)) as Record<string, number>
        assert(wallMs !== undefined && elapsedMs !== undefined)
        assert(elapsedMs >= 0 && elapsedMs < NEAR_MS, `a timer took ${elapsedMs} ms`)
        if (Math.abs(wallMs - Date.now() - offsetMs) < 2000) break
      }
    }
    child.kill('SIGKILL')
    await once(child, 'exit')
    clocks.ended(child.pid ?? 0)
    assert(!existsSync(`/dev/shm/faketime_shm_${child.pid}`))
  })
}
