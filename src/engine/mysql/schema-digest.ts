/**
 * A digest of what a database looks like: its tables, views and triggers as the server shows them,
 * without what is one node's own. It is of now: definitions have no older versions.
 */
import { formatDigest, RowHash } from '../hash.ts'
import { LocalFault } from '../request-errors.ts'
import { type Command, runCommands } from './commands.ts'
import type { Connection } from './connection.ts'
import { quoteName, quoteText } from './render.ts'

/** Counters are not part of what a table looks like: rolled back inserts move them. */
const COUNTER = / AUTO_INCREMENT=\d+/g
/** Whose view it is: the account of this node. */
const DEFINER = /DEFINER=`[^`]*`@`[^`]*` /g

/** Of one database, by its name on the server. One that isn't there looks like nothing. */
export async function digestSchema(connection: Connection, server: string): Promise<string> {
  const digests = await digestSchemas(connection, [server])
  return digests.get(server) ?? ''
}

/** Of many databases, by their names on the server, in few ways there and back. */
export async function digestSchemas(
  connection: Connection,
  servers: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const hashes = new Map<string, RowHash>()
  for (const server of servers) {
    const hash = new RowHash()
    hash.reset()
    hashes.set(server, hash)
  }
  if (servers.length > 0) await addAll(connection, hashes)
  return new Map([...hashes].map(([server, hash]) => [server, formatDigest(hash.digest())]))
}

async function addAll(connection: Connection, hashes: ReadonlyMap<string, RowHash>): Promise<void> {
  const names = [...hashes.keys()].map(quoteText).join(', ')
  const tables = await connection.rows(
    'SELECT table_schema, table_name, table_type FROM information_schema.tables ' +
      `WHERE table_schema IN (${names})`,
  )
  const commands: Command[] = []
  for (const [server, name, type] of tables.toSorted(byNames)) {
    const hash = hashes.get(String(server))
    if (hash === undefined) continue
    const kind = type === 'VIEW' ? 'VIEW' : 'TABLE'
    commands.push({
      sql: `SHOW CREATE ${kind} ${quoteName(String(server))}.${quoteName(String(name))}`,
      take: ({ rows }) => hash.row([String(name), normalize(String(rows[0]?.[1]), String(server))]),
    })
  }
  const failure = await runCommands(connection, commands)
  if (failure !== undefined) {
    throw new LocalFault({ code: 'NODE_FAULT', message: failure.error.message })
  }
  // There are none, unless somebody made them behind the node's back.
  const triggers = await connection.rows(
    'SELECT trigger_schema, trigger_name, event_object_table, action_timing, ' +
      'event_manipulation, action_statement FROM information_schema.triggers ' +
      `WHERE trigger_schema IN (${names})`,
  )
  for (const [server, ...rest] of triggers.toSorted(byNames)) {
    const texts = rest.map(text => normalize(String(text), String(server)))
    hashes.get(String(server))?.row(['trigger', ...texts])
  }
}

/** Without what is this node's own: its names, its account, its counters. */
function normalize(definition: string, server: string): string {
  return definition
    .replaceAll(`${quoteName(server)}.`, '')
    .replaceAll(COUNTER, '')
    .replaceAll(DEFINER, '')
}

function byNames(a: readonly unknown[], b: readonly unknown[]): number {
  const [left, right] = [a, b].map(([server, name]) => `${String(server)}/${String(name)}`)
  return (left ?? '') < (right ?? '') ? -1 : 1
}
