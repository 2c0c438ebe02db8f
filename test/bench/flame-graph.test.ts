import assert from 'node:assert/strict'
import { test } from 'node:test'
import { busiest, callTree, type CpuProfile, flameGraph } from '../../bench/flame-graph.ts'

function frame(functionName: string, url = '', lineNumber = 0) {
  return { functionName, url, lineNumber }
}

/** main calls work twice over two ways, and the process waits for half of the time. */
const PROFILE: CpuProfile = {
  nodes: [
    { id: 1, callFrame: frame('(root)'), children: [2, 3] },
    { id: 2, callFrame: frame('(idle)') },
    {
      id: 3,
      callFrame: frame('main', 'file:///somewhere/src/cli/main.ts', 9),
      children: [4, 5, 7],
    },
    { id: 4, callFrame: frame('work', 'node:fs', 99) },
    { id: 5, callFrame: frame('', 'file:///somewhere/src/a.ts'), children: [6] },
    { id: 6, callFrame: frame('work', 'node:fs', 99) },
    { id: 7, callFrame: frame('readSync', 'node:fs', 7), children: [8] },
    { id: 8, callFrame: frame('read') },
  ],
  samples: [2, 3, 4, 6, 6, 7, 8, 2],
  timeDeltas: [500, 10, 20, 30, 40, 900, 800, -5],
}

test('a profile becomes a tree of calls, without the time in which nothing was done', () => {
  const root = callTree(PROFILE)
  assert.equal(root.totalUs, 100)
  const [main] = root.children.values()
  assert.deepEqual(
    [main?.name, main?.place, main?.selfUs, main?.totalUs],
    ['main', 'src/cli/main.ts:10', 10, 100],
  )
  assert.deepEqual(
    [...(main?.children.values() ?? [])].map(({ name, totalUs }) => [name, totalUs]),
    [
      ['work', 20],
      ['(anonymous)', 70],
    ],
  )
})

test('the busiest functions are told by their own time, from wherever they were called', () => {
  assert.deepEqual(busiest(callTree(PROFILE), 2), [
    { name: 'work', place: 'node:fs:100', selfUs: 90 },
    { name: 'main', place: 'src/cli/main.ts:10', selfUs: 10 },
  ])
})

test('boxes of the picture are as wide as their share, and never wider than their caller', () => {
  const svg = flameGraph(callTree(PROFILE), 'a <title>')
  assert.match(svg, /a &lt;title&gt;/)
  const boxes = [
    ...svg.matchAll(/<g><title>(.*?)<\/title><rect x="([\d.]+)" y="(\d+)" width="([\d.]+)"/g),
  ]
  const widths = boxes.map(([, facts = '', , , width]) => [facts.split(/[ :(]/)[0], Number(width)])
  assert.deepEqual(widths, [
    ['all', 1399.5],
    ['main', 1399.5],
    ['', 979.5],
    ['work', 979.5],
    ['work', 279.5],
  ])
  assert.equal(new Set(boxes.map(([, , , y]) => y)).size, 4)
  assert.equal((svg.match(/<g>/g) ?? []).length, (svg.match(/<\/g>/g) ?? []).length)
})
