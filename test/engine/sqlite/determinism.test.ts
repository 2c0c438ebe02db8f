import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { Determinism } from '../../../src/engine/sqlite/determinism.ts'
import { NOW_MS, Replica } from './replica.ts'

const NOW = '2026-11-20 12:34:56.789'

/** A connection with the entry's time and chance, and one with SQLite's own. */
function connections(): { ours: DatabaseSync; builtIn: DatabaseSync; determinism: Determinism } {
  const options = { readBigInts: true, returnArrays: true }
  const ours = new DatabaseSync(':memory:', options)
  const determinism = new Determinism()
  determinism.install(ours)
  determinism.beginEntry(NOW_MS, new Uint8Array(16).fill(7))
  determinism.beginStatement(0, 0)
  return { ours, builtIn: new DatabaseSync(':memory:', options), determinism }
}

function value(database: DatabaseSync, expression: string): unknown {
  return (database.prepare(`SELECT ${expression}`).get() as unknown as unknown[])[0]
}

test("what asks for 'now' gets the moment of the entry, in every form SQLite knows", () => {
  const { ours, builtIn } = connections()
  const pairs = [
    ["date('now')", `date('${NOW}')`],
    ['date()', `date('${NOW}')`],
    ["time('NOW')", `time('${NOW}')`],
    ["datetime('Now', '+1 day')", `datetime('${NOW}', '+1 day')`],
    ["datetime('now', 'subsec')", `datetime('${NOW}', 'subsec')`],
    ["datetime('subsec')", `datetime('${NOW}', 'subsec')`],
    ["datetime('subsecond', '-1 month')", `datetime('${NOW}', 'subsecond', '-1 month')`],
    ['julianday()', `julianday('${NOW}')`],
    ['unixepoch()', `unixepoch('${NOW}')`],
    ["unixepoch('subsec')", `unixepoch('${NOW}', 'subsec')`],
    ["strftime('%Y-%m-%dT%H:%M:%f')", `strftime('%Y-%m-%dT%H:%M:%f', '${NOW}')`],
    ["strftime('%s', 'now', 'start of year')", `strftime('%s', '${NOW}', 'start of year')`],
    ["timediff('now', '2020-01-01')", `timediff('${NOW}', '2020-01-01')`],
    ["timediff('2020-01-01', 'subsec')", `timediff('2020-01-01', '${NOW}')`],
    // To SQLite's C code a blob is a text, and a text ends at its first NUL.
    ["date(x'6e6f77')", `date('${NOW}')`],
    ["date('now' || char(0) || 'x')", `date('${NOW}')`],
    ['CURRENT_TIMESTAMP', "'2026-11-20 12:34:56'"],
    ['CURRENT_DATE', "'2026-11-20'"],
    ['CURRENT_TIME', "'12:34:56'"],
  ] as const

  for (const [asked, expected] of pairs) {
    assert.deepEqual(value(ours, asked), value(builtIn, expected), asked)
  }
})

test("what doesn't ask for 'now' gives what SQLite's own functions give", () => {
  const { ours, builtIn } = connections()
  const expressions = [
    "date('2024-02-29', '+1 year')",
    "datetime(1700000000, 'unixepoch')",
    "datetime(1700000000.25, 'unixepoch', 'subsec')",
    "datetime(2460000.5, 'auto')",
    "strftime('%J %w %j %W %G-%V %e %k %I %p %%', '2024-12-31 23:59:59.999')",
    'strftime()',
    "strftime(NULL, '2024-01-01')",
    "julianday('2024-01-01T00:00:00Z')",
    "julianday('2024-01-01 00:00+02:00')",
    "unixepoch('1969-12-31')",
    "typeof(unixepoch('2024-01-01'))",
    "typeof(julianday('2024-01-01'))",
    'date(NULL)',
    "date('nonsense')",
    "date('2024-01-01', NULL)",
    "date('2024-01-01', 'weekday 0')",
    "date('2024-01-31', '+1 month', 'floor')",
    "date('2024-01-31', '+1 month', 'ceiling')",
    'date(0)',
    'date(2460000)',
    "date(x'323032342d30312d3031')",
    "time('12:00', '+01:30')",
    "timediff('2024-01-01', '2023-02-28')",
    "timediff(NULL, '2024-01-01')",
    "date('2024-01-01', 'bogus')",
  ]

  for (const expression of expressions) {
    assert.deepEqual(value(ours, expression), value(builtIn, expression), expression)
  }
})

