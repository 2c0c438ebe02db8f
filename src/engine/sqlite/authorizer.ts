/**
 * What SQL may touch, decided by SQLite's authorizer while a statement is prepared: it classifies
 * the statement as reading or writing, and refuses what isn't the same on every node or isn't the
 * client's to touch.
 */
import type { DatabaseSync } from 'node:sqlite'
import { constants } from 'node:sqlite'
import { isReservedName } from './scan.ts'

/** What the connection's statements are for: `replicated` ones must give the same everywhere. */
export type Policy = 'replicated' | 'read-only'

/** What SQLite said a statement would do. */
export interface Actions {
  /** It changes something. */
  writes: boolean
  /** It changes what tables, indexes, views and triggers there are. */
  changesSchema: boolean
  /** The statement itself inserts rows, updates or deletes them; its triggers don't count. */
  inserts: boolean
  updates: boolean
  modifies: boolean
  /** It or a trigger asks for the state that a connection carries on, such as the last rowid. */
  readsConnectionState: boolean
  /** Tables and views that it, its triggers or its cascades insert into or update. */
  readonly tables: Set<string>
  /** What the statement itself inserts into; of several names the last. */
  insertsInto: string | undefined
  /** A trigger or a view has a part in it. */
  isIndirect: boolean
  /** Why it was refused. */
  refusal: string | undefined
}

type Mode =
  /** Our own statements. */
  | 'trusted'
  /** A client's statement is prepared. */
  | 'prepare'
  /** It runs: virtual tables prepare their own statements now. */
  | 'run'

/** Read-only pragmas that say the same on every node. */
const PRAGMAS = new Set([
  'collation_list',
  'compile_options',
  'encoding',
  'foreign_key_check',
  'foreign_key_list',
  'foreign_keys',
  'function_list',
  'index_info',
  'index_list',
  'index_xinfo',
  'module_list',
  'pragma_list',
  'table_info',
  'table_list',
  'table_xinfo',
])
/** Numbers in the file's header that clients may read and set; they roll back like rows. */
const HEADER_PRAGMAS = new Set(['application_id', 'user_version'])
/** What else may be asked where the answer is repeated by nobody. */
const LOCAL_PRAGMAS = new Set([
  'data_version',
  'freelist_count',
  'integrity_check',
  'page_count',
  'page_size',
  'quick_check',
  'schema_version',
])
/** What FTS5 and R*Tree ask while they run. */
const INTERNAL_PRAGMAS = new Set(['data_version', 'page_size'])
const MODULES = new Set(['fts5', 'fts5vocab', 'rtree', 'rtree_i32'])
const FUNCTIONS_REFUSED = new Set(['load_extension', 'total_changes', 'fts3_tokenizer'])
const CONNECTION_STATE = new Set(['last_insert_rowid', 'changes'])
/** Statements in which SQLite itself, and nobody else, reads where tables begin. */
const PAGE_WORDS = new Set(['ALTER', 'DROP'])
const DEFINITION_WORDS = new Set(['ALTER', 'CREATE', 'DROP', 'REINDEX'])

const NOT_REPLICATED = 'it is not the same on every node'
const ALLOWED = constants.SQLITE_OK
const DENIED = constants.SQLITE_DENY

/** Watches one connection. Every statement of a client goes through `prepare` and `run`. */
export class Authorizer {
  readonly #policy: Policy
  #mode: Mode = 'trusted'
  #actions: Actions = noActions()
  /** The statement defines something: SQLite itself then reads and writes its schema table. */
  #isDefinition = false
  #readsPages = false

  constructor(policy: Policy) {
    this.#policy = policy
  }

  /** From now on the connection asks here. */
  install(database: DatabaseSync): void {
    database.setAuthorizer((action, first, second, schema, source) =>
      this.#mode === 'trusted' ? ALLOWED : this.#authorize(action, first, second, schema, source),
    )
  }

  /** Runs `prepare` for a client's statement and tells what SQLite said about it. */
  prepare<T>(
    firstWord: string,
    prepare: () => T,
  ): { readonly value: T; readonly actions: Actions } {
    this.#actions = noActions()
    this.#isDefinition = DEFINITION_WORDS.has(firstWord)
    this.#readsPages = PAGE_WORDS.has(firstWord)
    this.#mode = 'prepare'
    try {
      const value = prepare()
      const actions = this.#actions
      // What is seen from now on, while it runs, must not change what was said of it.
      this.#actions = noActions()
      return { value, actions }
    } finally {
      this.#mode = 'trusted'
    }
  }

  /** A client's statement begins to run. */
  beginRun(): void {
    this.#mode = 'run'
  }

  /** It has ended; what is prepared now is ours. */
  endRun(): void {
    this.#mode = 'trusted'
  }

  /** Why the last statement was refused, if it was. */
  get refusal(): string | undefined {
    return this.#actions.refusal
  }

