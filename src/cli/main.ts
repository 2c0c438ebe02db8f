#!/usr/bin/env node
/** The program `lockstep`: its commands and what they print. The work is done elsewhere. */
import { Command, CommanderError } from 'commander'
import { DbError } from '../base/errors.ts'
import type { Change } from './member-commands.ts'
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
    // What the system refuses, such as to write on a full disk, is no bug that needs its stack.
    const isExpected = error instanceof DbError || (error instanceof Error && 'syscall' in error)
    if (!isExpected) throw error
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
  addMemberCommands(program)
  addBackupCommands(program)
  addImportCommand(program, setExitCode)
  return program
}

const ENGINE_OF_DATA =
  'For a node whose data are on a MySQL server: which, as for start. Better by LOCKSTEP_ENGINE.'

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
  addNodeOptions(start, [])
  start.action(async (given: Record<string, string>) => {
    const { start } = await import('./commands.ts')
    setExitCode(await start(given))
  })
  const join = program
    .command('join')
    .description('Let an empty directory become a member of a cluster that runs, and run it.')
    .argument('<addresses...>', 'Addresses of nodes of the cluster.')
    .option('--learner', 'Stay a learner: follow and serve reads, but never vote.')
  addNodeOptions(join, ['join'])
  join.action(async (addresses: string[], given: Record<string, string> & { learner?: true }) => {
    const { join } = await import('./commands.ts')
    setExitCode(await join(addresses, given))
  })
  program
    .command('recover')
    .description(
      'Last resort, when a majority of the voters is lost for good: makes the stopped node of a ' +
        'directory the only voter of a new history. Read docs/operations/recovery.md first.',
    )
    .requiredOption('--data <directory>', 'Directory of the node; it must not run.')
    .option(
      '--i-know-that-acknowledged-writes-may-be-lost',
      'Needed, so that nobody does it unseen.',
    )
    .option('--engine <engine>', ENGINE_OF_DATA)
    .option(
      '--although-its-data-were-found-wrong',
      'Recover a node of which a majority found that it computed something else: its data become ' +
        'the truth.',
    )
    .action(async (given: RecoverFlags) => {
      const { recoverNode } = await import('./commands.ts')
      await recoverNode(given)
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

function addNodeOptions(command: Command, except: readonly string[]): void {
  command.option('--config <file>', 'JSON file of options; the environment and flags win over it.')
  for (const [name, row] of Object.entries<OptionRow>(OPTIONS)) {
    // A secret on the command line is seen by everybody on the machine.
    const isSecret = row.type === 'text' && row.isSecret === true
    if (isSecret || except.includes(name)) continue
    command.option(`${flagName(name)} <${placeholder(row)}>`, describe(row))
  }
  command.addHelpText('after', '\nThe cluster secret is read from LOCKSTEP_SECRET or the file.')
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
    .command('top')
    .description('Watch where the time of writes goes: a line for each node and look.')
    .option(...nodes)
    .option('--interval-ms <ms>', 'Time between two looks.', '1000')
    .option('--once', 'One look, and end.')
    .option('--json', 'A line of JSON for each look.')
    .action(async (given: TopFlags) => {
      const { top } = await import('./top.ts')
      const { nodes, intervalMs, once, json } = given
      await top({ nodes, intervalMs, isOnce: once === true, isJson: json === true })
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
}

function addBackupCommands(program: Command): void {
  const nodes = ['--nodes <addresses>', 'Some nodes of the cluster.', '127.0.0.1:7070'] as const
  program
    .command('backup')
    .description('Copy the data of a running cluster: plain files, all of one moment.')
    .argument(
      '<target>',
      'A file if it ends in .sqlite, .db or .sql, else a directory; not there yet.',
    )
    .option(...nodes)
    .option('--database <name>', 'Only this database.')
    .action(async (target: string, given: { nodes: string; database?: string }) => {
      const { backup } = await import('./backup.ts')
      await backup({ target, nodes: given.nodes, database: given.database })
    })
  program
    .command('restore')
    .description('Make a new cluster of one node from a backup. Then start it; others join it.')
    .argument('<source>', 'What lockstep backup made: a file or a directory.')
    .requiredOption('--data <directory>', 'An empty directory for the node.')
    .requiredOption('--node-id <id>', OPTIONS.nodeId.about)
    .option(
      '--database <name>',
      'Name for the database of a single file; else the name of the file.',
    )
    .option('--engine <engine>', ENGINE_OF_DATA)
    .action(async (source: string, given: RestoreFlags) => {
      const { restore } = await import('./restore.ts')
      const { engineOf } = await import('./settings.ts')
      const { data, nodeId, database } = given
      await restore({ source, data, nodeId, database, mysql: engineOf(given.engine) })
    })
}

function addImportCommand(program: Command, setExitCode: SetExitCode): void {
  program
    .command('import')
    .description(
      'Fill a new database of a cluster on MySQL servers from a dump of one server. Run again it ' +
        'goes on where it was. Read docs/operations/from-mysql.md.',
    )
    .argument('<file>', 'What mariadb-dump or mysqldump made of one database.')
    .requiredOption('--database <name>', 'Name of the database; not there yet, or empty.')
    .option('--nodes <addresses>', 'Some nodes of the cluster.', '127.0.0.1:7070')
    .action(async (file: string, given: { nodes: string; database: string }) => {
      const { importDump } = await import('./import.ts')
      const isWhole = await importDump({ file, nodes: given.nodes, database: given.database })
      if (!isWhole) setExitCode(EXIT_FAILED)
    })
}

function addMemberCommands(program: Command): void {
  const nodes = ['--nodes <addresses>', 'Some nodes of the cluster.', '127.0.0.1:7070'] as const
  const change = async (change: Change, given: { nodes: string }): Promise<void> => {
    const { changeMembers } = await import('./member-commands.ts')
    await changeMembers(change, given.nodes)
  }
  program
    .command('members')
    .description('Show who belongs to the cluster: voters, learners, the leader.')
    .option(...nodes)
    .option('--json', 'As JSON.')
    .action(async (given: { nodes: string; json?: true }) => {
      const { members } = await import('./member-commands.ts')
      await members(given.nodes, given.json === true)
    })
  program
    .command('trust')
    .description(
      'Say which node is right, when nodes computed different things and none is believed.',
    )
    .argument('<node>', 'Id of the node whose data counts.')
    .option(...nodes)
    .action(async (node: string, given: { nodes: string }) => {
      const { trust } = await import('./member-commands.ts')
      await trust(node, given.nodes)
    })
  for (const [action, about] of [
    ['remove', 'Remove a member for good. Its id and its data directory are not used again.'],
    ['promote', 'Make a learner a voter, as soon as it has caught up.'],
    ['demote', 'Make a voter a learner: it follows and serves reads, and votes no more.'],
  ] as const) {
    program
      .command(action)
      .description(about)
      .argument('<node>', 'Id of the node.')
      .option(...nodes)
      .action((node: string, given: { nodes: string }) => change({ action, node }, given))
  }
  program
    .command('replace')
    .description('Remove a voter and make a learner a voter in its place, in one step.')
    .argument('<old>', 'Id of the voter that goes; it may be dead.')
    .argument('<new>', 'Id of the learner that takes its place.')
    .option(...nodes)
    .action((remove: string, promote: string, given: { nodes: string }) =>
      change({ action: 'replace', remove, promote }, given),
    )
  program
    .command('transfer')
    .description('Hand leadership over, without failing a write.')
    .argument('[node]', 'Id of the voter to lead; the best other one if absent.')
    .option(...nodes)
    .action((node: string | undefined, given: { nodes: string }) =>
      change({ action: 'transfer', ...(node !== undefined && { node }) }, given),
    )
}

interface RestoreFlags {
  readonly data: string
  readonly nodeId: string
  readonly database?: string
  readonly engine?: string
}

interface RecoverFlags {
  readonly data: string
  readonly engine?: string
  readonly iKnowThatAcknowledgedWritesMayBeLost?: true
  readonly althoughItsDataWereFoundWrong?: true
}

interface TopFlags {
  readonly nodes: string
  readonly intervalMs: string
  readonly once?: true
  readonly json?: true
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
