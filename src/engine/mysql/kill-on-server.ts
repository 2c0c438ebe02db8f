/** Ends a connection where it runs: a server goes on with a statement whose client is gone. */
import type { Clock } from '../../base/ports.ts'
import { Connection } from './connection.ts'
import type { ServerAddress } from './server-address.ts'

const KILL_MS_MAX = 5000

/** `id`: of the connection. Resolves when the server has heard it, or can't hear anything. */
export async function killOnServer(
  address: ServerAddress,
  clock: Clock,
  id: number,
): Promise<void> {
  try {
    const connection = await Connection.open(address)
    const timer = clock.setTimer(KILL_MS_MAX, () => connection.close())
    await connection.run(`KILL ${id}`)
    timer.cancel()
    connection.close()
  } catch {
    // The server is away, and with it what it ran.
  }
}
