/**
 * What a dump comes to on a cluster, step by step: its tables without their foreign keys, its rows
 * in pieces, then the foreign keys and the views. The same dump gives the same steps each time, so
 * that an import can go on where it was.
 */
import { DbError } from '../base/errors.ts'
import { chunkRows, insertHead, type RowRules } from './dump-rows.ts'
import { DumpSplitter, type DumpStatement } from './dump-splitter.ts'
import { type DumpTable, readTable, rulesOf } from './dump-tables.ts'
import { bracketed, nameAt, toText } from './dump-text.ts'

/** One request to the cluster. */
export type DumpStep = {
  readonly sql: string
  /** Bytes of the dump that are done with it. */
  readonly endBytes: number
} & (
  | { readonly type: 'table' | 'view'; readonly name: string }
  /** Another change of a table. */
  | { readonly type: 'change' }
  | {
      readonly type: 'rows'
      readonly table: string
      readonly params: readonly (string | Uint8Array)[]
      readonly rows: number
      /** It may leave rows out, or put them in place of others. */
      readonly isExact: boolean
    }
  /** Another statement that writes; nobody counts what it does. */
  | { readonly type: 'write' }
)

/** What is not imported, and why. */
export interface LeftOut {
  readonly what: string
  readonly why: string
}

export interface DumpOptions {
  /** Of the server that is to run it. */
  readonly isMariaDb: boolean
  readonly onLeftOut: (leftOut: LeftOut) => void
}

/** What has no effect on a cluster, or is done in another way. Nothing is there to be dropped. */
const PASSED_OVER =
  /^(?:set|lock|unlock|start\s+transaction|begin|commit|flush|analyze|optimize|drop)\b/i
