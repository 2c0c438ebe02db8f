/** What real dumps hold beside plain rows: each of it comes over as it was, or is told. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test, type TestContext } from 'node:test'
import { survey } from '../../src/cli/import-survey.ts'
import { MariaDbServer, whyNoMariaDb } from '../fixtures/mariadb-server.ts'
import { runTool, startImport } from './import-kit.ts'
import { makeDirectory, startCluster } from './kit.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }
const MEBIBYTE = 1024 * 1024

/** As old servers are: they take what is no date, and are not in UTC. */
let server: MariaDbServer
before(async () => {
  if (missing !== undefined) return
  const settings = ['max-allowed-packet=64M', 'sql-mode=', 'default-time-zone=+02:00']
  server = await MariaDbServer.start(settings)
})
after(() => server?.stop())

let databases = 0

/** Makes a database by these statements, and its dump. */
function dumpOf(
  t: TestContext,
  sql: string,
  dumpOptions: readonly string[] = [],
): { readonly name: string; readonly file: string } {
  databases += 1
  const name = `old${databases}`
  runTool(server, 'mariadb', [], `CREATE DATABASE ${name}; USE ${name};\n${sql}\n`)
  const file = join(makeDirectory(t), `${name}.sql`)
  writeFileSync(
    file,
    runTool(server, 'mariadb-dump', ['--single-transaction', ...dumpOptions, name]),
  )
  return { name, file }
}

/** Definitions and rows of a database, a line for each row; whose its views are does not count. */
function contentOf(name: string): string {
  const words = ['--hex-blob', '--skip-extended-insert', '--skip-triggers', '--skip-comments']
  const dump = runTool(server, 'mariadb-dump', [...words, `--ignore-table=${name}.bad`, name])
  const lines = dump.toString('latin1').split('\n')
  return lines.filter(line => !/DEFINER=|SET collation_connection/.test(line)).join('\n')
}

const GOOD = `
CREATE TABLE computed (
  id INT AUTO_INCREMENT PRIMARY KEY, a INT, twice INT AS (a * 2) VIRTUAL, next INT AS (a + 1) PERSISTENT,
  j JSON, hidden INT INVISIBLE DEFAULT 7, at DATETIME DEFAULT NOW(), seen TIMESTAMP NULL, KEY (next));
INSERT INTO computed (a, j, hidden, seen) VALUES
  (1, '{"a":1}', 8, '2020-06-01 12:00:00'), (2, NULL, 9, NULL);
CREATE TABLE bytes (
  id BINARY(4) PRIMARY KEY, b VARBINARY(300), l LONGBLOB, bits BIT(12), place POINT, f FLOAT, d DOUBLE,
  t TIME(3), s SET('a','b'), i INET6, u UUID, y YEAR);
INSERT INTO bytes VALUES
  (x'00010203', x'', REPEAT(x'00ff', 50), b'101', ST_GeomFromText('POINT(1 2)'), 1.1, 1e300,
    '-12:00:00.123', 'a,b', '::1', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 0),
  ('abc', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1999),
  ('a\\'\\\\', 'ü\\0', 'x', 1, NULL, 3.4028234e38, -0.0, NULL, '', NULL, NULL, NULL);
CREATE TABLE large (id INT PRIMARY KEY, b LONGBLOB, t LONGTEXT);
INSERT INTO large VALUES (1, REPEAT(x'00ff', 1000000), REPEAT('xü''', 700000)), (2, x'', '');
CREATE TABLE parted (id INT PRIMARY KEY, a INT CHECK (a > 0))
  PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE);
INSERT INTO parted VALUES (1, 1), (11, 1);
CREATE TABLE old_text (id INT PRIMARY KEY, a TEXT) CHARSET latin1;
INSERT INTO old_text VALUES (1, 'Größe €');
CREATE OR REPLACE USER 'some one'@'%'; GRANT ALL ON *.* TO 'some one'@'%';
CREATE DEFINER='some one'@'%' SQL SECURITY DEFINER VIEW seen AS SELECT id FROM computed;
DELIMITER ;;
CREATE DEFINER='some one'@'%' TRIGGER tr BEFORE INSERT ON parted FOR EACH ROW BEGIN SET NEW.a = 1; SET @x = ';'; END ;;
CREATE DEFINER='some one'@'%' FUNCTION f1(x INT) RETURNS INT DETERMINISTIC RETURN x + 1 ;;
CREATE PROCEDURE p1() BEGIN SELECT ';'; /* DELIMITER */ END ;;
CREATE EVENT e1 ON SCHEDULE EVERY 1 DAY DO BEGIN DELETE FROM parted; END ;;
DELIMITER ;
CREATE VIEW bad AS SELECT f1(id) AS x FROM parted;`

