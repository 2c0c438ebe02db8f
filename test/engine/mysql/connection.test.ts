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

/** What a server may have for everybody, and no statement may depend on. */
const ODD: readonly (readonly [name: string, value: string])[] = [
  ['sql_select_limit', '3'],
  ['sql_mode', "'ANSI'"],
  ['sql_safe_updates', '1'],
  ['sql_quote_show_create', '0'],
  ['max_sort_length', '64'],
  ['lc_messages', "'de_DE'"],
  ['lc_time_names', "'de_DE'"],
  ['time_zone', "'+05:00'"],
  ['old_mode', "''"],
  ['innodb_strict_mode', '0'],
  ['check_constraint_checks', '0'],
  ['explicit_defaults_for_timestamp', '0'],
  ['alter_algorithm', "'NOCOPY'"],
  ['default_regex_flags', "'EXTENDED'"],
  ['system_versioning_alter_history', "'KEEP'"],
  ['max_recursive_iterations', '5'],
  ['tx_isolation', "'READ-COMMITTED'"],
  ['tx_read_only', '1'],
  ['completion_type', "'CHAIN'"],
  ['autocommit', '0'],
  ['collation_connection', "'latin1_bin'"],
  ['default_storage_engine', "'MyISAM'"],
  ['div_precision_increment', '9'],
  ['group_concat_max_len', '10'],
]

test('what a server has for everybody changes no statement of ours', options, async () => {
  await using server = await MariaDbServer.start()
  const address = parseServerAddress(server.url(''))
  const names = ODD.map(([name]) => `@@${name}`).join(', ')
  const usual = await Connection.open(address)
  const [before = []] = await usual.rows(`SELECT ${names}`)
  await usual.expect(`SET ${ODD.map(([name, value]) => `GLOBAL ${name} = ${value}`).join(', ')}`)
  const connection = await Connection.open(address)
  const [after = []] = await connection.rows(`SELECT ${names}`)
  for (const [at, [name]] of ODD.entries()) assert.equal(after[at], before[at], name)
  usual.close()
  connection.close()
})
