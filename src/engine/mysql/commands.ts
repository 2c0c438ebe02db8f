/**
 * Commands for the server, sent many in a packet: one way there and back for all of them, up to the
 * first that fails.
 */
import type { Answer, Connection, RowLimits } from './connection.ts'
import type { ServerError } from './mysql-errors.ts'

/** One statement of the server, and who takes its answer. */
export interface Command {
  readonly sql: string
  readonly take?: (answer: Answer) => void
}

/** A command that failed: those before it were run, those after it were not. */
export interface CommandFailure {
  readonly at: number
  readonly error: ServerError
}

/** Characters that go in one packet, unless one command alone is longer. */
const PACKET_LENGTH = 256 * 1024

/** Runs commands in order. Rejects with SERVER_DOWN when the connection is lost. */
export async function runCommands(
  connection: Connection,
  commands: readonly Command[],
  limits?: RowLimits,
): Promise<CommandFailure | undefined> {
  for (let from = 0; from < commands.length;) {
    const end = packetEnd(commands, from)
    const packet = commands.slice(from, end)
    const { answers, error } = await connection.run(packet.map(({ sql }) => sql).join(';'), limits)
    for (const [at, answer] of answers.entries()) packet[at]?.take?.(answer)
    if (error !== undefined) return { at: from + answers.length, error }
    from = end
  }
  return undefined
}

function packetEnd(commands: readonly Command[], from: number): number {
  let length = 0
  let end = from
  for (; end < commands.length; end++) {
    length += commands[end]?.sql.length ?? 0
    if (end > from && length > PACKET_LENGTH) break
  }
  return end
}
