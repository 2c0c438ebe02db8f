/** The list of mutations stays in step with the product it mutates. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

import { MUTATIONS } from '../../sim/mutations.ts'

test('every mutation fits its file exactly once', () => {
  const wrong: string[] = []
  for (const { name, file, find } of MUTATIONS) {
    const count = readFileSync(file, 'utf8').split(find).length - 1
    if (count !== 1) wrong.push(`"${name}" fits ${file} ${count} times`)
  }

  assert.deepEqual(wrong, [])
})

test('no two mutations have one name', () => {
  const names = MUTATIONS.map(({ name }) => name)

  assert.equal(new Set(names).size, names.length)
})
