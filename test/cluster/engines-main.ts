/**
 * `npm run engines -- [SUITE...]`: runs every test of real clusters that is one for all engines, or
 * those of some suites, and writes what came of each case into docs/internals/engines.md.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import { run } from 'node:test'
import { ENGINES_PAGE, linesOf, pageWith, SUITES, type SeenCase } from './engines-table.ts'

const CASE_MS_MAX = 400_000

const names = process.argv.length > 2 ? process.argv.slice(2) : SUITES
const files = names.map(name => resolve('test/cluster', basename(name)))
const failures: string[] = []
const seen: SeenCase[] = []
/** A case is reported after those within it. */
const within = new Map<string, SeenCase[]>()

for await (const { type, data } of run({ files, concurrency: 1, timeout: CASE_MS_MAX })) {
  if (type !== 'test:pass' && type !== 'test:fail') continue
  const { name, nesting, file = '', skip } = data
  const isPassed = type === 'test:pass' && skip === undefined
  console.log(`${isPassed ? 'passed' : 'NOT PASSED'}: ${'  '.repeat(nesting)}${name}`)
  if (!isPassed) failures.push(name)
  const inner = within.get(file) ?? []
  within.set(file, inner)
  if (nesting > 0) inner.push({ file, name, isPassed, inner: [] })
  else seen.push({ file, name, isPassed, inner: inner.splice(0) })
}

if (failures.length > 0) {
  console.log(`\nnothing is written, since these did not pass:\n${failures.join('\n')}`)
  process.exitCode = 1
} else {
  writeFileSync(ENGINES_PAGE, pageWith(readFileSync(ENGINES_PAGE, 'utf8'), linesOf(seen)))
  console.log(`\n${seen.length} cases passed, and stand in ${ENGINES_PAGE}`)
}