test(
  'what a real dump holds comes over as it was, or is named, however the dump is made',
  options,
  async t => {
    const cluster = await startCluster(t, {
      nodes: 1,
      nodeOptions: nodeId => ['--engine', server.url(`${nodeId}_`)],
    })
    for (const dumpOptions of [
      [],
      ['--hex-blob', '--skip-extended-insert', '--complete-insert', '--insert-ignore'],
      ['--hex-blob', '--skip-quote-names', '--no-autocommit', '--add-drop-database', '--databases'],
    ]) {
      const { name, file } = dumpOf(t, GOOD, ['--routines', '--events', ...dumpOptions])

      const { code, out, err } = await startImport(file, cluster.addresses, name)[1]

      assert.equal(code, 0, `${dumpOptions.join(' ')}: ${out}${err}`)
      assert.match(out, /all rows are there/)
      for (const told of [
        /trigger tr: triggers are not replicated/,
        /event e1: events are not replicated/,
        /function f1: procedures and functions are not replicated/,
        /procedure p1: procedures/,
        /view bad: FUNCTION \S*f1 does not exist/,
      ]) {
        assert.match(out, told)
      }
      assert.equal(contentOf(`n1_${name}`), contentOf(name), dumpOptions.join(' '))
    }
  },
)

interface Refused {
  readonly sql: string
  readonly dump?: readonly string[]
  readonly code?: string
  readonly said: RegExp
}

const ONE_DAY =
  'CREATE TABLE t (id INT PRIMARY KEY, d DATE, at TIMESTAMP NULL); INSERT INTO t VALUES'
