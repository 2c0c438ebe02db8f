/** The room that remembered ids take in a file. */
import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import type { WriteRequest } from '../../../src/engine/engine.ts'
import { Replica, request } from './replica.ts'

/** A write that changes nothing, under an id of session `name`. */
function touch(name: number, sequence: number): WriteRequest {
  return {
    ...request('DELETE FROM t'),
    id: { type: 'session', session: { birth: 1, name }, sequence },
  }
}

test('what is forgotten gives its room back, also beside what stays', () => {
  using leader = Replica.withDatabase()
  leader.run('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)')
  for (let number = 1; number <= 500; number++) leader.write(touch(7, number))
  const room = bookBytes(leader)
  assert(room < 64 * 40 + 1024, `${room} bytes for 64 ids`)

  // A slow session keeps its part of large rows, and not its neighbours'.
  for (let slow = 1; slow <= 20; slow++) {
    const neighbours = Array.from({ length: 64 }, (_, at) => touch(7, 500 + slow * 64 + at))
    leader.write(...neighbours, touch(8, slow))
  }
  const room20 = bookBytes(leader)
  assert(room20 < (64 + 20 * 16) * 40 + 1024, `${room20} bytes for 84 ids`)
  for (let slow = 1; slow <= 20; slow++) {
    const [known] = leader.write(touch(8, slow))
    assert(known?.type === 'ok' && known.isRepeat)
  }
})

/** Bytes that the ids of `d` take in its file. */
function bookBytes(replica: Replica): number {
  const database = new DatabaseSync(`${replica.directory}/gen-1/db-1.sqlite`, { readOnly: true })
  try {
    const sums = database.prepare(
      'SELECT (SELECT sum(length(ids)) FROM lockstep_request) + length(request_ids) AS bytes ' +
        'FROM lockstep_meta',
    )
    return Number(sums.get()?.['bytes'])
  } finally {
    database.close()
  }
}
