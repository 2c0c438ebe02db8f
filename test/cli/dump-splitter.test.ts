import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError } from '../../src/base/errors.ts'
import { DumpSplitter } from '../../src/cli/dump-splitter.ts'

/** The statements of a dump that comes in pieces of so many bytes. */
function split(dump: string, pieceBytes: number, isMariaDb = true): string[] {
  const bytes = Buffer.from(dump)
  const splitter = new DumpSplitter(isMariaDb)
  const statements: string[] = []
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    for (const { text } of splitter.push(bytes.subarray(at, at + pieceBytes))) statements.push(text)
  }
  for (const { text } of splitter.end()) statements.push(text)
  return statements.map(text => Buffer.from(text, 'latin1').toString())
}

const DUMP = `/*M!999999\\- enable the sandbox mode */
-- MariaDB dump 10.19; with a semicolon and a quote '
/*!40101 SET NAMES utf8mb4 */;
# DELIMITER ;;
CREATE TABLE \`a;\`\`b\` (id INT /* plain; */, -- one; two
  t TEXT DEFAULT 'it''s; \\'so\\' /* no */ -- no') /*!50100 PARTITION BY KEY (id) */;
/*!80000 SELECT 'only newer MySQL' */;
/*M!100100 SELECT 'only MariaDB' */;
INSERT INTO t VALUES ('ü\\\\',"a;""b",1 - 2,3/4,'--');
DELIMITER ;;
/*!50003 CREATE*/ /*!50003 TRIGGER x BEFORE INSERT ON t FOR EACH ROW BEGIN SELECT 1; END */;;
delimiter ;
-- Dump completed on 2026-11-21
SELECT 1`

const STATEMENTS = [
  'SET NAMES utf8mb4',
  "CREATE TABLE `a;``b` (id INT , \n  t TEXT DEFAULT 'it''s; \\'so\\' /* no */ -- no')  PARTITION BY KEY (id)",
  "SELECT 'only MariaDB'",
  'INSERT INTO t VALUES (\'ü\\\\\',"a;""b",1 - 2,3/4,\'--\')',
  'CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW BEGIN SELECT 1; END',
  'SELECT 1',
]

const blanks = (statements: readonly string[]): string[] =>
  statements.map(text => text.replaceAll(/\s+/g, ' '))

test('statements are the same however the dump is cut into pieces', () => {
  for (const pieceBytes of [1, 2, 3, 7, 16, 17, 64, 1000, 100_000]) {
    assert.deepEqual(blanks(split(DUMP, pieceBytes)), blanks(STATEMENTS), `${pieceBytes}`)
  }
})

test('which comments are statements depends on the server', () => {
  const found = split(DUMP, 1000, false)
  assert(found.includes("SELECT 'only newer MySQL'"))
  assert(!found.includes("SELECT 'only MariaDB'"))
})

test('a dump that ends in a quote is refused, and one without its last line is seen', () => {
  const refused = (error: unknown): boolean =>
    error instanceof DbError && error.code === 'INVALID_REQUEST'
  assert.throws(() => split("INSERT INTO t VALUES ('abc", 5), refused)
  for (const [dump, isCut] of [
    ['-- MySQL dump 10.13\nSELECT 1;\n', true],
    ['-- MySQL dump 10.13\nSELECT 1;\n-- Dump completed', false],
    ['SELECT 1;\n', false],
  ] as const) {
    const splitter = new DumpSplitter(true)
    splitter.push(Buffer.from(dump))
    splitter.end()
    assert.equal(splitter.isCut, isCut, dump)
  }
})
