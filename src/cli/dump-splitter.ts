/**
 * The statements of a dump, one by one, however large the file is: comments are left out, and what
 * stands in comments that the server would execute is read as what is in them. Bytes come as
 * characters of Latin-1, so that nothing is lost of values that are no text.
 */
import { DbError } from '../base/errors.ts'

/** One statement, without its delimiter. */
export interface DumpStatement {
  /** Each character is one byte. */
  readonly text: string
  /** Bytes of the dump up to its end. */
  readonly endBytes: number
}

type Mode =
  | { readonly type: 'plain' }
  | { readonly type: 'quoted'; readonly mark: string }
  | { readonly type: 'line-comment' }
  | { readonly type: 'block-comment' }

/** As much as a string can hold is not needed to see that a file is no dump. */
const STATEMENT_BYTES_MAX = 256 * 1024 * 1024
const DELIMITER = /\s*delimiter[ \t]+(\S+)[^\n]*\n/iy
const OPENED = /\/\*(M?)!(\d{5,6})?/y
/** How far one must see to know what a sign begins. */
const LOOK_AHEAD = 16
const PLAIN: Mode = { type: 'plain' }
const HEADER = /^-- (?:MariaDB dump|MySQL dump)/
const FOOTER = /^-- Dump completed/

export class DumpSplitter {
  readonly #isMariaDb: boolean
  #text = ''
  /** Up to here it is read. */
  #at = 0
  /** From here on it is not yet in `#parts`. */
  #from = 0
  /** The statement so far. */
  #parts: string[] = []
  #partsLength = 0
  #mode: Mode = PLAIN
  #isInExecuted = false
  #delimiter = ';'
  #special = specialSigns(';')
  /** Bytes before `#text`. */
  #droppedBytes = 0
  #hasHeader = false
  #hasFooter = false

  /** `isMariaDb`: of the server that is to run them; it decides what some comments are. */
  constructor(isMariaDb: boolean) {
    this.#isMariaDb = isMariaDb
  }

  /** The dump says of itself where it ends, and did not. */
  get isCut(): boolean {
    return this.#hasHeader && !this.#hasFooter
  }

  /** The statements that end in this piece. */
  push(bytes: Uint8Array): DumpStatement[] {
    this.#text = this.#text.slice(this.#from) + Buffer.from(bytes).toString('latin1')
    this.#droppedBytes += this.#from
    this.#at -= this.#from
    this.#from = 0
    return this.#read(false)
  }

  /** What is left at the end of the dump. Throws INVALID_REQUEST if it ends in a quote. */
  end(): DumpStatement[] {
    const statements = this.#read(true)
    if (this.#mode.type === 'quoted' || this.#mode.type === 'block-comment') {
      throw new DbError('INVALID_REQUEST', 'the dump ends in the middle of a statement')
    }
    this.#take(this.#text.length)
    const last = this.#finish(this.#text.length)
    return last === undefined ? statements : [...statements, last]
  }

  #read(isEnd: boolean): DumpStatement[] {
    const statements: DumpStatement[] = []
    while (this.#step(isEnd, statements));
    if (this.#partsLength + this.#text.length - this.#from > STATEMENT_BYTES_MAX) {
      const message = `a statement of the dump is longer than ${STATEMENT_BYTES_MAX} bytes`
      throw new DbError('TOO_LARGE', message)
    }
    return statements
  }

  /** Reads up to the next sign that matters; false if more of the dump is needed. */
  #step(isEnd: boolean, statements: DumpStatement[]): boolean {
    if (this.#at >= this.#text.length) return false
    switch (this.#mode.type) {
      case 'plain':
        return this.#plain(isEnd, statements)
      case 'quoted':
        return this.#quoted(this.#mode.mark, isEnd)
      case 'line-comment':
        return this.#comment('\n', isEnd)
      case 'block-comment':
        return this.#comment('*/', isEnd)
      default:
        return false
    }
  }