const KEYS_OFF = /^alter\s+table\s+\S+\s+(?:disable|enable)\s+keys\s*$/i
const TIME_ZONE = /^set\s+(?:session\s+)?time_zone\s*=\s*'([^']*)'/i
const UTC = new Set(['+00:00', 'UTC'])
/** What may fill tables, or change them, in ways that can't be followed here. */
const UNKNOWN_WRITE = /^(?:load|truncate|rename|call|execute|prepare|import|with)\b/i
const NAMES = /^set\s+(?:names|character_set_client\s*=)\s*['"]?(\w+)/i
const TEXTS = new Set(['utf8', 'utf8mb3', 'utf8mb4', 'ascii'])
/** Whose it is may stand before what it is. */
const DEFINER = /definer\s*=\s*(?:`[^`]*`|\S+?)@(?:`[^`]*`|\S+)\s+/i
const OBJECT =
  /^create\s[^'"`(]*?\b(trigger|procedure|function|event|package|sequence|user|role|server)\b/i
const DATABASE = /^(?:use|create\s+(?:database|schema)(?:\s+if\s+not\s+exists)?)\s+/i
const WRITE = /^(?:insert|replace|update|delete)\b/i
const CHANGE = /^(?:alter\s+table|create\s+(?:unique\s+|fulltext\s+|spatial\s+)?index)\b/i
const TABLE = /^create\s+(?:or\s+replace\s+)?table\s+(?:if\s+not\s+exists\s+)?/i
const VIEW = /^create\s[\s\S]*?\bview\s+(?=`|\w)/i
const FOREIGN_KEY = /^(?:constraint\s+(?:`(?:[^`]|``)*`|\w+)?\s*)?foreign\s+key\b/i
const OTHER_ENGINE = /\bengine\s*=?\s*(?!innodb\b)(\w+)/gi
const OTHER_OPTIONS = /\b(?:page_checksum|transactional)\s*=\s*\d\s*/gi
/** A collation of MySQL 8 that MariaDB does not have, and what is nearest. */
const MYSQL_COLLATION = /utf8mb4_0900_(?:ai_ci|as_ci|as_cs|bin)\b/g
const NEAREST_COLLATION = 'utf8mb4_unicode_520_ci'
const WHY_NOT: Readonly<Record<string, string>> = {
  TRIGGER: 'triggers are not replicated; let the program do it, in the same request',
  EVENT: 'events are not replicated; let a program do it at its time',
  USER: 'accounts of the servers are the business of each node',
  ROLE: 'accounts of the servers are the business of each node',
  SEQUENCE: 'sequences are not replicated; use AUTO_INCREMENT',
}
const WHY_NO_ROUTINE = 'procedures and functions are not replicated; send their statements'

export class DumpSteps {
  readonly #options: DumpOptions
  readonly #splitter: DumpSplitter
  readonly #tables = new Map<string, DumpTable>()
  /** Definitions of foreign keys by table. */
  readonly #foreignKeys = new Map<string, string[]>()
  readonly #laterChanges: string[] = []
  readonly #views = new Map<string, string>()
  #database: string | undefined
  /** What the dump has said last of the time zone of its moments. */
  #isUtc = false
  #bytes = 0

  constructor(options: DumpOptions) {
    this.#options = options
    this.#splitter = new DumpSplitter(options.isMariaDb)
  }

  /** All steps in their order. Throws INVALID_REQUEST for what is no dump of one database. */
  async *of(dump: AsyncIterable<Uint8Array>): AsyncGenerator<DumpStep> {
    for await (const bytes of dump) {
      this.#bytes += bytes.length
      for (const statement of this.#splitter.push(bytes)) yield* this.#statement(statement)
    }
    for (const statement of this.#splitter.end()) yield* this.#statement(statement)
    if (this.#splitter.isCut) {
      const message = 'the dump is not whole: its last line, "-- Dump completed", is missing'
      throw new DbError('INVALID_REQUEST', message)
    }
    yield* this.#last()
  }

  *#statement({ text, endBytes }: DumpStatement): Generator<DumpStep> {
    const head = insertHead(text)
    if (head !== undefined) {
      const { table, verb, columns } = head
      const isExact = verb === 'INSERT'
      for (const chunk of chunkRows(text, head, this.#rules(table, columns))) {
        yield { type: 'rows', table, isExact, endBytes, ...chunk }
      }
    } else if (TABLE.test(text)) yield* this.#table(text, endBytes)
    else if (WRITE.test(text)) yield { type: 'write', sql: toText(text), endBytes }
    else if (CHANGE.test(text) && !KEYS_OFF.test(text)) {
      const sql = toText(text)
      // What it points to may come later.
      if (/\bforeign\s+key\b/i.test(text)) this.#laterChanges.push(sql)
      else yield { type: 'change', sql, endBytes }
    } else this.#setAside(text)
  }

  /** What is no step now. */
  #setAside(text: string): void {
    if (KEYS_OFF.test(text)) return
    if (PASSED_OVER.test(text)) this.#checkSetting(text)
    else if (DATABASE.test(text)) this.#useDatabase(text)
    else {
      const object = OBJECT.exec(text.replace(DEFINER, ''))?.[1]?.toUpperCase()
      if (object !== undefined) this.#leaveOut(object, text)
      else if (VIEW.test(text)) this.#view(text)
      else if (UNKNOWN_WRITE.test(text)) {
        const message = `the dump holds a statement whose effect is not known: ${shortened(text)}`
        throw new DbError('UNSUPPORTED', `${message}; make a dump with rows as INSERT`)
      } else {
        const why = 'it is no statement that makes tables or fills them'
        this.#options.onLeftOut({ what: shortened(text), why })
      }
    }
  }

  *#last(): Generator<DumpStep> {
    const endBytes = this.#bytes
    for (const [table, definitions] of this.#foreignKeys) {
      const added = definitions.map(definition => `ADD ${definition}`).join(', ')
      yield { type: 'change', sql: `ALTER TABLE ${quote(table)} ${added}`, endBytes }
    }
    for (const sql of this.#laterChanges) yield { type: 'change', sql, endBytes }
    for (const name of viewsInOrder(this.#views)) {
      yield { type: 'view', name, sql: this.#views.get(name) ?? '', endBytes }
    }
  }

  *#table(text: string, endBytes: number): Generator<DumpStep> {
    const { name, end } = nameAt(text, TABLE.exec(text)?.[0].length ?? 0)
    const open = text.indexOf('(', end)
    if (open < 0 || text.slice(end, open).trim() !== '') {
      yield { type: 'table', name, sql: toText(text), endBytes }
      return
    }
    const { parts, end: close } = bracketed(text, open)
    const kept = parts.filter(part => !FOREIGN_KEY.test(part))
    const foreignKeys = parts.filter(part => FOREIGN_KEY.test(part))
    if (foreignKeys.length > 0) this.#foreignKeys.set(name, foreignKeys.map(toText))
    this.#tables.set(name, readTable(name, kept))
    const options = this.#tableOptions(name, text.slice(close))
    const body = this.#collations(`table ${name}`, kept.join(',\n  '))
    const sql = `CREATE TABLE ${quote(name)} (\n  ${toText(body)}\n)${toText(options)}`
    yield { type: 'table', name, sql, endBytes }
  }

  #tableOptions(name: string, options: string): string {
    const converted = options.replaceAll(OTHER_ENGINE, (_whole, engine: string) => {
      const why = 'only InnoDB can roll back what it did; it becomes an InnoDB table'
      this.#options.onLeftOut({ what: `ENGINE=${engine} of table ${name}`, why })
      return 'ENGINE=InnoDB'
    })
    return this.#collations(`table ${name}`, converted.replaceAll(OTHER_OPTIONS, ''))
  }

  #collations(where: string, text: string): string {
    if (!this.#options.isMariaDb) return text
    const found = new Set<string>(text.match(MYSQL_COLLATION))
    for (const collation of found) {
      const why = `MariaDB does not have it; ${NEAREST_COLLATION} is taken`
      this.#options.onLeftOut({ what: `collation ${collation} of ${where}`, why })
    }
    return text.replaceAll(MYSQL_COLLATION, NEAREST_COLLATION)
  }

  /** A stand-in for a view has the same name, and comes first. */
  #view(text: string): void {
    const { name, end } = nameAt(text, VIEW.exec(text)?.[0].length ?? 0)
    const sql = `CREATE VIEW ${quote(name)} ${toText(text.slice(end))}`
    this.#views.delete(name)
    this.#views.set(name, this.#collations(`view ${name}`, sql))
  }

  #leaveOut(object: string, text: string): void {
    const after = new RegExp(`\\b${object}\\s+(?:if\\s+not\\s+exists\\s+)?`, 'i').exec(text)
    const at = (after?.index ?? 0) + (after?.[0].length ?? 0)
    const name = /^`|^\w/.test(text.slice(at)) ? nameAt(text, at).name : ''
    const why = WHY_NOT[object] ?? WHY_NO_ROUTINE
    this.#options.onLeftOut({ what: `${object.toLowerCase()} ${name}`, why })
  }

  #checkSetting(text: string): void {
    const zone = TIME_ZONE.exec(text)?.[1]
    if (zone !== undefined) this.#isUtc = UTC.has(zone)
    const charset = NAMES.exec(text)?.[1]?.toLowerCase()
    if (charset === undefined || TEXTS.has(charset)) return
    const message = `the dump is in ${charset}; make it with --default-character-set=utf8mb4`
    throw new DbError('INVALID_REQUEST', message)
  }

  #useDatabase(text: string): void {
    const { name } = nameAt(text, DATABASE.exec(text)?.[0].length ?? 0)
    this.#database ??= name
    if (this.#database === name) return
    const names = `${this.#database} and ${name}`
    const message = `the dump holds several databases, ${names}: make a dump of each`
    throw new DbError('INVALID_REQUEST', message)
  }

  #rules(name: string, given: readonly string[] | undefined): RowRules {
    const table = this.#tables.get(name)
    return table === undefined ? { generated: new Set() } : rulesOf(table, given, this.#isUtc)
  }
}

/** Views after those that they read. */
function viewsInOrder(views: ReadonlyMap<string, string>): string[] {
  const ordered = new Set<string>()
  const visiting = new Set<string>()
  const visit = (name: string): void => {
    if (ordered.has(name) || visiting.has(name)) return
    visiting.add(name)
    const sql = views.get(name) ?? ''
    for (const other of views.keys()) {
      if (other !== name && sql.includes(quote(other))) visit(other)
    }
    visiting.delete(name)
    ordered.add(name)
  }
  for (const name of views.keys()) visit(name)
  return [...ordered]
}

function quote(name: string): string {
  return `\`${name.replaceAll('`', '``')}\``
}

function shortened(text: string): string {
  const line = text.replaceAll(/\s+/g, ' ')
  return line.length > 60 ? `${line.slice(0, 60)}…` : line
}
