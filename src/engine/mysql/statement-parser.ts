/**
 * One statement from its tokens: what it does, its text with places for values, and why it is
 * refused, if it is. It knows the words that matter and no grammar: what it can't tell apart is for
 * the server to judge.
 */
import {
  CALLED_BARE,
  REFUSED_ALWAYS,
  REFUSED_IN_SCHEMAS,
  REFUSED_IN_WRITES,
  REFUSED_SCHEMA_WORDS,
  REFUSED_VERBS,
  SCHEMA_OBJECTS,
} from './refusals.ts'
import { type InsertForm, readInsertForm } from './insert-form.ts'
import { databaseNamed } from './named-database.ts'
import { nameOf, type Token } from './tokens.ts'

/** What a statement does to the database. */
export type StatementKind = 'read' | 'write' | 'schema'

/** A piece of a statement's text, or what is to be put between two pieces. */
export type Piece =
  | string
  /** A value; by position if it has no name. */
  | { readonly type: 'parameter'; readonly name: string | undefined }
  /** An expression that gives a new UUID for each row, by the chance of the entry. */
  | { readonly type: 'uuid' }
  /** The name of the database as the cluster has it: on the server it has a prefix. */
  | { readonly type: 'database' }
  /** LAST_INSERT_ID() of what ran before, and how it is written. */
  | { readonly type: 'last-id'; readonly text: string }

/** What the text of one statement tells. */
export interface ParsedStatement {
  readonly kind: StatementKind
  readonly pieces: readonly Piece[]
  readonly positionalCount: number
  /** Names of the named parameters, each once. */
  readonly names: readonly string[]
  /** It draws chance: its seeds are set before it runs. */
  readonly usesChance: boolean
  /** It asks for LAST_INSERT_ID(), which begins at 0 in every request. */
  readonly asksForLastId: boolean
  /** It gives LAST_INSERT_ID(..) a value itself. */
  readonly setsLastId: boolean
  /** It writes the rows that a SELECT without an order gives. */
  readonly isUnorderedInsert: boolean
  /** An UPDATE that gives each of its rows another value, by chance or by count, in no order. */
  readonly isUnorderedDraw: boolean
  /** A write that gives rows back. */
  readonly returnsRows: boolean
  /** An INSERT or REPLACE: its rows may be given ids. */
  readonly isInsert: boolean
  /** An INSERT that updates a row whose key is there; and whether it may be of several rows. */
  readonly updatesDuplicates: 'no' | 'of-one-row' | 'of-many-rows'
  /** An INSERT IGNORE that may be of several rows. */
  readonly skipsSomeRows: boolean
  /** A SELECT that locks the rows it reads. */
  readonly locksRows: boolean
  /** Names that stand before a dot, in small letters: tables, aliases, or databases. */
  readonly qualifiers: ReadonlySet<string>
  /** What an INSERT of one row of plain values says before the row, and where the row begins. */
  readonly insert: { readonly form: InsertForm; readonly rowAt: number } | undefined
  /** Why it is refused, undefined if it isn't. */
  readonly refusal: string | undefined
}

const READING_VERBS = new Set(['SELECT', 'VALUES', 'SHOW', 'EXPLAIN', 'DESCRIBE', 'DESC'])
const WRITING_VERBS = new Set(['INSERT', 'REPLACE', 'UPDATE', 'DELETE'])
const SCHEMA_VERBS = new Set(['CREATE', 'ALTER', 'DROP', 'TRUNCATE', 'RENAME'])
/** What may stand between a schema verb and the kind of thing that it speaks of. */
const MODIFIERS = new Set(['OR', 'REPLACE', 'UNIQUE', 'FULLTEXT', 'SPATIAL', 'ONLINE', 'OFFLINE'])
const SHOWN =
  /^SHOW (?:(?:FULL )?(?:TABLES|COLUMNS|FIELDS)|INDEX|INDEXES|KEYS|CREATE (?:TABLE|VIEW))\b/
/** Behind these, what stands before a bracket is the name of a table, a column or an index. */
const BEFORE_NAMES = new Set([
  'INTO',
  'TABLE',
  'VIEW',
  'EXISTS',
  'REFERENCES',
  'KEY',
  'INDEX',
  'UNIQUE',
  'FULLTEXT',
  'SPATIAL',
  'IGNORE',
])
/** What may stand behind a column of a query. */
const AFTER_COLUMNS = new Set<string | undefined>([undefined, ',', 'FROM', 'LIMIT'])
/** What stands before the rows of an INSERT that gives them itself. */
const ROW_WORDS = new Set(['VALUES', 'VALUE', 'SET'])
/** What begins a list of rows, or puts several together. */
const QUERY_WORDS = new Set(['SELECT', 'UNION', 'EXCEPT', 'INTERSECT'])
const ORDER = new Set(['ORDER'])
const LIMIT_WORDS = new Set(['LIMIT', 'FETCH'])
const LIMIT_AT_RANDOM =
  'which rows a LIMIT leaves is not the same on every node without ORDER BY a unique key'
