/** The engine over a real MariaDB server under the suite of all engines. */
import { basename } from 'node:path'
import { after, before, test } from 'node:test'
import { MysqlEngine } from '../../../src/engine/mysql/mysql-engine.ts'
import { parseServerAddress } from '../../../src/engine/mysql/server-address.ts'
import { SystemClock } from '../../../src/platform/clock.ts'
import { MariaDbServer, whyNoMariaDb } from '../../fixtures/mariadb-server.ts'
import type { Dialect } from '../dialect.ts'
import { testStatements } from '../engine-suite.ts'

const MARIADB: Dialect = {
  table: 'CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR(100) UNIQUE)',
  tellsGivenId: false,
  valueTable:
    'CREATE TABLE v (n BIGINT PRIMARY KEY, whole BIGINT, real_ DOUBLE, text_ LONGTEXT, ' +
    'bytes LONGBLOB)',
  valueColumn: value => {
    if (typeof value === 'bigint') return 'whole'
    if (typeof value === 'number') return 'real_'
    return typeof value === 'string' ? 'text_' : 'bytes'
  },
  numbers: count => `SELECT seq FROM seq_1_to_${count}`,
  wideRows: count =>
    `SELECT seq, CONCAT('row number ', seq), seq / 2e0 FROM seq_1_to_${count} ORDER BY seq`,
  largeValue: size => `SELECT REPEAT('x', ${size})`,
  insertFromJson:
    'INSERT INTO t SELECT id, id FROM JSON_TABLE(?, ' +
    "'$[*]' COLUMNS (id BIGINT PATH '$')) AS list ORDER BY id",
  timeAndChance: [
    'CREATE TABLE r (x VARCHAR(40), y TIMESTAMP(6) DEFAULT CURRENT_TIMESTAMP(6))',
    'INSERT INTO r (x) VALUES (RAND()), (UUID()), (UUID())',
  ],
  appendIdToName: 'UPDATE t SET name = CONCAT(name, id)',
  idTable: 'CREATE TABLE n (id BIGINT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(50) UNIQUE, b BIGINT)',
  chance: 'FLOOR(RAND() * 1e15)',
  moment: 'UNIX_TIMESTAMP()',
}

const missing = whyNoMariaDb()
if (missing !== undefined) {
  test('the engine over MariaDB', { skip: missing }, () => {})
} else {
  let server: MariaDbServer
  before(async () => {
    server = await MariaDbServer.start()
  })
  after(() => server.stop())

  testStatements(
    'MariaDB engine',
    directory => {
      // Each directory stands for a node; all of them share the server.
      const prefix = `${basename(directory)
        .replaceAll(/[^A-Za-z0-9]/g, '')
        .slice(-12)
        .toLowerCase()}_`
      const owner = { clusterId: 'c', nodeId: prefix, incarnation: 'i' }
      const address = parseServerAddress(server.url(`t${prefix}`))
      const clock = new SystemClock()
      return Promise.resolve(new MysqlEngine({ address, owner, clock, readersMax: 4, directory }))
    },
    MARIADB,
  )
}
