import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DumpSteps, type DumpStep, type LeftOut } from '../../src/cli/dump-steps.ts'

interface Read {
  readonly steps: readonly DumpStep[]
  readonly leftOut: readonly LeftOut[]
}

async function read(dump: string | Buffer, isMariaDb = true): Promise<Read> {
  const leftOut: LeftOut[] = []
  const steps: DumpStep[] = []
  const pieces = async function* (): AsyncGenerator<Uint8Array> {
    yield Promise.resolve(Buffer.from(dump))
  }
  const onLeftOut = (each: LeftOut): void => void leftOut.push(each)
  for await (const step of new DumpSteps({ isMariaDb, onLeftOut }).of(pieces())) steps.push(step)
  return { steps, leftOut }
}

async function sqlOf(dump: string | Buffer): Promise<string[]> {
  const { steps } = await read(dump)
  return steps.map(({ sql }) => sql.replaceAll(/\s+/g, ' '))
}

test('foreign keys come after all rows, and views after those that they read', async () => {
  const dump = `
    CREATE TABLE \`a\` (
      \`id\` int(11) NOT NULL AUTO_INCREMENT,
      \`b\` int(11) DEFAULT 5 COMMENT 'FOREIGN KEY (x), y',
      PRIMARY KEY (\`id\`),
      CONSTRAINT \`to,b\` FOREIGN KEY (\`b\`) REFERENCES \`b\` (\`id\`) ON DELETE CASCADE
    ) ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=latin1;
    INSERT INTO \`a\` VALUES (1,2);
    /*!50001 CREATE VIEW \`v1\` AS SELECT 1 AS \`id\` */;
    /*!50001 CREATE VIEW \`v2\` AS SELECT 1 AS \`id\` */;
    CREATE TABLE \`b\` (\`id\` int(11) NOT NULL);
    /*!50001 DROP VIEW IF EXISTS \`v1\`*/;
    /*!50001 CREATE ALGORITHM=UNDEFINED */ /*!50013 DEFINER=\`root\`@\`localhost\` SQL SECURITY DEFINER */
    /*!50001 VIEW \`v1\` AS select \`v2\`.\`id\` AS \`id\` from \`v2\` */;
    /*!50001 CREATE ALGORITHM=UNDEFINED */ /*!50001 VIEW \`v2\` AS select 1 AS \`id\` */;`
  assert.deepEqual(await sqlOf(dump), [
    "CREATE TABLE `a` ( `id` int(11) NOT NULL AUTO_INCREMENT, `b` int(11) DEFAULT 5 COMMENT 'FOREIGN KEY (x), y'," +
      ' PRIMARY KEY (`id`) ) ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=latin1',
    'INSERT INTO `a` VALUES (1,2)',
    'CREATE TABLE `b` ( `id` int(11) NOT NULL )',
    'ALTER TABLE `a` ADD CONSTRAINT `to,b` FOREIGN KEY (`b`) REFERENCES `b` (`id`) ON DELETE CASCADE',
    'CREATE VIEW `v2` AS select 1 AS `id`',
    'CREATE VIEW `v1` AS select `v2`.`id` AS `id` from `v2`',
  ])
})

test('bytes that are no text become literals of bytes, marked or not', async () => {
  const bytes = Buffer.from([0xff, 0x5c, 0x27, 0x5c, 0x30, 0x00, 0x0a])
  const dump = Buffer.concat([
    Buffer.from("INSERT INTO t VALUES ('ü','"),
    bytes,
    Buffer.from("',_binary 'abc\\n',NULL,-1.5e3,0xFF,'it''s (a), \\'b\\'');"),
  ])
  assert.deepEqual(await sqlOf(dump), [
    "INSERT INTO `t` VALUES ('ü',x'ff2700000a',x'6162630a',NULL,-1.5e3,0xFF,'it''s (a), \\'b\\'')",
  ])
})

