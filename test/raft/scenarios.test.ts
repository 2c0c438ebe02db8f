/**
 * Scenario scripts with their full trace: our own, and those of etcd-io/raft in scenarios/etcd/. A
 * changed trace is rewritten with `npm run replay -- --rewrite DIR` and read line by line.
 */
import assert from 'node:assert/strict'
import { relative } from 'node:path'
import { test } from 'node:test'
import { parseScript } from '../../sim/replay/data-driven.ts'
import { describeMismatch, findScripts, runScript } from '../../sim/replay/replay.ts'

const directory = `${import.meta.dirname}/scenarios`

for (const path of findScripts(directory)) {
  test(`what happens in ${relative(directory, path)} is as written there`, () => {
    const { mismatches, directiveCount } = runScript(path)

    assert.equal(mismatches.map(describeMismatch).join('\n'), '')
    assert(directiveCount > 0)
  })
}

test('a script is read into commands, arguments, input and what is expected', () => {
  const text = [
    '# A comment.',
    'do 1 flag=true list=(1, 2,3) \\',
    '  more=x',
    'some input',
    '----',
    'first line',
    '',
    'do',
    '----',
    '----',
    'with a',
    '',
    'blank line',
    '----',
    '----',
    '',
    'last 2',
    '----',
    'end',
  ].join('\n')
  const [first, second, third, ...rest] = parseScript(text)

  assert.deepEqual(first?.args, [
    { key: '1', values: [] },
    { key: 'flag', values: ['true'] },
    { key: 'list', values: ['1', '2', '3'] },
    { key: 'more', values: ['x'] },
  ])
  assert.deepEqual([first?.input, first?.expected, first?.line], ['some input', 'first line', 2])
  assert.equal(second?.expected, 'with a\n\nblank line')
  assert.equal(third?.expected, 'end')
  assert.deepEqual(rest, [])
})

test('a script that is none is an error, with its line', () => {
  assert.throws(() => parseScript('do\n\n'), /line 1: the command has no ----/)
  assert.throws(() => parseScript('\ndo =(1\n----\n'), /line 2: can't read the arguments/)
})
