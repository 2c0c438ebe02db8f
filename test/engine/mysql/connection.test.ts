import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Connection } from '../../../src/engine/mysql/connection.ts'
import { parseServerAddress } from '../../../src/engine/mysql/server-address.ts'
import { MariaDbServer, whyNoMariaDb } from '../../fixtures/mariadb-server.ts'

const missing = whyNoMariaDb()
const options = missing === undefined ? {} : { skip: missing }

test('limits that a server sets for everybody end none of our statements', options, async () => {
  const limits = ['max_statement_time', 'idle_transaction_timeout', 'wait_timeout']
  await using server = await MariaDbServer.start(limits.map(limit => `${limit}=7`))
  const connection = await Connection.open(parseServerAddress(server.url('')))
  try {
    const [ours = []] = await connection.rows(
      `SELECT ${limits.map(limit => `@@${limit} <> 7, @@global.${limit} = 7`).join(', ')}`,
    )
    assert.deepEqual(
      ours,
      limits.flatMap(() => [1n, 1n]),
    )
  } finally {
    connection.close()
  }
})
