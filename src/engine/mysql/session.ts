/**
 * The writer's connection with all that it stands on: the node's tables, the chance of the entry,
 * and which database is the current one.
 */
import type { RequestError } from '../engine.ts'
import { Chance } from '../chance.ts'
import { LocalFault } from '../request-errors.ts'
import { type Command, type CommandFailure, runCommands } from './commands.ts'
import type { Connection, RowLimits } from './connection.ts'
import { InsertTargets } from './insert-targets.ts'
import { classifyServerError } from './mysql-errors.ts'
import type { NodeTables } from './node-tables.ts'
import { quoteName } from './render.ts'
import type { ServerAddress } from './server-address.ts'
import type { TableChanges } from './table-changes.ts'

export class Session {
  readonly connection: Connection
  readonly tables: NodeTables
  readonly isMariaDb: boolean
  readonly changes: TableChanges
  readonly address: ServerAddress
  readonly chance = new Chance()
  readonly targets: InsertTargets
  #database = ''

  constructor(
    connection: Connection,
    tables: NodeTables,
    isMariaDb: boolean,
    changes: TableChanges,
    address: ServerAddress,
  ) {
    this.connection = connection
    this.tables = tables
    this.isMariaDb = isMariaDb
    this.changes = changes
    this.address = address
    this.targets = new InsertTargets(connection)
  }

  /** Begins the transaction of an entry: its moment, and its chance. */
  begin(nowMs: number, seed: Uint8Array): Command[] {
    this.chance.setSeed(seed)
    return [momentCommand(nowMs), { sql: 'START TRANSACTION' }]
  }

  /** The command that makes a database the current one; none if it is. */
  use(database: string): readonly Command[] {
    if (database === this.#database) return []
    this.#database = database
    return [{ sql: `USE ${quoteName(this.tables.serverName(database))}` }]
  }

  /** What was the current database may be gone, or the command for another one was not run. */
  forgetDatabase(): void {
    this.#database = ''
  }

  run(commands: readonly Command[], limits?: RowLimits): Promise<CommandFailure | undefined> {
    return runCommands(this.connection, commands, limits)
  }

  /** Runs commands of our own. Throws `LocalFault` if one fails. */
  async expect(...sql: readonly string[]): Promise<void> {
    const failure = await this.run(sql.map(each => ({ sql: each })))
    if (failure !== undefined) throw ownFault(failure)
  }

  async rollback(): Promise<void> {
    await this.expect('ROLLBACK')
  }
}

/** Sets what NOW() is, to the moment of an entry. */
export function momentCommand(nowMs: number): Command {
  return { sql: `SET timestamp = ${(nowMs / 1000).toFixed(3)}` }
}

/** A command of our own failed: this node's fault, whatever the server says. */
export function ownFault({ error }: CommandFailure): LocalFault {
  const failure = classifyServerError(error)
  const told: RequestError =
    failure.type === 'local' ? failure.error : { ...failure.error, code: 'NODE_FAULT' }
  return new LocalFault(told)
}
