/** What is asked of a server while no node runs on it, by those who prepare one. */
import { DbError } from '../../base/errors.ts'
import { Connection } from './connection.ts'
import { type Owner, ownDatabase, refuseStrangers } from './node-tables.ts'
import { deleteNoteSql } from './notes.ts'
import type { ServerAddress } from './server-address.ts'
import { checkServer } from './server-check.ts'

/**
 * Rejects with WRONG_DATA if the server has databases of the prefix: a new node is to begin there,
 * with databases of these names. Changes nothing.
 */
export async function refuseUsed(address: ServerAddress, names: readonly string[]): Promise<void> {
  await visit(address, async connection => {
    await checkServer(connection, address)
    const { prefix } = address
    const own = [ownDatabase(prefix), ...names.map(name => `${prefix}${name}`)]
    const wanted = new Set(own.map(name => name.toLowerCase()))
    const rows = await connection.rows('SHOW DATABASES')
    const found = rows.map(([name]) => String(name)).filter(name => wanted.has(name.toLowerCase()))
    if (found.length === 0) return
    throw new DbError(
      'WRONG_DATA',
      `the server has the databases ${found.join(', ')} already; choose another prefix, or drop ` +
        'them: nothing is overwritten',
    )
  })
}

/** Takes back the verdict that the data of a node that does not run are wrong. Can be repeated. */
export async function pardonData(address: ServerAddress, owner: Owner): Promise<void> {
  await visit(address, async connection => {
    const isThere = await refuseStrangers(connection, address.prefix, owner)
    if (isThere) await connection.expect(deleteNoteSql(address.prefix, 'condemned'))
  })
}

async function visit(
  address: ServerAddress,
  act: (connection: Connection) => Promise<void>,
): Promise<void> {
  const connection = await Connection.open(address)
  try {
    await act(connection)
  } finally {
    connection.close()
  }
}