const REFUSED: readonly Refused[] = [
  {
    sql: `${ONE_DAY} (1, '2020-01-01', NULL), (2, '0000-00-00', NULL)`,
    said: /table t has a row \(2, \.\.\.\) whose d is '0000-00-00', which is no date/,
  },
  { sql: `${ONE_DAY} (3, '2020-00-10', NULL)`, said: /row \(3, .* d is '2020-00-10', which is no/ },
  {
    sql: `${ONE_DAY} (4, NULL, '0000-00-00 00:00:00')`,
    dump: ['--skip-quote-names', '--complete-insert'],
    said: /row \(4, .* at is '0000-00-00 00:00:00', which is no date.*make it NULL or a date/,
  },
  {
    sql: "CREATE TABLE t (id INT PRIMARY KEY, d DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00')",
    said: /column d of table t has a default that is no date.*ALTER it/,
  },
  {
    sql: `${ONE_DAY} (1, NULL, '2020-06-01 12:00:00')`,
    dump: ['--skip-tz-utc'],
    said: /at of table t is a TIMESTAMP, and the dump does not say.*without --skip-tz-utc/,
  },
  {
    sql: "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY); SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'; INSERT INTO t VALUES (0), (1)",
    dump: ['--skip-quote-names'],
    said: /table t has a row whose id is 0: .*give the row another id/,
  },
  {
    sql: "CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB); INSERT INTO t VALUES (1, ''), (2, REPEAT(x'00ff', 4000000))",
    code: 'TOO_LARGE',
    said: /table t has a row whose INSERT has 160000\d\d bytes .* at most 15728640.*--where/,
  },
  {
    sql: 'CREATE TABLE t (id INT PRIMARY KEY, u CHAR(36) DEFAULT UUID())',
    code: 'UNSUPPORTED',
    said: /CREATE TABLE `t`.*UUID: a default that is made by chance/,
  },
  {
    sql: 'CREATE SEQUENCE s; CREATE TABLE t (id INT PRIMARY KEY DEFAULT NEXTVAL(s))',
    code: 'UNSUPPORTED',
    said: /NEXTVAL: a sequence counts on.*use AUTO_INCREMENT/,
  },
  {
    sql: `${ONE_DAY} (1, NULL, NULL)`,
    dump: ['--no-create-info'],
    said: /rows of t, but not the table/,
  },
  { sql: ONE_DAY.replace(/;.*/, ''), dump: ['--xml'], said: /holds no tables: it is to be what/ },
  {
    sql: `${ONE_DAY} (1, NULL, NULL)`,
    dump: ['--compatible=ansi'],
    said: /without --compatible=ansi/,
  },
  { sql: '', said: /holds no tables/ },
]

test(
  'what no node would take is said with its place before anything is written',
  options,
  async t => {
    for (const { sql, dump, code = 'INVALID_REQUEST', said } of REFUSED) {
      const { file } = dumpOf(t, sql, dump)
      await assert.rejects(survey(file, true), (error: Error & { readonly code: string }) => {
        assert.equal(error.code, code, error.message)
        assert.match(error.message, said)
        assert.match(error.message, /\. Nothing was written$/)
        return true
      })
    }
  },
)

test(
  'a statement of a dump whose effect nobody can follow is not passed over',
  options,
  async t => {
    const { file } = dumpOf(t, 'CREATE TABLE t (id INT PRIMARY KEY)')
    for (const [statement, code] of [
      ["LOAD DATA INFILE '/tmp/t.txt' INTO TABLE t;", 'UNSUPPORTED'],
      ['TRUNCATE TABLE t;', 'UNSUPPORTED'],
    ] as const) {
      writeFileSync(
        file,
        `CREATE TABLE t (id INT PRIMARY KEY);\nINSERT INTO t VALUES (1);\n${statement}\n`,
      )
      await assert.rejects(survey(file, true), { code, message: /effect is not known.*INSERT/ })
    }
  },
)

test(
  'a row that is longer than a request may be comes once the limit is raised',
  options,
  async t => {
    let limit: readonly string[] = []
    const cluster = await startCluster(t, {
      nodes: 1,
      nodeOptions: nodeId => ['--engine', server.url(`l${nodeId}_`), ...limit],
    })
    const { name, file } = dumpOf(
      t,
      'CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB, t LONGTEXT); INSERT INTO t VALUES ' +
        "(1, 'a', 'b'), (2, REPEAT(x'00ff', 2500000), REPEAT('xü', 1500000))",
    )

    const refused = await startImport(file, cluster.addresses, name)[1]

    assert.equal(refused.code, 1)
    assert.match(refused.err, /over the limit of 8388608 bytes.*at INSERT INTO `t`/)
    assert.match(refused.err, /--max-body-bytes of the nodes: .*run the same line again/)
    limit = ['--max-body-bytes', String(32 * MEBIBYTE)]
    await cluster.kill('n1', 'SIGTERM')
    cluster.restart('n1')
    await cluster.ready()
    const { code, out, err } = await startImport(file, cluster.addresses, name)[1]
    assert.equal(code, 0, `${out}${err}`)
    assert.match(out, /going on after step 2/)
    assert.equal(contentOf(`ln1_${name}`), contentOf(name))
  },
)

test('rows that break a rule of the cluster say what is there and what to do', options, async t => {
  const cluster = await startCluster(t, {
    nodes: 1,
    nodeOptions: nodeId => ['--engine', server.url(`r${nodeId}_`)],
  })
  const cases: readonly (readonly [sql: string, said: RegExp])[] = [
    [
      "CREATE TABLE t (id INT PRIMARY KEY, e ENUM('a')); INSERT IGNORE INTO t VALUES (1, 'z')",
      /Data truncated for column 'e' at row 1, at INSERT INTO `t`/,
    ],
    [
      'CREATE TABLE p (id INT PRIMARY KEY); SET foreign_key_checks = 0; CREATE TABLE c ' +
        '(id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id)); INSERT INTO c VALUES (1, 5)',
      /foreign key constraint fails .*, at ALTER TABLE `c`/,
    ],
  ]
  for (const [sql, said] of cases) {
    const { name, file } = dumpOf(t, sql)
    const { code, err } = await startImport(file, cluster.addresses, name)[1]
    assert.equal(code, 1)
    assert.match(err, said)
    assert.match(err, /before it is imported, the rest is not\. Correct it on the old server, drop/)
  }
})
