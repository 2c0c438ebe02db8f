/** `lockstep import` of what mariadb-dump makes, into a cluster on MariaDB. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { createClient } from '../../src/client/client.ts'
import { MariaDbServer, whyNoMariaDb } from '../fixtures/mariadb-server.ts'
import { runTool, startImport } from './import-kit.ts'
import { get, makeDirectory, post, rolesOf, startCluster, until } from './kit.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }

/** A shop as one finds them: old tables, bytes, views, what is not replicated. */
const SHOP = `
CREATE DATABASE shop CHARACTER SET latin1; USE shop;
CREATE TABLE customers (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100) NOT NULL,
  email VARCHAR(190) UNIQUE, photo MEDIUMBLOB, born DATE, flags BIT(5),
  seen TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  kind ENUM('a','b;c','d''e') DEFAULT 'a', note TEXT, extra JSON, price DECIMAL(12,4), ratio DOUBLE,
  twice DECIMAL(14,4) GENERATED ALWAYS AS (price * 2) STORED, KEY name_at (name(20))
) DEFAULT CHARSET=utf8mb4;
CREATE TABLE items (sku CHAR(8) PRIMARY KEY, title VARCHAR(80) COLLATE latin1_german1_ci);
CREATE TABLE a_orders (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, customer INT UNSIGNED NOT NULL, sku CHAR(8),
  at DATETIME(6), CONSTRAINT \`of;sku\` FOREIGN KEY (sku) REFERENCES items (sku),
  CONSTRAINT of_customer FOREIGN KEY (customer) REFERENCES customers (id) ON DELETE CASCADE);
CREATE TABLE tree (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES tree (id));
CREATE TABLE nokey (a INT, b VARCHAR(20)) ENGINE=MyISAM;
CREATE TABLE empty_one (id INT PRIMARY KEY) COMMENT='it''s; empty';
INSERT INTO items SELECT CONCAT('s', seq), CONCAT('Größe ', seq) FROM seq_1_to_500;
INSERT INTO customers (name, email, photo, born, flags, kind, note, extra, price, ratio, seen)
  SELECT CONCAT('Grüße ', seq, ' 日本 😀'), CONCAT('u', seq, '@example.org'),
  IF(seq % 7 = 0, NULL, UNHEX(SHA2(seq, 512))), IF(seq % 5 = 0, NULL, '1970-01-01' + INTERVAL seq DAY),
  seq % 32, ELT(1 + seq % 3, 'a', 'b;c', 'd''e'),
  IF(seq % 3 = 0, NULL, CONCAT('line\\nbreak; -- no /* comment \\'', seq, '\\' \\t\\Z\\0 end')),
  JSON_OBJECT('n', seq, 's', 'a"b'), seq / 7, seq / 3, '2026-01-01 12:00:00' + INTERVAL seq MINUTE
  FROM seq_1_to_5000;
UPDATE customers SET photo = REPEAT(CHAR(0, 39, 92, 10, 13, 26, 255), 200000) WHERE id = 77;
UPDATE customers SET note = REPEAT('ü\\' ', 8000) WHERE id = 78;
INSERT INTO a_orders (customer, sku, at) SELECT 1 + seq % 5000, CONCAT('s', 1 + seq % 500),
  '2026-01-01' + INTERVAL seq * 1.5 SECOND FROM seq_1_to_20000;
DELETE FROM a_orders WHERE id > 19990;
INSERT INTO tree VALUES (5, NULL), (1, 5), (2, 1);
INSERT INTO nokey VALUES (1, 'x'), (1, 'x'), (NULL, NULL);
CREATE VIEW z_base AS SELECT id, name FROM customers WHERE id < 100;
CREATE VIEW a_view AS SELECT o.id, b.name FROM a_orders o JOIN z_base b ON b.id = o.customer;
DELIMITER ;;
CREATE TRIGGER t1 AFTER INSERT ON tree FOR EACH ROW BEGIN INSERT INTO nokey VALUES (1, 'x;y'); END ;;
CREATE PROCEDURE p1() BEGIN SELECT 1; SELECT 2; END ;;
DELIMITER ;
`

/** All rows of all tables, a line for each, in an order of its own. */
function rowsOf(server: MariaDbServer, database: string): string {
  const args = ['--no-create-info', '--skip-triggers', '--skip-extended-insert', '--skip-comments']
  const views = ['a_view', 'z_base'].map(view => `--ignore-table=${database}.${view}`)
  const dump = runTool(server, 'mariadb-dump', [...args, ...views, database]).toString('latin1')
  const lines = dump.split('\n').filter(line => line.startsWith('INSERT'))
  assert(lines.length > 25_000)
  return lines.sort().join('\n')
}

