/** What is remembered of keys, and from where on nobody is believed to be new. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RequestId } from '../../src/engine/engine.ts'
import { EXPIRED, FRESH, RememberedIds } from '../../src/engine/remembered-ids.ts'

const LIMITS = { sessionsMax: 9, keysMax: 1, droppedNamesMax: 9, openRowBytesMax: 99 }
const NOTHING_FORGOTTEN = { sessions: -1, keys: 0 }

function key(text: string, birth?: number): RequestId {
  return birth === undefined ? { type: 'key', key: text } : { type: 'key', key: text, birth }
}

test('whoever was born before the last entry of a row that was forgotten may have been in it', () => {
  const ids = new RememberedIds(LIMITS, NOTHING_FORGOTTEN)
  // Which of the entries 10 to 14 brought a key of the row is not known any more.
  ids.add(10, [key('a')])
  ids.close(10, 14)
  ids.trim(14)
  assert.equal(ids.floors.keys, 0, 'nothing is forgotten yet')
  assert.equal(ids.locate(key('b', 0)), FRESH)
  ids.add(15, [key('b')])
  ids.trim(15)

  assert.equal(ids.floors.keys, 14)
  for (const birth of [undefined, 0, 9, 10, 13]) {
    assert.equal(ids.locate(key('a', birth)), EXPIRED, String(birth))
  }
  assert.equal(ids.locate(key('c', 14)), FRESH)
  assert.equal(ids.locate(key('b', 3)), 15, 'what is known is found, however old')
})

test('what was forgotten from the open row took effect by the entry that is added now', () => {
  const ids = new RememberedIds(LIMITS, NOTHING_FORGOTTEN)
  ids.add(10, [key('a')])
  ids.trim(10)
  ids.add(10, [key('b')])
  ids.trim(12)

  assert.equal(ids.floors.keys, 12)
  assert.deepEqual([ids.locate(key('a', 11)), ids.locate(key('a', 12))], [EXPIRED, FRESH])
})

test('reading what was remembered raises no floor', () => {
  const ids = new RememberedIds(LIMITS, { sessions: 3, keys: 5 })
  ids.add(10, [key('a'), key('b')])
  ids.close(10, 14)
  ids.trimAsBefore()

  assert.deepEqual(ids.floors, { sessions: 3, keys: 5 })
  assert.deepEqual([ids.locate(key('a', 5)), ids.locate(key('b'))], [FRESH, 10])
})