test('large values go beside the statement, as what they are', async () => {
  const text = 'ü'.repeat(10_000)
  const dump = Buffer.concat([
    Buffer.from(`INSERT INTO t VALUES (1,'${text}\\'',0x${'00ff'.repeat(5000)},'`),
    Buffer.alloc(20_000, 0xff),
    Buffer.from("'),(2,'a',NULL,'');"),
  ])
  const { steps } = await read(dump)
  const [step] = steps
  assert(step?.type === 'rows')
  assert.equal(step.sql, "INSERT INTO `t` VALUES (1,?,?,?),(2,'a',NULL,'')")
  assert.deepEqual(
    step.params.map(param => Buffer.from(param)),
    [Buffer.from(`${text}'`), Buffer.from('00ff'.repeat(5000), 'hex'), Buffer.alloc(20_000, 0xff)],
  )
})

test('many rows are cut into requests, alike each time', async () => {
  const rows = Array.from({ length: 5000 }, (_, at) => `(${at},'${'x'.repeat(at % 300)}')`)
  const dump = `INSERT INTO \`t\` (\`id\`, \`b\`) VALUES ${rows.join(',')};`
  const [first, second] = [await read(dump), await read(dump)]
  assert.deepEqual(first, second)
  assert(first.steps.length > 4)
  const found = first.steps.map(step => (step.type === 'rows' ? step.rows : 0))
  assert.equal(
    found.reduce((sum, count) => sum + count, 0),
    5000,
  )
  const head = 'INSERT INTO `t` (`id`, `b`) VALUES '
  const again = first.steps.map(({ sql }) => sql.slice(head.length)).join(',')
  assert.equal(again, rows.join(','))
})

test('what the server computes is not given', async () => {
  const dump =
    'CREATE TABLE t (`a` int, `b` int GENERATED ALWAYS AS (`a` * 2) STORED, KEY (`a`));' +
    'INSERT INTO t VALUES (1,2),(2,4); INSERT INTO t (`b`, `a`) VALUES (6,3);'
  assert.deepEqual((await sqlOf(dump)).slice(1), [
    'INSERT INTO `t` VALUES (1,DEFAULT),(2,DEFAULT)',
    'INSERT INTO `t` (`b`, `a`) VALUES (DEFAULT,3)',
  ])
})

test('what is left out is told with its reason', async () => {
  const dump = `
    SET NAMES utf8mb4; LOCK TABLES t WRITE; /*!40000 ALTER TABLE \`t\` DISABLE KEYS */; UNLOCK TABLES;
    CREATE TABLE \`t\` (\`a\` text COLLATE utf8mb4_0900_ai_ci) ENGINE=MyISAM;
    CREATE DEFINER=\`root\`@\`%\` PROCEDURE \`p\`() SELECT 1;
    CREATE DEFINER=\`root\`@\`%\` TRIGGER \`after\` AFTER INSERT ON \`t\` FOR EACH ROW SET @a = 1;
    CREATE SEQUENCE \`s\` start with 1;
    GRANT ALL ON *.* TO x;`
  const { steps, leftOut } = await read(dump)
  assert.deepEqual(
    leftOut.map(({ what }) => what),
    [
      'ENGINE=MyISAM of table t',
      'collation utf8mb4_0900_ai_ci of table t',
      'procedure p',
      'trigger after',
      'sequence s',
      'GRANT ALL ON *.* TO x',
    ],
  )
  assert.equal(steps.length, 1)
  assert.match(steps[0]?.sql ?? '', /COLLATE utf8mb4_unicode_520_ci\n\) ENGINE=InnoDB$/)
})

test('a dump that could not be imported whole is refused with the reason', async () => {
  const table = 'CREATE TABLE `t` (`id` int NOT NULL AUTO_INCREMENT, PRIMARY KEY (`id`));'
  const cases: [dump: string, reason: RegExp][] = [
    ['USE `a`; USE `b`;', /several databases, a and b/],
    ['/*!40101 SET NAMES latin1 */;', /the dump is in latin1/],
    ['-- MariaDB dump 10.19\nSELECT 1;', /not whole/],
    [`${table} INSERT INTO \`t\` VALUES (1),(0);`, /table t has a row whose id is 0/],
    ["INSERT INTO t VALUES ('a') ON DUPLICATE KEY UPDATE a = 1;", /not a list of rows/],
    ['CREATE TABLE t (a int', /a bracket is not closed/],
  ]
  for (const [dump, reason] of cases) await assert.rejects(read(dump), { message: reason })
})
