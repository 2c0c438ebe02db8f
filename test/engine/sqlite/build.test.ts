import assert from 'node:assert/strict'
import { test } from 'node:test'
import { engineBuild } from '../../../src/engine/sqlite/build.ts'

test('the build names SQLite, the processor and two digests, and is the same each time', () => {
  const build = engineBuild()
  assert.match(build, /^sqlite 3\.\d+\.\d+ [0-9a-f]{12} \w+ [0-9a-f]{16} [0-9a-f]{16}$/)
  assert.equal(engineBuild(), build)
})