const KEYS_AT_RANDOM =
  'which of several rows with one key stays depends on the order in which they are selected, ' +
  'which is not the same on every node; add ORDER BY a unique key'
const DRAWS_AT_RANDOM =
  'RAND(), UUID() and LAST_INSERT_ID(..) give each row another value, in an order of the rows ' +
  'that is not the same on every node; make the values yourself, or use them in the rows of an ' +
  'INSERT, or behind SET in an UPDATE of one table'
const PORTIONS =
  'FOR PORTION OF makes rows with ids that nobody is told of; change and insert the rows yourself'
const VERSIONED =
  'SYSTEM VERSIONING keeps old rows, which are in no snapshot; keep them in a table of your own'
const IN_BACKTICKS = 'write a name that reads so in backticks'

export class StatementParser {
  readonly #sql: string
  readonly #tokens: readonly Token[]
  /** Words in capitals, other tokens as a sign of their kind. */
  readonly #words: readonly string[]
  /** How many brackets each token stands in. */
  readonly #depths: readonly number[]
  readonly #pieces: Piece[] = []
  #text = ''
  #positionalCount = 0
  readonly #names = new Set<string>()
  readonly #calls = new Set<string>()
  readonly #qualifiers = new Set<string>()
  /** Where something is called that gives another value at each call, in the order of the calls. */
  readonly #draws: number[] = []
  #hasVariable = false
  #setsLastId = false
  readonly #insertForm: InsertForm | undefined
  /** Where the row of an INSERT begins in the text that is put together. */
  #rowAt = 0

  /** `tokens`: of one statement, without its semicolon; at least one. */
  constructor(sql: string, tokens: readonly Token[]) {
    this.#sql = sql
    this.#tokens = tokens
    this.#words = tokens.map(token => this.#wordOf(token))
    this.#insertForm = readInsertForm(sql, tokens, this.#words)
    this.#depths = depthsOf(this.#words)
  }

  parse(): ParsedStatement {
    this.#takeTokens()
    const verb = this.#verb()
    const kind = kindOf(verb)
    const isInsert = verb === 'INSERT' || verb === 'REPLACE'
    return {
      kind,
      pieces: this.#pieces,
      positionalCount: this.#positionalCount,
      names: [...this.#names],
      usesChance: this.#calls.has('RAND') || this.#calls.has('UUID'),
      asksForLastId: this.#calls.has('LAST_INSERT_ID'),
      setsLastId: this.#setsLastId,
      isUnorderedInsert: isInsert && !this.#listsRows() && !this.#isOrdered(),
      isUnorderedDraw: verb === 'UPDATE' && this.#draws.length > 0 && !this.#ordersUpdate(),
      returnsRows: kind === 'write' && this.#has('RETURNING'),
      isInsert,
      updatesDuplicates: isInsert ? this.#updatesDuplicates() : 'no',
      skipsSomeRows: isInsert && this.#has('IGNORE') && this.#mayBeOfManyRows(),
      locksRows: this.#follows('FOR', ['UPDATE', 'SHARE']) || this.#follows('LOCK', ['IN']),
      qualifiers: this.#qualifiers,
      insert: this.#insertForm && { form: this.#insertForm, rowAt: this.#rowAt },
      refusal: this.#refusal(verb, kind),
    }
  }

  #wordOf(token: Token): string {
    if (token.type === 'word') return this.#sql.slice(token.start, token.end).toUpperCase()
    if (token.type === 'symbol') return this.#sql.charAt(token.start)
    return `<${token.type}>`
  }

