import assert from 'node:assert/strict'
import { test } from 'node:test'
import { UNFINISHED_SUFFIX, parseSegmentName, segmentName } from '../../src/wal/segment-name.ts'

test('names of segments sort as their numbers and are read back', () => {
  const sequences = [1, 2, 9, 10, 11, 99, 100, 123_456_789_012]

  const names = sequences.map(segmentName)

  assert.deepEqual([...names].sort(), names)
  assert.deepEqual(names.map(parseSegmentName), sequences)
})

test('other files are not taken for segments', () => {
  for (const name of ['', 'x.seg', '1.seg', `${segmentName(1)}${UNFINISHED_SUFFIX}`, 'notes.txt']) {
    assert.equal(parseSegmentName(name), undefined, name)
  }
})
