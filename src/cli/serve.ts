/**
 * Runs one node until it is told to stop. What a node can't survive ends the process here, with its
 * reason as the last line: a wrong node is worse than a dead one.
 */
import { DbError } from '../base/errors.ts'
import type { Logger } from '../base/ports.ts'
import { Node } from './node.ts'
import type { NodeSettings } from './node-settings.ts'

const EXIT_FAILED = 1

/** Resolves with the exit code after a clean stop; ends the process itself if the node must die. */
export async function serve(settings: NodeSettings, logger: Logger): Promise<number> {
  const die = (error: unknown): never => {
    logger.error({ error }, 'the node ends: it can not go on')
    // Straight to the descriptor: a logger in the background may not get to write any more.
    const text = error instanceof DbError ? error.message : stackOf(error)
    process.stderr.write(`lockstep: ${text}\n`)
    process.exit(EXIT_FAILED)
  }
  process.on('uncaughtException', die)
  process.on('unhandledRejection', die)
  const node = await Node.start(settings, logger, (reason, code = 'INTERNAL') =>
    die(new DbError(code, reason)),
  )
  const stopped = untilSignal(logger).then(() => node.stop())
  try {
    await Promise.race([node.run().then(() => stopped), stopped])
  } catch (error) {
    // Refused for good by the others, or a disk that can't be used: nothing was served yet.
    if (!(error instanceof DbError)) return die(error)
    await node.stop()
    throw error
  }
  return 0
}

/** Of a bug; an expected failure is told by its sentence, and its stack stands in the logger. */
function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

async function untilSignal(logger: Logger): Promise<void> {
  const signal = await new Promise<string>(resolve => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => resolve(name))
  })
  logger.info({ signal }, 'stopping')
}
