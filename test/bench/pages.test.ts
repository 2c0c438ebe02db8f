import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pictureLine, withSection } from '../../bench/pages.ts'

const EMPTY = '# Performance\n\nBy hand.\n'

test('a section is renewed between its marks, and nothing else is touched', () => {
  const first = withSection(EMPTY, 'one', 'bench one', ['figures 1'])
  const second = withSection(first, 'two', 'bench two', ['figures 2'])
  const byHand = `${second}\nAn explanation by hand.\n`
  const renewed = withSection(byHand, 'one', 'bench one', ['figures $& $1'])
  assert.equal(
    renewed,
    byHand.replace('figures 1', () => 'figures $& $1'),
  )
  assert(renewed.startsWith(EMPTY))
  assert(renewed.endsWith('An explanation by hand.\n'))
  assert.equal(withSection(renewed, 'one', 'bench one', ['figures 1']), byHand)
})

test('a section whose name begins like that of another is another one', () => {
  const page = withSection(withSection(EMPTY, 'one', 'c', ['a']), 'one-more', 'c', ['b'])
  const renewed = withSection(page, 'one', 'c', ['z'])
  assert.match(renewed, /one: [^]*z[^]*end of one -->[^]*one-more: [^]*b[^]*end of one-more/)
})

test('a picture is named after its section', () => {
  const line = pictureLine('peers', { name: 'cpu', title: 'Of the processor' })
  assert.equal(line, '![Of the processor](performance/peers.cpu.svg)')
})
