#!/usr/bin/env node
/** The program `lockstep`: its commands and what they print. The work is done elsewhere. */
import { Command, CommanderError } from 'commander'
import { DbError } from '../base/errors.ts'
import { flagName, OPTIONS, type OptionRow } from './options.ts'

const EXIT_FAILED = 1
const EXIT_USAGE = 2
const NODE_MAJOR_MIN = 26

/** Runs the program with its arguments and gives its exit code. */
async function main(args: readonly string[]): Promise<number> {
  const [major] = process.versions.node.split('.')
  if (Number(major) < NODE_MAJOR_MIN) {
    const needed = `Node ${NODE_MAJOR_MIN} or newer is needed, this is ${process.version}`
    process.stderr.write(`lockstep: ${needed}; run it by "npm run lockstep" or "npx lockstep"\n`)
    return EXIT_USAGE
  }
  let exitCode = 0
  const program = createProgram(code => {
    exitCode = code
  })
  try {
    await program.parseAsync([...args], { from: 'user' })
    return exitCode
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE
    if (!(error instanceof DbError)) throw error
    process.stderr.write(`lockstep: ${error.message}\n`)
    return EXIT_FAILED
  }
}

type SetExitCode = (code: number) => void

function createProgram(setExitCode: SetExitCode): Command {
  const program = new Command('lockstep')
  program.description('A replicated SQL database server.').exitOverride()
  program.configureHelp({ sortSubcommands: false })
  addNodeCommands(program, setExitCode)
  addClientCommands(program)
  return program
}

function addNodeCommands(program: Command, setExitCode: SetExitCode): void {
  program
    .command('init')
    .description('Make a cluster, once: its id and its secret. Then start its nodes.')
    .requiredOption('--data <directory>', OPTIONS.data.about)
    .requiredOption('--node-id <id>', OPTIONS.nodeId.about)
    .option('--voters <count>', 'How many nodes found the cluster together: 1 to 7.', '3')
    .action(async (given: { data: string; nodeId: string; voters: string }) => {
      const { init } = await import('./commands.ts')
      init(given)
    })
  const start = program.command('start').description('Run one node until SIGTERM or SIGINT.')
  start.option('--config <file>', 'JSON file of options; the environment and flags win over it.')
  for (const [name, row] of Object.entries<OptionRow>(OPTIONS)) {
    // A secret on the command line is seen by everybody on the machine.
    if (row.type === 'text' && row.isSecret === true) continue
    start.option(`${flagName(name)} <${placeholder(row)}>`, describe(row))
  }
  start.addHelpText('after', '\nThe cluster secret is read from LOCKSTEP_SECRET or the file.')
  start.action(async (given: Record<string, string>) => {
    const { start } = await import('./commands.ts')
    setExitCode(await start(given))
  })
  program
    .command('dev')
    .description('Run a cluster on this machine for trying things out, until SIGINT.')
    .option('--nodes <count>', 'How many nodes.', '3')
    .option('--data <directory>', 'An empty directory to keep; else one that is removed.')
    .allowExcessArguments(true)
    .argument('[options...]', 'After --: options of lockstep start for every node.')
    .action(async (options: string[], given: { nodes: string; data?: string }) => {
      const { dev } = await import('./dev.ts')
      await dev({ ...given, options })
    })
}

function addClientCommands(program: Command): void {
  const nodes = ['--nodes <addresses>', 'Some nodes of the cluster.', '127.0.0.1:7070'] as const
  program
    .command('status')
    .description('Show every node: role, term, indexes, lag, health.')
    .option(...nodes)
    .option('--json', 'As JSON.')
    .action(async (given: { nodes: string; json?: true }) => {
      const { status } = await import('./client-commands.ts')
      await status(given.nodes, given.json === true)
    })
  program
    .command('sql')
    .description('Run one SQL statement. Values for its question marks may follow.')
    .argument('<statement>')
    .argument('[values...]', 'Numbers, null, or text.')
    .option(...nodes)
    .option('--database <name>', 'Name of the database.', 'main')
    .option('--consistency <level>', 'Of a read: linearizable or local.', 'linearizable')
    .option('--json', 'As JSON.')
    .action(async (statement: string, values: string[], given: SqlFlags) => {
      const { runSql } = await import('./client-commands.ts')
      await runSql(statement, values, { ...given, json: given.json === true })
    })
  program
    .command('transfer')
    .description('Ask the leader to hand over to the most advanced other voter.')
    .option(...nodes)
    .action(async (given: { nodes: string }) => {
      const { transfer } = await import('./client-commands.ts')
      await transfer(given.nodes)
    })
}

interface SqlFlags {
  readonly nodes: string
  readonly database: string
  readonly consistency: string
  readonly json?: true
}

function placeholder(row: OptionRow): string {
  if (row.type === 'whole') return row.unit
  if (row.type === 'choice') return row.choices.join('|')
  return row.type === 'list' ? 'a,b' : 'text'
}

function describe(row: OptionRow): string {
  const standard = String(row.default)
  return standard === '' ? row.about : `${row.about} (default: ${standard})`
}

process.exit(await main(process.argv.slice(2)))