  #authorize(
    action: number,
    first: string | null,
    second: string | null,
    schema: string | null,
    source: string | null,
  ): number {
    if (source !== null) this.#actions.isIndirect = true
    switch (action) {
      case constants.SQLITE_SELECT:
      case constants.SQLITE_RECURSIVE:
        return ALLOWED
      case constants.SQLITE_READ:
        return this.#read(first ?? '', second ?? '', source)
      case constants.SQLITE_FUNCTION:
        return this.#function(second ?? '')
      case constants.SQLITE_INSERT:
      case constants.SQLITE_UPDATE:
      case constants.SQLITE_DELETE:
        return this.#change(action, first ?? '', schema, source)
      case constants.SQLITE_PRAGMA:
        return this.#pragma(first ?? '', second)
      case constants.SQLITE_TRANSACTION:
      case constants.SQLITE_SAVEPOINT:
        return this.#refuse('a request is a transaction of its own; leave out BEGIN and the like')
      case constants.SQLITE_ATTACH:
      case constants.SQLITE_DETACH:
        return this.#refuse(
          'a request works on one database; ATTACH, DETACH and VACUUM are refused',
        )
      case constants.SQLITE_ANALYZE:
        return this.#refuse(`ANALYZE changes how one node plans its queries; ${NOT_REPLICATED}`)
      default:
        return this.#define(action, first ?? '', second ?? '', schema)
    }
  }

  #read(table: string, column: string, source: string | null): number {
    if (isReservedName(table)) return this.#refuseReserved()
    if (this.#policy === 'read-only') return ALLOWED
    // Also while it runs: an FTS5 table may have it for its content.
    if (table === 'dbstat') return this.#refuse(`dbstat shows pages; ${NOT_REPLICATED}`)
    if (this.#mode === 'run') return ALLOWED
    if (table.startsWith('pragma_')) return this.#pragma(table.slice('pragma_'.length), null)
    // The page that a table begins on differs between nodes; it reads as NULL. A trigger that a
    // DROP sets off, by cascading, is the client's, and `source` names it.
    const isOwn = this.#readsPages && source === null
    const isPage = column === 'rootpage' && !isOwn && table.startsWith('sqlite_')
    return isPage ? constants.SQLITE_IGNORE : ALLOWED
  }

  #function(name: string): number {
    const lower = name.toLowerCase()
    if (CONNECTION_STATE.has(lower)) this.#actions.readsConnectionState = true
    if (!FUNCTIONS_REFUSED.has(lower)) return ALLOWED
    return this.#refuse(`the function ${lower} is refused; ${NOT_REPLICATED}`)
  }

  #change(action: number, table: string, schema: string | null, source: string | null): number {
    if (isReservedName(table)) return this.#refuseReserved()
    if (this.#mode === 'run') return ALLOWED
    const actions = this.#actions
    actions.writes = true
    // ALTER also looks through what is temporary; but what is added there would be a trigger on a
    // table of everybody's, and gone when this process ends.
    const isAdded = action === constants.SQLITE_INSERT
    if (schema === 'temp' && (isAdded || !this.#isDefinition)) return this.#refuseTemporary()
    if (action !== constants.SQLITE_DELETE && !table.startsWith('sqlite_')) {
      actions.tables.add(table)
    }
    if (source === null && !this.#isDefinition) {
      actions.modifies = true
      if (action === constants.SQLITE_UPDATE) actions.updates = true
      if (action === constants.SQLITE_INSERT) {
        actions.inserts = true
        actions.insertsInto = table
      }
    }
    return ALLOWED
  }

  #pragma(name: string, argument: string | null): number {
    const lower = name.toLowerCase()
    if (this.#mode === 'run' && INTERNAL_PRAGMAS.has(lower)) return ALLOWED
    if (PRAGMAS.has(lower)) {
      const isSetting = argument !== null && (lower === 'foreign_keys' || lower === 'encoding')
      // Foreign keys are always on, so that switching them on does nothing.
      if (!isSetting || /^(?:on|1|yes|true)$/i.test(argument)) return ALLOWED
      return this.#refuse(
        'PRAGMA foreign_keys=OFF is for rebuilding a table: make it the first statement of a ' +
          'request that holds the whole rebuild',
      )
    }
    if (HEADER_PRAGMAS.has(lower)) {
      if (argument !== null) this.#actions.writes = true
      return ALLOWED
    }
    if (this.#policy === 'read-only' && LOCAL_PRAGMAS.has(lower)) {
      return argument === null || lower.endsWith('_check')
        ? ALLOWED
        : this.#refuse(localPragma(lower))
    }
    return this.#refuse(localPragma(lower))
  }

  #define(action: number, first: string, second: string, schema: string | null): number {
    this.#actions.writes = true
    this.#actions.changesSchema = true
    switch (action) {
      case constants.SQLITE_CREATE_TEMP_INDEX:
      case constants.SQLITE_CREATE_TEMP_TABLE:
      case constants.SQLITE_CREATE_TEMP_TRIGGER:
      case constants.SQLITE_CREATE_TEMP_VIEW:
        return this.#refuseTemporary()
      case constants.SQLITE_CREATE_VTABLE:
        if (!MODULES.has(second.toLowerCase())) {
          return this.#refuse(`virtual tables of ${second} are refused; use fts5 or rtree`)
        }
        break
      case constants.SQLITE_ALTER_TABLE:
        // Here the schema comes first and the table second.
        return isReservedName(second) ? this.#refuseReserved() : ALLOWED
      default:
    }
    if (schema === 'temp') return this.#refuseTemporary()
    return isReservedName(first) || isReservedName(second) ? this.#refuseReserved() : ALLOWED
  }

  #refuseTemporary(): number {
    return this.#refuse(
      'temporary tables live in one connection of one node; use a table, and drop it afterwards',
    )
  }

  #refuseReserved(): number {
    return this.#refuse('names that begin with lockstep_ are kept for the server itself')
  }

  #refuse(why: string): number {
    this.#actions.refusal = why
    return DENIED
  }
}

function localPragma(name: string): string {
  return `PRAGMA ${name} is refused: it acts on one connection or file; ${NOT_REPLICATED}`
}

function noActions(): Actions {
  return {
    writes: false,
    changesSchema: false,
    inserts: false,
    updates: false,
    modifies: false,
    readsConnectionState: false,
    tables: new Set(),
    insertsInto: undefined,
    isIndirect: false,
    refusal: undefined,
  }
}