test('local time is UTC, whatever zone the machine is set to', () => {
  const { ours } = connections()

  assert.equal(value(ours, "datetime('2024-07-01 12:00', 'localtime')"), '2024-07-01 12:00:00')
  assert.equal(value(ours, "datetime('2024-07-01 12:00', 'utc')"), '2024-07-01 12:00:00')
  assert.equal(value(ours, "datetime('now', 'localtime')"), '2026-11-20 12:34:56')
})

test('random and randomblob give SQLite types and lengths, and repeat with their statement', () => {
  const { ours, determinism } = connections()
  const ask = (): unknown[] => {
    determinism.beginStatement(3, 1)
    return [
      value(ours, 'random()'),
      value(ours, 'hex(randomblob(5))'),
      value(ours, "length(randomblob('3'))"),
      value(ours, 'length(randomblob(2.9))'),
      value(ours, 'length(randomblob(0))'),
      value(ours, 'length(randomblob(-4))'),
      value(ours, 'length(randomblob(NULL))'),
    ]
  }
  const first = ask()

  assert.equal(typeof first[0], 'bigint')
  assert.match(String(first[1]), /^[0-9A-F]{10}$/)
  assert.deepEqual(first.slice(2), [3n, 2n, 1n, 1n, 1n])
  assert.deepEqual(ask(), first)
})

test('random gives each row its own value, also where it orders rows', () => {
  const { ours } = connections()
  ours.exec('CREATE TABLE t (a); INSERT INTO t VALUES (1), (2), (3), (4), (5), (6), (7), (8)')

  const values = ours.prepare('SELECT random() FROM t').all()
  assert.equal(new Set(values.map(String)).size, 8)
  const shuffled = ours.prepare('SELECT a FROM t ORDER BY random()').all().map(String)
  assert.notDeepEqual(shuffled, shuffled.toSorted())
})

test('a blob over the limit is refused as too large', () => {
  using replica = Replica.withDatabase()
  const error = replica.fail('SELECT randomblob(1000000000)')
  assert.equal(error.code, 'TOO_LARGE')
})

test('time and chance reach defaults, checks, triggers, views and generated columns', () => {
  using leader = Replica.withDatabase()
  using follower = new Replica()
  leader.run(
    `CREATE TABLE t (
      id INTEGER PRIMARY KEY, at TEXT DEFAULT CURRENT_TIMESTAMP, dice INTEGER DEFAULT (random()),
      day TEXT AS (date(at)), CHECK (at <= datetime('now'))
    )`,
    'CREATE INDEX by_day ON t (date(at))',
    'CREATE TABLE audit (at TEXT, token TEXT)',
    `CREATE TRIGGER log AFTER INSERT ON t BEGIN
      INSERT INTO audit VALUES (datetime('now'), hex(randomblob(8)));
    END`,
    "CREATE VIEW v AS SELECT id, strftime('%Y', 'now') AS year, dice FROM t",
  )
  leader.run('INSERT INTO t (id) VALUES (1), (2), (3)')
  leader.run('INSERT INTO audit SELECT year, dice FROM v ORDER BY random() LIMIT 2')
  assert.equal(follower.follow(leader).divergence, undefined)

  const rows = leader.query('SELECT at, day, dice FROM t')
  assert.deepEqual(
    rows.map(row => row[0]),
    ['2026-11-20 12:34:56', '2026-11-20 12:34:56', '2026-11-20 12:34:56'],
  )
  assert.equal(new Set(rows.map(row => row[2])).size, 3)
  assert.deepEqual(follower.query('SELECT * FROM audit'), leader.query('SELECT * FROM audit'))
  assert.deepEqual(follower.digest(), leader.digest())
})

test("a row that says 'now' where an index holds its date does no harm later", () => {
  using leader = Replica.withDatabase()
  using follower = new Replica()
  leader.run('CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)', 'CREATE INDEX i ON t (date(a))')
  leader.run("INSERT INTO t (a) VALUES ('now')")
  leader.run(
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200)
      INSERT INTO t (a) SELECT date('2026-11-20', i || ' days') FROM n`,
  )
  leader.nowMs += 365 * 86_400_000
  leader.run("UPDATE t SET b = 1 WHERE date(a) = '2026-11-20'", 'DELETE FROM t WHERE id = 1')
  leader.run("UPDATE t SET b = 2 WHERE date(a) < '2026-12-01'")

  assert.deepEqual(leader.query('PRAGMA integrity_check'), [['ok']])
  assert.equal(follower.follow(leader).divergence, undefined)
  assert.deepEqual(follower.digest(), leader.digest())
})
