/**
 * One writer for a prefix: a lock of the server that ends with its connection. Who holds it is an
 * earlier life of the same node, whose connection the server has not given up yet, and is ended.
 */
import { DbError } from '../../base/errors.ts'
import type { Connection } from './connection.ts'
import { quoteText } from './render.ts'

const WAIT_SECONDS = 10

/** Takes the lock. Rejects with NODE_FAULT if whoever has it can't be ended. */
export async function takeWriterLock(connection: Connection, prefix: string): Promise<void> {
  const name = quoteText(`lockstep.${prefix}`)
  if (await take(connection, name, 0)) return
  const [[holder] = []] = await connection.rows(`SELECT IS_USED_LOCK(${name})`)
  // It may end by itself meanwhile: that is no failure.
  if (typeof holder === 'bigint') await connection.run(`KILL ${holder}`)
  if (await take(connection, name, WAIT_SECONDS)) return
  const message = `another connection (${String(holder)}) of this node still writes on the server`
  throw new DbError('NODE_FAULT', message)
}

async function take(connection: Connection, name: string, seconds: number): Promise<boolean> {
  const [[isTaken] = []] = await connection.rows(`SELECT GET_LOCK(${name}, ${seconds})`)
  return isTaken === 1n
}