test(
  'a dump is imported whole, once, through kills of the import and of the leader',
  options,
  async t => {
    const server = await MariaDbServer.start(['max-allowed-packet=32M'])
    t.after(() => server.stop())
    const cluster = await startCluster(t, {
      nodeOptions: nodeId => ['--engine', server.url(`${nodeId}_`)],
    })
    runTool(server, 'mariadb', [], SHOP)
    const file = join(makeDirectory(t), 'shop.sql')
    const dump = ['--single-transaction', '--routines', 'shop']
    writeFileSync(file, runTool(server, 'mariadb-dump', dump))
    const client = createClient({ nodes: cluster.addresses, database: 'shop', timeoutMs: 60_000 })

    await t.test('a dump that was cut off changes nothing', async () => {
      const cut = `${file}.cut`
      writeFileSync(cut, readFileSync(file).subarray(0, -100))
      const { code, err } = await startImport(cut, cluster.addresses, 'shop')[1]
      assert.equal(code, 1)
      assert.match(err, /the dump is not whole/)
      const { status } = await post(cluster.addresses[0] ?? '', '/query', {
        database: 'shop',
        sql: 'SELECT 1',
      })
      assert.equal(status, 404, 'no database was made')
    })

    await t.test(
      'the import is killed again and again, and the leader, and it goes on',
      async () => {
        for (const due of [8, 16, 24]) {
          const [child, ended] = startImport(file, cluster.addresses, 'shop')
          await until(position, found => found >= due, 60_000)
          child.kill('SIGKILL')
          assert.equal((await ended).code, null)
        }
        const { leaderId } = await rolesOf(cluster)
        await cluster.kill(leaderId)
        const again = await startImport(file, cluster.addresses, 'shop')[1]
        assert.equal(again.code, 0, `${again.out}${again.err}`)
        assert.match(again.out, /going on after step (?:2[4-9]|[3-9]\d)/)
        assert.match(again.out, /all rows are there/)
        assert.match(again.out, /trigger t1: triggers are not replicated/)
        assert.match(again.out, /procedure p1: procedures and functions are not replicated/)
        cluster.restart(leaderId)
        await cluster.ready()
      },
    )

    await t.test('every table is as it was, on every node', async () => {
      const { rows } = await client.query<{ found: number }>('SELECT count(*) AS found FROM a_view')
      const seen = runTool(server, 'mariadb', ['-N', '-e', 'SELECT count(*) FROM shop.a_view'])
      assert.equal(String(rows[0]?.found), seen.toString().trim())
      const token = client.token ?? assert.fail('a token')
      for (const { nodeId, address } of cluster.nodes) {
        const query = `database=shop&consistency=session&atLeast=${token}&timeoutMs=60000`
        assert.equal((await get(address, `/digest?${query}`)).status, 200)
        assert.equal(rowsOf(server, `${nodeId}_shop`), rowsOf(server, 'shop'))
      }
    })

    await t.test('foreign keys hold, and ids go on', async () => {
      await assert.rejects(
        client.execute("INSERT INTO a_orders (customer, sku) VALUES (1, 'none')"),
        { code: 'SQL_CONSTRAINT' },
      )
      const { lastInsertId } = await client.execute(
        "INSERT INTO a_orders (customer, sku) VALUES (1, 's1')",
      )
      assert(Number(lastInsertId) > 20_000)
    })

    await t.test('a database that has tables is left alone', async () => {
      const { code, err } = await startImport(file, cluster.addresses, 'shop')[1]
      assert.equal(code, 1)
      assert.match(err, /the database has tables already \(\w+\): nothing is overwritten/)
    })

    async function position(): Promise<number> {
      const { rows } = await client
        .query<{ position: number | null }>('SELECT max(position) AS position FROM lockstep_import')
        .catch(() => ({ rows: [] }))
      return rows[0]?.position ?? 0
    }
  },
)

test('a cluster on SQLite takes no dump of MySQL, and says so', async t => {
  const cluster = await startCluster(t, { nodes: 1 })
  const file = join(makeDirectory(t), 'dump.sql')
  writeFileSync(file, 'CREATE TABLE t (a INT);')
  const { code, err } = await startImport(file, cluster.addresses, 'shop')[1]
  assert.equal(code, 1)
  assert.match(err, /the data of this cluster are in SQLite/)
})
