/** Random statements over a small schema: what SQLite might do otherwise a second time. */
import type { WriteRequest } from '../../../src/engine/engine.ts'
import type { Sql } from './replica.ts'
import { on } from './replica.ts'

/** A small generator with a seed (mulberry32). */
export class FuzzRandom {
  #state: number

  constructor(seed: number) {
    this.#state = Math.imul(seed, 0x9e3779b9) >>> 0
  }

  below(bound: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let word = this.#state
    word = Math.imul(word ^ (word >>> 15), word | 1)
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61)
    return ((word ^ (word >>> 14)) >>> 0) % bound
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)]
    if (item === undefined) throw new Error('nothing to pick from')
    return item
  }
}

const SCHEMA: readonly string[] = [
  `CREATE TABLE t1 (
    id INTEGER PRIMARY KEY, a TEXT UNIQUE, b INTEGER DEFAULT (random() % 1000),
    c TEXT DEFAULT CURRENT_TIMESTAMP, d REAL, g TEXT AS (upper(a)) STORED, CHECK (b < 900)
  )`,
  'CREATE TABLE t2 (id INTEGER PRIMARY KEY AUTOINCREMENT, t1 INTEGER, v, UNIQUE (t1, v))',
  'CREATE TABLE t3 (k TEXT, n INTEGER, w BLOB, PRIMARY KEY (k, n)) WITHOUT ROWID',
  'CREATE TABLE plain (x, y)',
  'CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT)',
  `CREATE TABLE child (
    id INTEGER PRIMARY KEY, p INTEGER REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE,
    q INTEGER REFERENCES parent ON DELETE SET NULL
  )`,
  'CREATE TABLE audit (at TEXT, what TEXT, dice INTEGER, last INTEGER)',
  'CREATE INDEX t1_day ON t1 (date(c))',
  'CREATE INDEX plain_part ON plain (y) WHERE x IS NOT NULL',
  `CREATE TRIGGER t1_log AFTER INSERT ON t1 BEGIN
    INSERT INTO audit VALUES (datetime('now'), 'ins ' || new.id, random(), last_insert_rowid());
  END`,
  `CREATE TRIGGER t1_before BEFORE UPDATE ON t1 WHEN new.b % 50 = 0 BEGIN
    SELECT RAISE(ABORT, 'no fifties');
  END`,
  `CREATE TRIGGER t2_log AFTER DELETE ON t2 BEGIN
    INSERT INTO audit VALUES (time(), 'del ' || old.id, changes(), last_insert_rowid());
  END`,
  'CREATE VIEW both AS SELECT t1.id, t1.a, t2.v FROM t1 JOIN t2 ON t2.t1 = t1.id',
  `CREATE TRIGGER both_in INSTEAD OF INSERT ON both BEGIN
    INSERT INTO t1 (a) VALUES (new.a);
    INSERT INTO t2 (t1, v) VALUES (last_insert_rowid(), new.v);
  END`,
  'CREATE VIRTUAL TABLE words USING fts5(body)',
  'CREATE VIRTUAL TABLE boxes USING rtree(id, x1, x2)',
]

type Template = (n: () => bigint, word: () => string) => readonly Sql[]

