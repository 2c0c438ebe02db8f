/** The page of both engines lists the cases that there are. */
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { test } from 'node:test'
import { ENGINES_PAGE, linesOf, pageWith, SUITES, titlesIn } from './engines-table.ts'

test('docs/internals/engines.md has what the suites have (else run "npm run engines")', () => {
  const page = readFileSync(ENGINES_PAGE, 'utf8')
  for (const path of globSync('test/cluster/*.test.ts')) {
    const name = basename(path)
    // This one only speaks of them.
    if (name === basename(import.meta.filename)) continue
    const titles = titlesIn(readFileSync(path, 'utf8'))
    assert.equal(titles.length > 0, SUITES.includes(name), `${name} in SUITES`)
    const begin = `| \`${name}\` | `
    const rows = page.split('\n').filter(line => line.startsWith(begin))
    // A suite that says so was not run since the table was made anew; all others are whole.
    if (rows[0] === `${begin}not run yet | | |`) continue
    assert.deepEqual(
      rows,
      titles.map(title => `${begin}${title} | passed | passed |`),
    )
  }
})

test('a case has one row with what came of it over each engine, and its parts below', () => {
  const one = { suite: 'reads.test.ts', isPassed: true, inner: [] }
  const lines = linesOf([
    { ...one, name: 'it holds (sqlite)', inner: [{ ...one, name: 'a part' }] },
    { ...one, name: 'it holds (mariadb)', inner: [{ ...one, name: 'a part', isPassed: false }] },
    { ...one, name: 'of one engine only' },
  ])
  const rows = [
    '| `reads.test.ts` | it holds | passed | passed |',
    '| | … a part | passed | FAILED |',
  ]
  assert.deepEqual([...lines], [['reads.test.ts', rows]])
  assert.deepEqual(titlesIn("testEngines('a', x)\ntestEngines(\n  \"b's\", y)"), ['a', "b's"])
})

test('suites that were not run keep their rows', () => {
  const first = new Map([
    ['reads.test.ts', ['| `reads.test.ts` | a | passed | passed |', '| | … b | passed | passed |']],
  ])
  const second = new Map([['digest.test.ts', ['| `digest.test.ts` | c | passed | passed |']]])
  const empty = 'before <!-- engines: made by npm run engines --> <!-- /engines --> after'
  const both = pageWith(pageWith(empty, second), first)
  for (const lines of [...first.values(), ...second.values()]) {
    assert(both.includes(lines.join('\n')), both)
  }
  assert.match(both, /^before (?:.|\n)* after$/)
  assert.equal(pageWith(both, first), both)
  assert.equal(pageWith(both, second), both)
})
