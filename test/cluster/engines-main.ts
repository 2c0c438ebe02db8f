/**
 * `npm run engines`: runs every test of real clusters that is one for all engines, and writes what
 * came of each case with each engine into docs/internals/engines.md.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { run } from 'node:test'
import { must } from '../../src/base/assert.ts'
import { ENGINES_PAGE, pageWith, SUITES, type SeenCase, tableOf } from './engines-table.ts'

const files = SUITES.map(name => resolve('test/cluster', name))
const failures: string[] = []
/** As they are reported: a case after those within it. */
const seen: SeenCase[] = []
const within = new Map<string, SeenCase[]>()

for await (const { type, data } of run({ files, concurrency: 1, timeout: 400_000 })) {
  if (type !== 'test:pass' && type !== 'test:fail') continue
  const { name, nesting, file = '', skip } = data
  const isPassed = type === 'test:pass' && skip === undefined
  const inner = within.get(file) ?? []
  within.set(file, inner)
  const one: SeenCase = { file, name, isPassed, inner: [] }
  if (!isPassed) failures.push(name)
  console.log(`${isPassed ? 'passed' : 'NOT PASSED'}: ${'  '.repeat(nesting)}${name}`)
  if (nesting > 0) inner.push(one)
  else {
    seen.push({ ...one, inner: inner.splice(0) })
  }
}

if (failures.length > 0) {
  console.log(`\nnot written, since these did not pass:\n${failures.join('\n')}`)
  process.exitCode = 1
} else {
  const page = must(readFileSync(ENGINES_PAGE, 'utf8'))
  writeFileSync(ENGINES_PAGE, pageWith(page, tableOf(seen)))
  console.log(`\n${seen.length} cases passed; ${ENGINES_PAGE} is written`)
}
