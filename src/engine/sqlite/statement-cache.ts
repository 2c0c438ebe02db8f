/**
 * Prepared statements of one connection. A text of a single statement stays prepared while it is
 * used; a script's statements are prepared one after another, because each may need what the one
 * before it made.
 */
import type { DatabaseSync } from 'node:sqlite'
import { DbError } from '../../base/errors.ts'
import type { Actions, Authorizer } from './authorizer.ts'
import { SQL_LENGTH_MAX } from '../limits.ts'
import { PlainStatements } from './plain-statements.ts'
import type { PreparedStatement, StatementKind } from './prepared-statement.ts'
import { scanStatement } from './scan.ts'
import { nextToken, skipToStatement } from './tokens.ts'

const VIRTUAL_TABLES =
  "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL TABLE%'"
/** Texts longer than this are used once, as a rule, and not kept. */
const CACHED_LENGTH_MAX = 32 * 1024
/** Texts from here on are given to SQLite statement by statement. */
const SCRIPT_LENGTH = 4096
/** Each of two generations holds at most so many statements or units of text. */
const GENERATION_STATEMENTS = 500
const GENERATION_LENGTH = 1024 * 1024

export class StatementCache {
  readonly #database: DatabaseSync
  readonly #authorizer: Authorizer
  readonly #plain: PlainStatements
  /** Statements used since the last turn, and those used only before it. */
  #young = new Map<string, PreparedStatement>()
  #old = new Map<string, PreparedStatement>()
  #youngLength = 0
  #isConnected = false
  /** The last text that was too long to be kept, or a script's first statement. */
  #recentSql: string | undefined
  #recent: PreparedStatement | undefined

  constructor(database: DatabaseSync, authorizer: Authorizer) {
    this.#database = database
    this.#authorizer = authorizer
    this.#plain = new PlainStatements(database)
  }

