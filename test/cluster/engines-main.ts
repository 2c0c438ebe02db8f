/**
 * `npm run engines -- [SUITE...]`: runs every test of real clusters that is one for all engines, or
 * those of some suites, and writes what came of each case into docs/internals/engines.md.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import { run } from 'node:test'
import { inspect } from 'node:util'
import { ENGINES_PAGE, linesOf, pageWith, SUITES, type SeenCase } from './engines-table.ts'

const CASE_MS_MAX = 400_000

const names = process.argv.length > 2 ? process.argv.slice(2).map(name => basename(name)) : SUITES
const failures: string[] = []
const seen: SeenCase[] = []

// One at a time: where a case was registered says nothing of the suite that it belongs to.
for (const suite of names) {
  const files = [resolve('test/cluster', suite)]
  /** A case is reported after those within it. */
  const inner: SeenCase[] = []
  for await (const { type, data } of run({ files, timeout: CASE_MS_MAX })) {
    if (type !== 'test:pass' && type !== 'test:fail') continue
    const { name, nesting, skip } = data
    const isPassed = type === 'test:pass' && skip === undefined
    console.log(`${isPassed ? 'passed' : 'NOT PASSED'}: ${'  '.repeat(nesting)}${name}`)
    if (!isPassed) {
      failures.push(name)
      if (type === 'test:fail') console.log(inspect(data.details.error))
    }
    if (nesting > 0) inner.push({ suite, name, isPassed, inner: [] })
    else seen.push({ suite, name, isPassed, inner: inner.splice(0) })
  }
}

if (failures.length > 0) {
  console.log(`\nnothing is written, since these did not pass:\n${failures.join('\n')}`)
  process.exitCode = 1
} else {
  writeFileSync(ENGINES_PAGE, pageWith(readFileSync(ENGINES_PAGE, 'utf8'), linesOf(seen)))
  console.log(`\n${seen.length} cases passed, and stand in ${ENGINES_PAGE}`)
}
