/** The commands that make and run a node. */
import { DbError } from '../base/errors.ts'
import { SystemClock } from '../platform/clock.ts'
import { createLogger, stderrDestination } from '../platform/logger.ts'
import { SystemRandom } from '../platform/random.ts'
import { DataLock } from './data-lock.ts'
import { makeDataDirectory } from './identity.ts'
import { initCluster } from './init.ts'
import { readOptions } from './options.ts'
import { invocation } from './program.ts'
import { askNode, recover } from './recover.ts'
import { serve } from './serve.ts'
import { engineOf, loggerSettings, nodeSettings } from './settings.ts'

/** `lockstep init`: founds a cluster in an empty directory and says how to go on. */
export function init(given: { data: string; nodeId: string; voters: string }): void {
  const { data: directory, nodeId } = given
  const secret = process.env['LOCKSTEP_SECRET']
  makeDataDirectory(directory)
  const lock = DataLock.acquire(directory)
  try {
    const identity = initCluster({
      directory,
      nodeId,
      voters: parseCount('--voters', given.voters),
      ...(secret === undefined || secret === '' ? {} : { secret }),
      random: new SystemRandom(),
    })
    const { clusterId, voters } = identity
    const start = `${invocation()} start --data ${directory} --node-id ${nodeId} --listen HOST:PORT`
    process.stdout.write(`Cluster ${clusterId} waits for its ${voters} voters. Start the first:\n`)
    process.stdout.write(`  ${start}\n`)
    if (voters > 1) {
      process.stdout.write(
        'and the others, each with its own directory, a copy of the file "secret" in it, and\n' +
          '  --join HOST:PORT of the first.\n',
      )
    }
  } finally {
    lock.release()
  }
}

/** `lockstep start`: runs one node; resolves with the exit code. */
export async function start(given: Readonly<Record<string, string | undefined>>): Promise<number> {
  return run(given, undefined)
}

/** `lockstep join`: the same for an empty directory that becomes a member, or is on its way. */
export async function join(
  addresses: readonly string[],
  given: Readonly<Record<string, string | undefined>> & { readonly learner?: unknown },
): Promise<number> {
  const { learner, ...rest } = given
  const list = addresses.flatMap(text => text.split(','))
  return run({ ...rest, join: list.join(',') }, learner === true ? 'learner' : 'voter')
}

async function run(
  given: Readonly<Record<string, string | undefined>>,
  joinAs: 'voter' | 'learner' | undefined,
): Promise<number> {
  const { config, ...flags } = given
  const options = readOptions({ flags, env: process.env, file: config })
  const settings = { ...nodeSettings(options), ...(joinAs !== undefined && { joinAs }) }
  const facts = { nodeId: settings.nodeId }
  const destination = stderrDestination()
  const hasColors = process.stderr.isTTY
  const logger = createLogger({ ...loggerSettings(options), facts, destination, hasColors })
  return serve(settings, logger)
}

/** `lockstep recover`: makes a node that is left the only voter, if a majority is lost. */
export async function recoverNode(given: {
  readonly data: string
  readonly engine?: string
  readonly iKnowThatAcknowledgedWritesMayBeLost?: true
  readonly althoughItsDataWereFoundWrong?: true
}): Promise<void> {
  if (given.iKnowThatAcknowledgedWritesMayBeLost !== true) {
    throw new DbError(
      'INVALID_REQUEST',
      'this gives up what only the lost nodes had: read docs/operations/recovery.md, and if a ' +
        'majority of the voters is lost for good, run it again with ' +
        '--i-know-that-acknowledged-writes-may-be-lost',
    )
  }
  const print = (line: string): void => {
    process.stdout.write(`${line}\n`)
  }
  await recover({
    directory: given.data,
    mysql: engineOf(given.engine),
    isPardoned: given.althoughItsDataWereFoundWrong === true,
    random: new SystemRandom(),
    clock: new SystemClock(),
    ask: askNode,
    print,
  })
}

/** A whole number of the command line. Throws INVALID_REQUEST. */
function parseCount(flag: string, text: string): number {
  if (/^\d{1,4}$/.test(text)) return Number(text)
  throw new DbError('INVALID_REQUEST', `${flag} must be a whole number, not ${text}`)
}