  #plain(isEnd: boolean, statements: DumpStatement[]): boolean {
    const text = this.#text
    if (this.#isBlankSoFar() && this.#isDelimiterCommand(isEnd)) return true
    this.#special.lastIndex = this.#at
    const found = this.#special.exec(text)
    if (found === null) {
      // The last characters may be the beginning of a longer sign.
      this.#at = isEnd ? text.length : Math.max(this.#at, text.length - LOOK_AHEAD)
      return false
    }
    this.#at = found.index
    if (!isEnd && text.length - this.#at < LOOK_AHEAD) return false
    const [sign] = found
    if (sign === this.#delimiter) {
      this.#take(this.#at)
      this.#skipTo(this.#at + sign.length)
      const statement = this.#finish(this.#at)
      if (statement !== undefined) statements.push(statement)
    } else if (sign === '#' || sign === '--') this.#beginComment({ type: 'line-comment' }, 0)
    else if (sign === '/*') this.#beginBlock()
    else if (sign === '*/') {
      if (this.#isInExecuted) {
        this.#take(this.#at)
        this.#skipTo(this.#at + 2)
        this.#isInExecuted = false
      } else this.#at += 2
    } else {
      this.#mode = { type: 'quoted', mark: sign }
      this.#at += 1
    }
    return true
  }

  /** A comment, or one whose inside the server executes. */
  #beginBlock(): void {
    OPENED.lastIndex = this.#at
    const opened = OPENED.exec(this.#text)
    if (opened === null) return this.#beginComment({ type: 'block-comment' }, 2)
    const [whole, mark, version] = opened
    if (!this.#isExecuted(mark === 'M', Number(version ?? 0))) {
      return this.#beginComment({ type: 'block-comment' }, 2)
    }
    this.#take(this.#at)
    this.#skipTo(this.#at + whole.length)
    this.#isInExecuted = true
  }

  /** MariaDB passes over what is for MySQL 5.7 and newer; nothing is as new as 99.99.99. */
  #isExecuted(isForMariaDb: boolean, version: number): boolean {
    if (version >= 999_999 || (isForMariaDb && !this.#isMariaDb)) return false
    return isForMariaDb || !this.#isMariaDb || version < 50_700 || version >= 100_000
  }

  #beginComment(mode: Mode, length: number): void {
    this.#take(this.#at)
    this.#mode = mode
    this.#at += length
  }

  #comment(end: string, isEnd: boolean): boolean {
    const at = this.#text.indexOf(end, this.#at)
    if (at < 0) {
      if (mayBeHeld(this.#mode)) return this.#holdLine(isEnd)
      this.#skipTo(isEnd ? this.#text.length : Math.max(this.#at, this.#text.length - 1))
      return false
    }
    if (this.#mode.type === 'line-comment') this.#note(this.#text.slice(this.#from, at))
    this.#mode = PLAIN
    this.#skipTo(at + end.length)
    return true
  }

  /** A line is read whole, because it may say that the dump is complete. */
  #holdLine(isEnd: boolean): boolean {
    if (!isEnd) return false
    this.#note(this.#text.slice(this.#from))
    this.#mode = PLAIN
    this.#skipTo(this.#text.length)
    return false
  }

  #note(comment: string): void {
    this.#hasHeader ||= HEADER.test(comment)
    this.#hasFooter ||= FOOTER.test(comment)
  }

  #quoted(mark: string, isEnd: boolean): boolean {
    const sign = mark === '`' ? BACKTICK : mark === '"' ? DOUBLE_QUOTE : QUOTE
    sign.lastIndex = this.#at
    const found = sign.exec(this.#text)
    if (found === null) {
      this.#at = this.#text.length
      return false
    }
    if (found[0] === '\\') {
      if (found.index + 1 >= this.#text.length && !isEnd) {
        this.#at = found.index
        return false
      }
      this.#at = found.index + 2
      return true
    }
    // Two marks are the end of one quote and the beginning of the next, which comes to the same.
    this.#at = found.index + 1
    this.#mode = PLAIN
    return true
  }

  #isBlankSoFar(): boolean {
    return this.#partsLength === 0 && this.#text.slice(this.#from, this.#at).trim() === ''
  }

  /** `DELIMITER ;;`, which is for the client. */
  #isDelimiterCommand(isEnd: boolean): boolean {
    if (!/^\s*d/i.test(this.#text.slice(this.#at, this.#at + 256))) return false
    DELIMITER.lastIndex = this.#at
    const found = DELIMITER.exec(isEnd ? `${this.#text}\n` : this.#text)
    if (found === null) return false
    this.#delimiter = found[1] ?? ';'
    this.#special = specialSigns(this.#delimiter)
    this.#skipTo(Math.min(DELIMITER.lastIndex, this.#text.length))
    return true
  }

  #take(end: number): void {
    const part = this.#text.slice(this.#from, end)
    this.#from = end
    if (part === '' || (this.#partsLength === 0 && part.trim() === '')) return
    this.#parts.push(part)
    this.#partsLength += part.length
  }

  #skipTo(at: number): void {
    this.#from = at
    this.#at = at
  }

  #finish(at: number): DumpStatement | undefined {
    const text = this.#parts.join(' ').trim()
    this.#parts = []
    this.#partsLength = 0
    this.#isInExecuted = false
    return text === '' ? undefined : { text, endBytes: this.#droppedBytes + at }
  }
}

const QUOTE = /['\\]/g
const DOUBLE_QUOTE = /["\\]/g
const BACKTICK = /`/g

function mayBeHeld(mode: Mode): boolean {
  return mode.type === 'line-comment'
}

/** Two dashes begin a comment only if a blank or the end follows. */
function specialSigns(delimiter: string): RegExp {
  const escaped = delimiter.replaceAll(/[$()*+.?[\\\]^{|}/-]/g, '\\$&')
  return new RegExp(`${escaped}|['"\`#]|--(?=\\s|$)|/\\*|\\*/`, 'g')
}
