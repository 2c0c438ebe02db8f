/** The version of what members say of their data, and the digest that belongs to it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { WriteRequest } from '../../src/engine/engine.ts'
import { DATA_VERSION } from '../../src/replica/testimony.ts'
import { createDatabase, dropDatabase, on, Replica } from '../engine/sqlite/replica.ts'

/** By version of what members say of their data, the digest of the database below. */
const OF_VERSION: Readonly<Record<number, string>> = { 1: 'd1681d459c4b938f' }

// Nodes of two releases compare their digests only if they say the same version: else a release
// that computes another one would be found wrong, or find the others so, in a rolling upgrade.
test('the digest of the same data is another only with another version', () => {
  const requestLimits = { sessionsMax: 9, keysMax: 2, droppedNamesMax: 2, openRowBytesMax: 40 }
  using replica = Replica.withDatabase({ requestLimits })
  for (const name of ['e', 'gone']) replica.write(createDatabase(name))
  replica.run(
    'CREATE TABLE t (id INTEGER PRIMARY KEY, a, g AS (lower(a)))',
    'CREATE TABLE strict (k TEXT, n INT, PRIMARY KEY (n, k)) STRICT, WITHOUT ROWID',
    'CREATE TABLE stored (a, g AS (a + 1) STORED, rowid TEXT)',
    'CREATE UNIQUE INDEX i ON t (a DESC) WHERE a IS NOT NULL',
    'CREATE VIEW v AS SELECT a FROM t',
    'CREATE TRIGGER r AFTER DELETE ON t BEGIN INSERT INTO stored (a) VALUES (old.id); END',
    'PRAGMA user_version = 7',
    'PRAGMA application_id = 8',
  )
  replica.run(
    "INSERT INTO t (a) VALUES ('One'), ('Two'), ('Three')",
    "INSERT INTO strict VALUES ('ü🙂', -1), ('', 9007199254740993)",
  )
  replica.run(
    "INSERT INTO t (id, a) VALUES (-5, x'00ff'), (9007199254740993, NULL), (77, 0.5), (78, 1.0)",
    'DELETE FROM t WHERE id = 2',
  )
  const insert = (a: string): WriteRequest => on('e', ['INSERT INTO t VALUES (?)', [a]])
  replica.write(on('e', 'CREATE TABLE t (a)'))
  // Some are remembered in rows of the book, some in the open one, and some are forgotten.
  for (const key of ['k', 'l', 'm']) replica.write({ ...insert(key), id: { type: 'key', key } })
  for (const sequence of [1, 2, 3]) {
    const session = { birth: 2, name: 3 }
    replica.write({ ...insert('s'), id: { type: 'session', session, sequence } })
  }
  replica.write(dropDatabase('gone'))

  const { digest } = replica.dataDigest()
  const known = OF_VERSION[DATA_VERSION]
  assert.equal(digest, known, 'raise DATA_VERSION, and note the new digest here')
})
