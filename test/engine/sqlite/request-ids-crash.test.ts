import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { EngineEntry, RequestResult, WriteRequest } from '../../../src/engine/engine.ts'
import { createDatabase, dropDatabase, on, Replica, request } from './replica.ts'

const TABLE = 'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)'
const INSERT = 'INSERT INTO t (name) VALUES (hex(randomblob(8))) RETURNING id, name'

let sequence = 0

/** The request under an id of its own. */
function identified(asked: WriteRequest): WriteRequest {
  sequence++
  const session = { birth: 0, name: 5 }
  return { ...asked, id: { type: 'session', session, sequence } }
}

function cancelled(database: string): WriteRequest {
  return { type: 'cancel', database, id: { type: 'key', key: `cancelled ${++sequence}` } }
}

/** Batches as a leader gets them, with everything that ids can be on. */
function batches(): WriteRequest[][] {
  return [
    [identified(createDatabase('d'))],
    [identified(request(TABLE)), identified(request(INSERT))],
    [identified(createDatabase('e'))],
    [identified(on('e', TABLE)), identified(request(INSERT)), cancelled('d')],
    [identified(request(INSERT)), identified(on('e', INSERT)), cancelled('nowhere')],
    [identified(request('PRAGMA foreign_keys = OFF', INSERT))],
    [identified(dropDatabase('e'))],
    [identified(request(INSERT)), identified(request(INSERT))],
  ]
}

interface Told {
  readonly asked: WriteRequest
  readonly result: RequestResult
}

/** Runs batches with their messages until so many were sent; the last may be left half done. */
function runUntil(replica: Replica, work: readonly WriteRequest[][], messagesMax: number): Told[] {
  const told: Told[] = []
  let messages = 0
  const more = (): boolean => messages++ < messagesMax
  for (const [number, batch] of work.entries()) {
    if (!more()) return told
    const executed = replica.execute(...batch)
    assert.equal(executed.taken, batch.length)
    if (!more()) return told
    replica.commit(executed)
    for (const [at, asked] of batch.entries()) {
      const result = executed.results[at]
      assert(result !== undefined)
      told.push({ asked, result })
    }
    if (number % 3 !== 2) continue
    if (!more()) return told
    replica.checkpoint()
  }
  return told
}

function askAgain(replica: Replica, told: readonly Told[], what: string): void {
  const names = replica.withReader(reader => reader.databases())
  for (const { asked, result } of told) {
    const [again] = replica.write(asked)
    if (asked.type === 'statements' && !names.includes(asked.database)) {
      // With the database went what was known of it.
      assert.equal(again?.type === 'failed' && again.error.code, 'REQUEST_EXPIRED', what)
      continue
    }
    const expected = result.type === 'ok' ? { ...result, isRepeat: true } : result
    assert.deepEqual(again, expected, `${what}: ${JSON.stringify(asked)}`)
  }
}

function rowsOf(replica: Replica): number {
  return Number(replica.query('SELECT count(*) FROM t')[0]?.[0])
}

function caughtUp(replica: Replica, log: readonly EngineEntry[]): Replica {
  const missing = log.filter(({ index }) => index > replica.index)
  if (missing.length > 0) assert.equal(replica.apply(...missing).divergence, undefined)
  return replica
}

test('after a kill or a power cut between any two messages, each id is answered as at first', () => {
  const work = batches()
  const all = 2 * work.length + Math.floor(work.length / 3)
  for (let messages = 1; messages <= all; messages++) {
    for (const end of ['crash', 'powerCut'] as const) {
      using first = new Replica()
      const told = runUntil(first, work, messages)
      const log = [...first.entries]
      using again = caughtUp(first[end](), log)
      const what = `${end} after ${messages} messages`

      askAgain(again, told, what)
      // What was executed and not committed is new, and what follows goes on.
      for (const batch of work.slice(log.length)) {
        const results = again.write(...batch)
        assert(!results.some(result => result.type === 'ok' && result.isRepeat), what)
      }
      assert.equal(rowsOf(again), 6, what)
    }
  }
})

test('after a crash between the files of one entry, each id is answered as at first', () => {
  for (const name of ['db-1.sqlite', 'db-3.sqlite', 'system.sqlite']) {
    const work = batches()
    using replica = new Replica()
    const told = runUntil(replica, work.slice(0, 4), Infinity)
    const before = replica.flushedNow(name)
    told.push(...runUntil(replica, work.slice(4, 5), Infinity))
    const log = [...replica.entries]
    const rows = rowsOf(replica)

    // Only this file has not got the last entry, which wrote to all three.
    using again = caughtUp(replica.crashWith(name, before), log)

    askAgain(again, told, name)
    assert.equal(rowsOf(again), rows, name)
    assert.deepEqual(again.query('SELECT count(*) FROM t', 'e'), [[1n]])
  }
})