  /** The first statement of a text. Throws `DbError`, or what SQLite throws. */
  first(sql: string): PreparedStatement {
    const young = this.#young.get(sql)
    if (young !== undefined) return young
    const old = this.#old.get(sql)
    if (old !== undefined) {
      this.#old.delete(sql)
      this.#keep(sql, old)
      return old
    }
    if (this.#recent !== undefined && sql === this.#recentSql) return this.#recent
    if (sql.length > SQL_LENGTH_MAX) throw tooLong(sql.length)
    if (sql.includes('\0')) throw new DbError('INVALID_REQUEST', 'the SQL holds a NUL character')
    const start = skipToStatement(sql, 0)
    if (start >= sql.length) throw new DbError('INVALID_REQUEST', 'the text holds no SQL statement')
    const prepared = this.#prepare(sql, start)
    if (prepared.next === undefined && sql.length <= CACHED_LENGTH_MAX) this.#keep(sql, prepared)
    else {
      this.#recent?.statement.close()
      this.#recentSql = sql
      this.#recent = prepared
    }
    return prepared
  }

  /** A text's only statement, if it is kept here and plain, as plain-statements.ts has it. */
  plain(sql: string): PreparedStatement | undefined {
    const young = this.#young.get(sql)
    const kept = young ?? this.#old.get(sql)
    if (kept === undefined) return undefined
    // Found out at its second use: many texts are used only once.
    kept.isPlain ??= this.#plain.has(kept)
    if (!kept.isPlain) return undefined
    return young ?? this.first(sql)
  }

  /**
   * The statement that begins at `offset` of a text, as `next` of the one before it said. The
   * caller closes it.
   */
  following(sql: string, offset: number): PreparedStatement {
    return this.#prepare(sql, offset)
  }

  /**
   * To be called when what tables there are has changed or changed back: what is known of the kept
   * statements may be true no longer.
   */
  clear(): void {
    for (const kept of this.#young.values()) kept.statement.close()
    for (const kept of this.#old.values()) kept.statement.close()
    this.#young.clear()
    this.#old.clear()
    this.#youngLength = 0
    this.#recent?.statement.close()
    this.#recent = undefined
    this.#isConnected = false
    this.#plain.clear()
  }

  /**
   * Makes SQLite connect to the virtual tables now. It would do so while it prepares the first
   * statement that names one; what the module prepares for itself then would be taken for the
   * client's, and a SELECT for a write.
   */
  #connectVirtualTables(): void {
    this.#isConnected = true
    const names = this.#database.prepare(VIRTUAL_TABLES)
    const rows = names.all() as unknown as readonly (readonly [string])[]
    names.close()
    for (const [name] of rows) {
      try {
        this.#database.prepare(`SELECT 1 FROM main."${name.replaceAll('"', '""')}"`).close()
      } catch {
        // A table that can't be connected to: whoever names it will hear of it.
      }
    }
  }

  #prepare(text: string, offset: number): PreparedStatement {
    if (!this.#isConnected) this.#connectVirtualTables()
    const firstWord = wordAt(text, offset)
    const end = statementEnd(text, offset, firstWord)
    const tail = offset === 0 && end === text.length ? text : text.slice(offset, end)
    const { value: statement, actions } = this.#authorizer.prepare(firstWord, () =>
      this.#database.prepare(tail),
    )
    const sql = statement.sourceSQL
    const scan = scanStatement(sql)
    if (scan.refusal !== undefined) {
      statement.close()
      throw new DbError('UNSUPPORTED', scan.refusal)
    }
    const next = skipToStatement(text, offset + sql.length)
    const isExplain = scan.firstWord === 'EXPLAIN'
    return {
      statement,
      sql,
      scan,
      kind: isExplain ? 'read' : kindOf(actions),
      inserts: actions.inserts && !isExplain,
      updates: actions.updates && !isExplain,
      modifies: actions.modifies && !isExplain,
      readsConnectionState: actions.readsConnectionState,
      tables: actions.tables,
      insertsInto: actions.insertsInto,
      isIndirect: actions.isIndirect,
      isExplain,
      columns: statement.columns().map(column => column.name),
      next: next < text.length ? next : undefined,
      isPlain: undefined,
    }
  }

  #keep(sql: string, prepared: PreparedStatement): void {
    const isFull =
      this.#young.size >= GENERATION_STATEMENTS || this.#youngLength >= GENERATION_LENGTH
    if (isFull) {
      for (const kept of this.#old.values()) kept.statement.close()
      this.#old = this.#young
      this.#young = new Map()
      this.#youngLength = 0
    }
    this.#young.set(sql, prepared)
    this.#youngLength += sql.length
  }
}

function wordAt(text: string, offset: number): string {
  const word = nextToken(text, offset)
  return word?.type === 'word' ? text.slice(word.start, word.end).toUpperCase() : ''
}

/**
 * Where what SQLite needs to see of a text ends. It copies all that it is given, so that a long
 * script given whole for each of its statements would cost its length squared.
 */
function statementEnd(text: string, offset: number, firstWord: string): number {
  // The body of a trigger has semicolons of its own.
  const mayBeTrigger = firstWord === 'CREATE' || firstWord === 'EXPLAIN'
  if (mayBeTrigger || text.length - offset < SCRIPT_LENGTH) return text.length
  let token = nextToken(text, offset)
  while (token !== undefined) {
    if (token.type === 'symbol' && text.charAt(token.start) === ';') return token.end
    token = nextToken(text, token.end)
  }
  return text.length
}

function kindOf(actions: Actions): StatementKind {
  if (actions.changesSchema) return 'schema'
  return actions.writes ? 'write' : 'read'
}

function tooLong(length: number): DbError {
  const message = `a SQL text has at most ${SQL_LENGTH_MAX} characters, this one has ${length}`
  return new DbError('TOO_LARGE', message, { details: { limit: SQL_LENGTH_MAX } })
}