/** Statements that mostly succeed. */
const TEMPLATES: readonly Template[] = [
  (n, word) => [['INSERT INTO t1 (a, d) VALUES (?, ?)', [word(), Number(n()) / 7]]],
  (n, word) => [['INSERT INTO t1 (id, a, b) VALUES (?, ?, ?)', [n(), word(), n()]]],
  (n, word) => [['INSERT OR IGNORE INTO t1 (id, a) VALUES (?, ?)', [n(), word()]]],
  (n, word) => [['INSERT OR REPLACE INTO t1 (id, a, b) VALUES (?, ?, ?)', [n(), word(), n()]]],
  (n, word) => [
    [
      'INSERT INTO t1 (id, a) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET d = random() RETURNING *',
      [n(), word()],
    ],
  ],
  (_, word) => [['INSERT INTO t1 (a) VALUES (?), (?) RETURNING id, b, c', [word(), word()]]],
  n => [['UPDATE t1 SET b = b + 1 WHERE id % ? = 0', [1n + n()]]],
  n => [['UPDATE OR IGNORE t1 SET a = (SELECT a FROM t1 LIMIT 1) WHERE id < ?', [n()]]],
  n => [['UPDATE OR FAIL t1 SET b = b * 2 WHERE id > ?', [n()]]],
  n => [['DELETE FROM t1 WHERE id % 7 = ? RETURNING id', [n() % 7n]]],
  n => [['INSERT INTO t2 (t1, v) SELECT id, b % 5 FROM t1 WHERE id > ? LIMIT 3', [n()]]],
  () => ['INSERT INTO t2 (t1, v) SELECT id, random() FROM t1 ORDER BY random() LIMIT 4'],
  n => [['DELETE FROM t2 WHERE id = (SELECT min(id) FROM t2 WHERE id > ?)', [n()]]],
  () => ['DELETE FROM t2 WHERE id = (SELECT max(id) FROM t2)'],
  (n, word) => [
    ['INSERT INTO t3 VALUES (?, ?, randomblob(6)) ON CONFLICT DO NOTHING', [word(), n() % 5n]],
  ],
  n => [
    ['INSERT OR REPLACE INTO t3 SELECT a, ?, a FROM t1 WHERE a IS NOT NULL LIMIT 5', [n() % 4n]],
  ],
  (n, word) => [
    ['INSERT INTO plain VALUES (?, ?)', [n(), word()]],
    'INSERT INTO plain DEFAULT VALUES',
  ],
  () => [
    'INSERT INTO plain SELECT y, x FROM plain LIMIT 6',
    'SELECT last_insert_rowid(), changes()',
  ],
  n => [['DELETE FROM plain WHERE rowid % 3 = ?', [n() % 3n]]],
  (n, word) => [
    ['INSERT INTO parent (name) VALUES (?)', [word()]],
    ['INSERT INTO child (p, q) VALUES (last_insert_rowid(), ?)', [n()]],
  ],
  n => [['DELETE FROM parent WHERE id = ?', [n()]]],
  n => [['UPDATE parent SET id = id + 1000 WHERE id = ?', [n()]]],
  (n, word) => [['INSERT INTO both (a, v) VALUES (?, ?)', [word(), n()]]],
  (_, word) => [['INSERT INTO words VALUES (?)', [`${word()} ${word()} ${word()}`]]],
  (_, word) => [['DELETE FROM words WHERE words MATCH ?', [word()]]],
  (_, word) => [
    ['SELECT rowid, body FROM words WHERE words MATCH ?', [word()]],
    'DELETE FROM plain',
  ],
  n => [['INSERT OR REPLACE INTO boxes VALUES (?, ?, ?)', [n(), Number(n()), 500 + Number(n())]]],
  n => [['UPDATE boxes SET x2 = x2 + 1 WHERE x1 > ?', [n()]]],
  () => ["UPDATE t1 SET c = datetime('now', '-1 day') WHERE id IN (SELECT id FROM t1 LIMIT 2)"],
  () => ['CREATE TABLE made AS SELECT *, random() AS r FROM t1 LIMIT 5', 'DROP TABLE made'],
  () => ['DROP TABLE IF EXISTS made', 'CREATE TABLE made (a, b DEFAULT (hex(randomblob(3))))'],
  () => ['CREATE TABLE IF NOT EXISTS made (a, b)', 'INSERT INTO made (a) VALUES (random())'],
  () => [
    'ALTER TABLE plain ADD COLUMN z DEFAULT 5; UPDATE plain SET z = 6; ALTER TABLE plain DROP z',
  ],
  () => ['CREATE INDEX IF NOT EXISTS plain_x ON plain (x)', 'DROP INDEX plain_x'],
  n => [`PRAGMA user_version = ${n()}`],
  () => ['SELECT random(), id FROM t1 ORDER BY random() LIMIT 3', 'SELECT count(*) FROM both'],
  () => ['PRAGMA foreign_keys = OFF', ...REBUILD, 'PRAGMA foreign_keys = ON'],
]

const REBUILD: readonly string[] = [
  'CREATE TABLE child_new (id INTEGER PRIMARY KEY, p INTEGER REFERENCES parent, q INTEGER)',
  'INSERT INTO child_new SELECT id, p, NULL FROM child WHERE p IN (SELECT id FROM parent)',
  'DROP TABLE child',
  'ALTER TABLE child_new RENAME TO child',
]

/** Statements that fail, many of them after they have changed something. */
const FAILURES: readonly Template[] = [
  () => ['INSERT INTO t1 (id, a) SELECT id, a FROM t1'],
  (_, word) => [['INSERT OR FAIL INTO t1 (a) VALUES (?), (?), (NULL), (1), (1)', [word(), word()]]],
  () => ['INSERT INTO t1 (b) VALUES (5), (6), (950)'],
  n => [['INSERT INTO child (p) VALUES (?)', [n() + 1_000_000n]]],
  () => ['INSERT INTO missing VALUES (1)'],
  () => ['SELEKT 1'],
  () => ['UPDATE t1 SET b = 50, a = a || id'],
  n => ['DELETE FROM t2', ['INSERT INTO t2 (id, t1) VALUES (?, ?), (?, 1)', [n(), n(), n()]], 'X'],
  () => [
    'CREATE TABLE gone (a)',
    'INSERT INTO gone VALUES (random())',
    'INSERT INTO gone VALUES (1, 2)',
  ],
  () => ['DROP TABLE audit', 'DROP TABLE audit'],
  () => ['SELECT random()', 'INSERT INTO t1 (id) VALUES (1), (1)'],
  () => ['INSERT OR ROLLBACK INTO t1 (id) VALUES (1), (1)'],
  () => ['PRAGMA user_version = 77', 'PRAGMA journal_mode = OFF'],
  () => ["INSERT INTO words VALUES ('lost words')", 'SELECT nonsense FROM words'],
]

export class FuzzStatements {
  readonly #random: FuzzRandom

  constructor(random: FuzzRandom) {
    this.#random = random
  }

  /**
   * Requests that make the schema in each database: in the first one with virtual tables. Where
   * there are some, no statement runs without a savepoint.
   */
  setUp(databases: readonly string[]): readonly WriteRequest[] {
    return databases.map((database, at) =>
      on(database, ...SCHEMA.filter(sql => at === 0 || !sql.startsWith('CREATE VIRTUAL'))),
    )
  }

  /** A request: one to three templates one after another, about 30 % of them failing. */
  request(database: string): WriteRequest {
    const random = this.#random
    const n = (): bigint => BigInt(random.below(200))
    const word = (): string => `w${random.below(60)}`
    const fails = random.below(100) < 25
    const statements: Sql[] = []
    for (let i = random.below(3); i >= 0; i--) statements.push(...random.pick(TEMPLATES)(n, word))
    if (fails) statements.push(...random.pick(FAILURES)(n, word))
    if (random.below(10) === 0) return on(random.below(2) === 0 ? 'x' : 'missing', ...statements)
    return on(database, ...statements)
  }
}