  #has(word: string): boolean {
    return this.#words.includes(word)
  }

  #follows(word: string, next: readonly string[]): boolean {
    return this.#words.some((each, at) => each === word && next.includes(this.#words[at + 1] ?? ''))
  }

  /** The word that says what the statement does; behind brackets, and behind WITH. */
  #verb(): string {
    const first = this.#words.find(word => word !== '(') ?? ''
    if (first !== 'WITH') return first
    let depth = 0
    for (const word of this.#words) {
      if (word === '(') depth++
      else if (word === ')') depth--
      else if (depth === 0 && (word === 'SELECT' || WRITING_VERBS.has(word))) return word
    }
    return first
  }

  /** Whether an INSERT gives its rows itself, in their order. */
  #listsRows(): boolean {
    const outside = this.#outside()
    return !outside.includes('SELECT') && outside.some(word => ROW_WORDS.has(word))
  }

  #updatesDuplicates(): ParsedStatement['updatesDuplicates'] {
    if (!this.#follows('ON', ['DUPLICATE'])) return 'no'
    return this.#mayBeOfManyRows() ? 'of-many-rows' : 'of-one-row'
  }

  /** Rows that are listed stand in brackets, one behind the other. */
  #mayBeOfManyRows(): boolean {
    if (!this.#listsRows()) return true
    const outside = this.#outside()
    if (outside.includes('SET')) return false
    const from = outside.findIndex(word => ROW_WORDS.has(word))
    const end = outside.indexOf('ON', from)
    return outside.slice(from, end < 0 ? undefined : end).includes(',')
  }

  /** The words that stand in no brackets. */
  #outside(): readonly string[] {
    return this.#words.filter((_, at) => this.#depths[at] === 0)
  }

  /** Whether selected rows come in an order: that of a query inside, or of a window, is not it. */
  #isOrdered(): boolean {
    const depthsOf = (words: ReadonlySet<string>): readonly number[] =>
      this.#words.flatMap((word, at) => (words.has(word) ? [this.#depths[at] ?? 0] : []))
    const outermost = Math.min(...depthsOf(QUERY_WORDS))
    return depthsOf(ORDER).some(depth => depth <= outermost)
  }

  /** Whether some LIMIT takes the first of rows that have no order. */
  #limitsAtRandom(): boolean {
    return this.#words.some((word, at) => {
      if (!LIMIT_WORDS.has(word) || this.#words[at - 1] === '.') return false
      const depth = this.#depths[at] ?? 0
      for (let before = at - 1; before >= 0 && (this.#depths[before] ?? 0) >= depth; before--) {
        if (this.#depths[before] !== depth) continue
        if (this.#words[before] === 'ORDER') return false
        if (this.#words[before] === '(') break
      }
      return true
    })
  }

  /** Whether an UPDATE says in which order its rows come. */
  #ordersUpdate(): boolean {
    return this.#outside().includes('ORDER')
  }

  /**
   * Whether all that is drawn comes in an order that the statement tells: that of the rows that it
   * lists, or of those that an UPDATE of one table changes. Whatever a query goes through, and what
   * a condition looks at, comes as the server likes.
   */
  #drawsInTurn(verb: string): boolean {
    const isInQuery = (at: number): boolean => {
      for (let depth = this.#depths[at] ?? 0; depth > 0; depth--) {
        if (this.#isQuery(at, depth)) return true
      }
      return false
    }
    if (this.#draws.some(isInQuery)) return false
    if (verb !== 'UPDATE') return verb !== 'DELETE' && !this.#isQuery(0, 0)
    const outside = (word: string, at: number, sought: readonly string[]): boolean =>
      this.#depths[at] === 0 && sought.includes(word)
    const from = this.#words.findIndex((word, at) => outside(word, at, ['SET']))
    const end = this.#words.findIndex((word, at) => outside(word, at, ['WHERE', 'ORDER', 'LIMIT']))
    const isOfOneTable = !this.#words.slice(0, from).some(word => word === ',' || word === 'JOIN')
    return isOfOneTable && this.#draws.every(at => at > from && (end < 0 || at < end))
  }

  /** Whether the brackets of this depth around a place, or all of it, hold a query of tables. */
  #isQuery(at: number, depth: number): boolean {
    let [from, to] = [at, at]
    while (from > 0 && (this.#depths[from - 1] ?? 0) >= depth) from--
    while (to + 1 < this.#words.length && (this.#depths[to + 1] ?? 0) >= depth) to++
    const inside = this.#words.slice(from, to + 1)
    const has = (sought: string): boolean =>
      inside.some((word, place) => word === sought && this.#depths[from + place] === depth)
    return has('SELECT') && has('FROM')
  }

  /** Puts the text together, with what stands in place of some of it. */
  #takeTokens(): void {
    let end = this.#tokens[0]?.start ?? 0
    for (let at = 0; at < this.#tokens.length; at++) {
      const token = this.#tokens[at]
      if (token === undefined) break
      if (token.start > end) this.#text += this.#gap(end, token.start)
      end = token.end
      // No parameter stands before a row, so that this is all the text up to there.
      if (at === this.#insertForm?.rowToken) this.#rowAt = this.#text.length
      switch (token.type) {
        case 'parameter':
          this.#parameter(token)
          continue
        case 'variable':
          this.#hasVariable = true
          break
        case 'word':
        case 'quoted':
          this.#qualifier(token, at)
          break
        default:
      }
      const call = this.#called(token, at)
      if (call !== undefined) this.#calls.add(call)
      const setsLastId = call === 'LAST_INSERT_ID' && this.#words[at + 2] !== ')'
      this.#setsLastId ||= setsLastId
      if (setsLastId || call === 'RAND' || call === 'UUID') this.#draws.push(at)
      if (call === 'UUID' && this.#words[at + 2] === ')') {
        this.#push({ type: 'uuid' })
        at += 2
        end = this.#tokens[at]?.end ?? end
      } else if (isOfDatabase(call) && this.#words[at + 2] === ')') {
        this.#push({ type: 'database' })
        // A column is named by the text that was written.
        const isColumn = this.#words[at - 1] === 'SELECT' && AFTER_COLUMNS.has(this.#words[at + 3])
        if (isColumn) this.#text += ` AS \`${call}()\``
        at += 2
        end = this.#tokens[at]?.end ?? end
      } else if (call === 'LAST_INSERT_ID' && this.#words[at + 2] === ')') {
        at += 2
        end = this.#tokens[at]?.end ?? end
        this.#push({ type: 'last-id', text: this.#sql.slice(token.start, end) })
      } else if (call === 'SYSDATE') this.#text += 'NOW'
      else this.#text += this.#sql.slice(token.start, token.end)
    }
    if (this.#text !== '') this.#pieces.push(this.#text)
  }

  /** The function that a token calls. Its name may be in backticks, and tables may be named so. */
  #called(token: Token, at: number): string | undefined {
    const word = this.#words[at] ?? ''
    if (CALLED_BARE.has(word)) return word
    if (this.#words[at + 1] !== '(') return undefined
    if (token.type !== 'word' && token.type !== 'quoted') return undefined
    const before = this.#words[at - 1] ?? ''
    const isName = BEFORE_NAMES.has(before) || (at === 1 && WRITING_VERBS.has(before))
    const isIndexed = before === 'ON' && this.#words[0] === 'CREATE' && this.#has('INDEX')
    return isName || isIndexed ? undefined : nameOf(this.#sql, token).toUpperCase()
  }

  /** Blanks stay as they are, since they may be part of a column's name; comments go. */
  #gap(start: number, end: number): string {
    const gap = this.#sql.slice(start, end)
    return gap.trim() === '' ? gap : ' '
  }

  #push(piece: Piece): void {
    if (this.#text !== '') this.#pieces.push(this.#text)
    this.#text = ''
    this.#pieces.push(piece)
  }

  #parameter({ start, end }: Token): void {
    const name = end > start + 1 ? this.#sql.slice(start + 1, end) : undefined
    if (name === undefined) this.#positionalCount++
    else this.#names.add(name)
    this.#push({ type: 'parameter', name })
  }

  #qualifier(token: Token, at: number): void {
    if (this.#words[at + 1] !== '.' || this.#words[at - 1] === '.') return
    this.#qualifiers.add(nameOf(this.#sql, token).toLowerCase())
  }

  #refusal(verb: string, kind: StatementKind): string | undefined {
    const ofVerb = REFUSED_VERBS.get(verb)
    if (ofVerb !== undefined) return ofVerb
    const isKnown = READING_VERBS.has(verb) || WRITING_VERBS.has(verb) || SCHEMA_VERBS.has(verb)
    if (!isKnown) {
      return `${verb} is not replicated; what reads or writes rows and changes tables is`
    }
    if (this.#hasVariable) return 'variables belong to a connection, and connections are shared'
    const calls = this.#refusedCall(kind)
    if (calls !== undefined) return calls
    if (kind === 'schema') return this.#refusedSchema(verb)
    return kind === 'read' ? this.#refusedRead(verb) : this.#refusedWrite(verb)
  }

  #refusedCall(kind: StatementKind): string | undefined {
    for (const call of this.#calls) {
      const reason =
        REFUSED_ALWAYS.get(call) ??
        (kind === 'read' ? undefined : REFUSED_IN_WRITES.get(call)) ??
        (kind === 'schema' ? REFUSED_IN_SCHEMAS.get(call) : undefined)
      if (reason !== undefined) return `${call}: ${reason}`
    }
    return undefined
  }

  #refusedRead(verb: string): string | undefined {
    const text = this.#words.join(' ')
    if (verb === 'SHOW') {
      const places = this.#words.filter(word => word === 'FROM' || word === 'IN').length
      const isOfTables = /^SHOW (?:FULL )?TABLES/.test(text)
      if (SHOWN.test(text) && places <= (isOfTables ? 0 : 1)) return undefined
      return 'SHOW TABLES, COLUMNS, INDEX and CREATE TABLE, of this database, are all that is shown'
    }
    if (verb === 'EXPLAIN' && (this.#has('ANALYZE') || this.#has('CONNECTION'))) {
      return 'EXPLAIN of a statement is there; it is not run for it'
    }
    if (this.#has('INTO')) return 'SELECT ... INTO writes to one server; use the answer'
    return undefined
  }

  #refusedWrite(verb: string): string | undefined {
    if (this.#limitsAtRandom() || this.#follows('ROWS', ['EXAMINED'])) return LIMIT_AT_RANDOM
    if (this.#draws.length > 0 && !this.#drawsInTurn(verb)) return DRAWS_AT_RANDOM
    if (this.#follows('FOR', ['PORTION'])) return PORTIONS
    const isOfKeys = verb === 'REPLACE' || this.#has('IGNORE') || this.#follows('ON', ['DUPLICATE'])
    if (verb !== 'UPDATE' && verb !== 'DELETE' && isOfKeys && !this.#listsRows()) {
      if (!this.#isOrdered()) return KEYS_AT_RANDOM
    }
    // It keeps the rows before the one that failed, or waits in memory.
    if (this.#words[1] === 'DELAYED') return `${verb} DELAYED is no part of a transaction`
    return undefined
  }

  #refusedSchema(verb: string): string | undefined {
    const object = this.#object(verb)
    if (object === 'DATABASE' || object === 'SCHEMA') {
      return 'databases are made and dropped by create_db and drop_db'
    }
    if (!SCHEMA_OBJECTS.has(object)) {
      return `${verb} ${object} is not replicated; tables, indexes and views are`
    }
    for (const word of this.#words) {
      if (word === 'SELECT' && object === 'VIEW') continue
      const reason = REFUSED_SCHEMA_WORDS.get(word)
      if (reason !== undefined) return `${word}: ${reason}; ${IN_BACKTICKS}`
    }
    if (this.#follows('SYSTEM', ['VERSIONING'])) return VERSIONED
    const database = databaseNamed({
      words: this.#words,
      depths: this.#depths,
      nameAt: at => this.#nameAt(at),
    })
    if (database !== undefined) {
      return `a schema change is about its own database; leave out ${database} before the dot`
    }
    if (this.#follows('EXCHANGE', ['PARTITION'])) {
      return 'EXCHANGE PARTITION moves rows, and a second time moves them back; insert and delete'
    }
    if (object === 'VIEW' && this.#limitsAtRandom()) return LIMIT_AT_RANDOM
    if (this.#hasOtherEngine()) {
      return 'ENGINE: only InnoDB can roll back what it did; leave out ENGINE, or name InnoDB'
    }
    if ((verb === 'DROP' || verb === 'RENAME') && this.#hasListOfTables()) {
      return `${verb} of several tables is not one change; send one for each`
    }
    return undefined
  }

  #nameAt(at: number): string | undefined {
    const token = this.#tokens[at]
    if (token?.type !== 'word' && token?.type !== 'quoted') return undefined
    return nameOf(this.#sql, token).toLowerCase()
  }

  /** What kind of thing a schema change speaks of. */
  #object(verb: string): string {
    const next = this.#words.slice(1).find(word => !MODIFIERS.has(word)) ?? ''
    return verb === 'TRUNCATE' && next !== 'TABLE' ? 'TABLE' : next
  }

  #hasOtherEngine(): boolean {
    return this.#words.some((word, at) => {
      if (word !== 'ENGINE') return false
      const value = this.#tokens[this.#words[at + 1] === '=' ? at + 2 : at + 1]
      const name = value && this.#sql.slice(value.start, value.end).replaceAll(/['"`]/g, '')
      return name?.toUpperCase() !== 'INNODB'
    })
  }

  #hasListOfTables(): boolean {
    let depth = 0
    for (const word of this.#words) {
      if (word === '(') depth++
      else if (word === ')') depth--
      else if (word === ',' && depth === 0) return true
    }
    return false
  }
}

/** A bracket stands where its inside does. */
function depthsOf(words: readonly string[]): readonly number[] {
  let depth = 0
  return words.map(word => {
    if (word === '(') return ++depth
    return word === ')' ? depth-- : depth
  })
}

function isOfDatabase(call: string | undefined): boolean {
  return call === 'DATABASE' || call === 'SCHEMA'
}

function kindOf(verb: string): StatementKind {
  if (WRITING_VERBS.has(verb)) return 'write'
  return SCHEMA_VERBS.has(verb) ? 'schema' : 'read'
}
