/** The page of both engines lists the cases that there are. */
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { test } from 'node:test'
import { ENGINES_PAGE, pageWith, SUITES, tableOf, titlesIn } from './engines-table.ts'

test('docs/internals/engines.md lists every case (else run "npm run engines")', () => {
  const page = readFileSync(ENGINES_PAGE, 'utf8')
  const suites: readonly string[] = SUITES
  for (const path of globSync('test/cluster/*.test.ts')) {
    const titles = titlesIn(readFileSync(path, 'utf8'))
    assert.equal(titles.length > 0, suites.includes(basename(path)), `${path} in SUITES`)
    for (const title of titles) {
      assert(page.includes(`| \`${basename(path)}\` | ${title} | `), `${basename(path)}: ${title}`)
    }
  }
})

test('a case has one row with what came of it over each engine, and its parts below', () => {
  const file = 'test/cluster/x.test.ts'
  const one = { file, isPassed: true, inner: [] }
  const table = tableOf([
    { ...one, name: 'it holds (sqlite)', inner: [{ ...one, name: 'a part' }] },
    { ...one, name: 'it holds (mariadb)', inner: [{ ...one, name: 'a part', isPassed: false }] },
    { ...one, name: 'of one engine only' },
  ])
  assert.deepEqual(table.split('\n').slice(2), [
    '| `x.test.ts` | it holds | passed | passed |',
    '| | … a part | passed | FAILED |',
  ])
  const page = pageWith(readFileSync(ENGINES_PAGE, 'utf8'), table)
  assert.equal(pageWith(page, table), page)
  assert.deepEqual(titlesIn("testEngines('a', x)\ntestEngines(\n  \"b's\", y)"), ['a', "b's"])
})
