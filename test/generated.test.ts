/** The pages that are made from tables say what their tables say. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { referencePages } from '../src/cli/reference.ts'

for (const [name, text] of Object.entries(referencePages())) {
  test(`docs/reference/${name} is up to date (else run "npm run docs")`, () => {
    const page = readFileSync(new URL(`../docs/reference/${name}`, import.meta.url), 'utf8')
    assert.equal(page, text)
  })
}
