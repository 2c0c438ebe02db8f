/**
 * What the text of one statement tells before SQLite sees it: its parameters, its first word, and
 * forms that a replicated, shared transaction can't carry.
 */
import type { Token } from './tokens.ts'
import { nextToken, unquote } from './tokens.ts'

export interface Scan {
  /** First word in capitals, such as SELECT or EXPLAIN. */
  readonly firstWord: string
  /** How many values `?` and `?NNN` ask for. */
  readonly positionalCount: number
  /** Names of the named parameters with their `:`, `@` or `$`, each once. */
  readonly parameterNames: readonly string[]
  /** The word FAIL is in it: rows may stay of a statement that fails. */
  readonly saysFail: boolean
  /** Why the statement is refused, a sentence with what to use instead. */
  readonly refusal: string | undefined
}

const ROLLBACK_FORM =
  'OR ROLLBACK, ON CONFLICT ROLLBACK and RAISE(ROLLBACK) would undo other requests as well; use ' +
  'ABORT, and write "rollback" in quotes where it is a name'
const DEFERRED =
  'deferred foreign keys would fail only at COMMIT, when the answer is already given; leave out ' +
  'INITIALLY DEFERRED'
const INDEX_OF_NOW =
  "an index can't hold what changes by itself; leave 'now' out, or store the moment in a column"
const VACUUM = 'VACUUM rewrites the file of one node; it is not replicated'
const RESERVED = 'names that begin with lockstep_ are kept for the server itself'
const TRANSACTION =
  'a request is a transaction: all its statements take effect or none; leave out BEGIN, COMMIT, ' +
  'ROLLBACK, SAVEPOINT and RELEASE'

const NOW_WORDS = new Set(['now', 'subsec', 'subsecond'])
const STATE_WORD = /last_insert_rowid|changes/i
const STATE_WORDS = new Set(['last_insert_rowid', 'changes'])
const TRANSACTION_WORDS = ['BEGIN', 'COMMIT', 'END', 'ROLLBACK', 'SAVEPOINT', 'RELEASE']

/** Scans the text of a single statement. */
export function scanStatement(sql: string): Scan {
  const scanner = new Scanner(sql)
  let token = nextToken(sql, 0)
  while (token !== undefined) {
    scanner.take(token)
    token = nextToken(sql, token.end)
  }
  return scanner
}

/** Whether a text asks for the last rowid or the change count that a connection carries on. */
export function asksForState(sql: string): boolean {
  // The expression rules out nearly all texts; the tokens rule out comments and strings.
  if (!STATE_WORD.test(sql)) return false
  for (let token = nextToken(sql, 0); token !== undefined; token = nextToken(sql, token.end)) {
    const isName = token.type === 'word' || token.type === 'quoted'
    if (isName && STATE_WORDS.has(unquote(sql, token).toLowerCase())) return true
  }
  return false
}

/** Whether a name is one of those that the server keeps for itself. */
export function isReservedName(name: string): boolean {
  return name.length >= 9 && name.slice(0, 9).toLowerCase() === 'lockstep_'
}

/** Looks at each token once, with the words before it. */
class Scanner implements Scan {
  firstWord = ''
  positionalCount = 0
  readonly parameterNames: string[] = []
  saysFail = false
  refusal: string | undefined
  readonly #sql: string
  #words = 0
  #isIndex = false
  /** The last tokens in capitals, newest last; '' before there are so many. */
  #last = ''
  #secondLast = ''
  #thirdLast = ''

  constructor(sql: string) {
    this.#sql = sql
  }

  take(token: Token): void {
    switch (token.type) {
      case 'parameter':
        this.#parameter(token)
        return this.#remember('?')
      case 'word':
        return this.#word(token)
      case 'quoted':
      case 'string':
        if (this.#isIndex && NOW_WORDS.has(unquote(this.#sql, token).toLowerCase())) {
          this.refusal = INDEX_OF_NOW
        }
        this.#name(unquote(this.#sql, token))
        return this.#remember('"')
      case 'number':
        return this.#remember('0')
      case 'symbol':
        return this.#remember(this.#sql.charAt(token.start))
      default:
    }
  }

  #word(token: Token): void {
    const text = this.#sql.slice(token.start, token.end)
    const word = text.toUpperCase()
    if (this.firstWord === '') {
      this.firstWord = word
      if (word === 'VACUUM') this.refusal = VACUUM
      if (TRANSACTION_WORDS.includes(word)) this.refusal = TRANSACTION
    }
    if (word === 'INDEX' && this.firstWord === 'CREATE' && this.#words < 3) this.#isIndex = true
    this.#words++
    if (word === 'FAIL') this.saysFail = true
    const last = this.#last
    if (word === 'ROLLBACK') {
      const isRaise = last === '(' && this.#secondLast === 'RAISE'
      if (last === 'OR' || last === 'CONFLICT' || isRaise) this.refusal = ROLLBACK_FORM
    }
    if (word === 'DEFERRED' && last === 'INITIALLY' && this.#isDefinition()) {
      const isNot = this.#secondLast === 'DEFERRABLE' && this.#thirdLast === 'NOT'
      if (!isNot) this.refusal = DEFERRED
    }
    this.#name(text)
    this.#remember(word)
  }

  #name(name: string): void {
    // The authorizer sees every reserved name but the one that a table is renamed to and the one
    // that a foreign key names: a reference to our own table would make every COMMIT fail.
    const isUnseen = this.firstWord === 'ALTER' || this.#last === 'REFERENCES'
    if (isUnseen && isReservedName(name)) this.refusal = RESERVED
  }

  #parameter(token: Token): void {
    const text = this.#sql.slice(token.start, token.end)
    if (text.startsWith('?')) {
      const number = text.length > 1 ? Number(text.slice(1)) : this.positionalCount + 1
      this.positionalCount = Math.max(this.positionalCount, number)
    } else if (!this.parameterNames.includes(text)) this.parameterNames.push(text)
  }

  #isDefinition(): boolean {
    return this.firstWord === 'CREATE' || this.firstWord === 'ALTER'
  }

  #remember(word: string): void {
    this.#thirdLast = this.#secondLast
    this.#secondLast = this.#last
    this.#last = word
  }
}
