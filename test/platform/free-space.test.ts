import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { SystemClock } from '../../src/platform/clock.ts'
import { FreeSpace } from '../../src/platform/free-space.ts'
import { until } from '../cluster/kit.ts'

test('what is free is known at once, and looked at again until it is stopped', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'free-space-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  const space = new FreeSpace(directory, new SystemClock())
  t.after(() => space.stop())
  assert.equal(space.freeBytes, undefined)
  space.start()
  const { bavail, bsize, blocks } = statfsSync(directory)
  assert(space.freeBytes !== undefined)
  // Others use the same disk meanwhile.
  assert(Math.abs(space.freeBytes - bavail * bsize) < (blocks * bsize) / 10)

  // A directory that is gone can't be asked: so it is seen that it was.
  rmSync(directory, { recursive: true })
  await until(
    () => space.freeBytes,
    freeBytes => freeBytes === undefined,
  )
})
