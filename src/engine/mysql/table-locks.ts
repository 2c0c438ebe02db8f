/**
 * What stands in the way of a schema change: whoever has read its table and not let go of it. The
 * node's own readers give way when it has waited a moment; of others it is told who they may be.
 */
import { setTimeout as wait } from 'node:timers/promises'
import { Connection } from './connection.ts'
import { quoteText } from './render.ts'
import type { Session } from './session.ts'

const LOOK_MS = 500
/** So many looks in a row must find it waiting: most readers are done by then. */
const LOOKS_FOR_NAMED = 2
/** A table may be read through a view, by a text that doesn't name it. */
const LOOKS_FOR_ALL = 4
const TOLD_MAX = 5
/** The lock was not given within `lock_wait_timeout`. */
export const LOCK_NOT_GIVEN = 1205

/**
 * Runs a schema change of a database of the server, and has own readers of what it waits for give
 * way meanwhile.
 */
export async function withWay<Result>(
  session: Session,
  server: string,
  run: () => Promise<Result>,
): Promise<Result> {
  const end = new AbortController()
  void clearTheWay(session, server, end.signal)
  try {
    return await run()
  } finally {
    end.abort()
  }
}

async function clearTheWay(session: Session, server: string, signal: AbortSignal): Promise<void> {
  const { address, changes, connection } = session
  let looking: Connection | undefined
  try {
    for (let found = 0; ;) {
      await wait(LOOK_MS, undefined, { signal })
      looking ??= await Connection.open(address)
      const [[state] = []] = await looking.rows(
        `SELECT state FROM information_schema.processlist WHERE id = ${connection.id}`,
      )
      found = /^Waiting for .*metadata lock/.test(String(state)) ? found + 1 : 0
      if (found === LOOKS_FOR_NAMED) changes.askForWay(server, 'who-names-it')
      if (found === LOOKS_FOR_ALL) changes.askForWay(server, 'everybody')
    }
  } catch {
    // It has ended; or the server is away, which is heard by whoever waits for the change.
  } finally {
    looking?.close()
  }
}

/**
 * Who may have a table of the database that was not given in time, in words: an idle client that
 * has not ended its transaction, as a rule.
 */
export async function describeHolders(
  { connection, changes }: Session,
  server: string,
): Promise<string> {
  const own = [connection.id, ...changes.readers].join(', ')
  const { answers, error } = await connection.run(
    'SELECT p.id, p.user, p.host, p.command, p.time FROM information_schema.processlist AS p ' +
      'LEFT JOIN information_schema.innodb_trx AS t ON t.trx_mysql_thread_id = p.id ' +
      `WHERE p.id NOT IN (${own}) AND (t.trx_id IS NOT NULL OR ` +
      `p.command = 'Query' AND p.db = ${quoteText(server)}) ORDER BY p.time DESC LIMIT ${TOLD_MAX}`,
  )
  const rows = answers.at(-1)?.rows ?? []
  if (error !== undefined || rows.length === 0) {
    return 'this account sees no open transaction; look at SHOW PROCESSLIST, and at LOCK TABLES'
  }
  const told = rows.map(row => {
    const [id, user, host, command, seconds] = row.map(String)
    return `connection ${id} of ${user}@${host} (${command} for ${seconds} s)`
  })
  return `a transaction is open on ${told.join(', ')}`
}
