/**
 * Reads scenario scripts: a command with arguments, optional lines of input, `----`, the text that
 * is expected, a blank line. Text with blank lines of its own stands between doubled `----` lines.
 */

/** One argument: `key`, `key=value` or `key=(value, value)`. */
export interface Argument {
  readonly key: string
  readonly values: readonly string[]
}

/** One command of a script with what is expected of it. */
export interface Directive {
  readonly line: number
  readonly command: string
  readonly args: readonly Argument[]
  readonly input: string
  readonly expected: string
  /** The lines of the script, from 0, that hold what is expected: from this one to before that one. */
  readonly expectedFrom: number
  readonly expectedTo: number
}

const SEPARATOR = '----'
const WORD = /^ *([-\w/.,@#]+)(?:=(?:\(([^)]*)\)|([^\s()]*)))?(?= |$)/

/** The directives of a script, in order. Throws, with the line, if it is not one. */
export function parseScript(text: string): Directive[] {
  const lines = text.replaceAll('\r\n', '\n').split('\n')
  const directives: Directive[] = []
  let at = 0
  const next = (): string | undefined => lines[at++]

  while (at < lines.length) {
    const line = at + 1
    let head = (next() ?? '').trim()
    if (head === '' || head.startsWith('#')) continue
    while (head.endsWith('\\')) head = `${head.slice(0, -1).trim()} ${(next() ?? '').trim()}`
    const [first, ...args] = parseArguments(head, line)
    const input: string[] = []
    for (let text = next(); text !== SEPARATOR; text = next()) {
      if (text === undefined) throw new Error(`line ${line}: the command has no ${SEPARATOR}`)
      input.push(text)
    }
    const expected: string[] = []
    const expectedFrom = at
    let expectedTo = at
    if (lines[at] === SEPARATOR) {
      at++
      for (let text = next(); !(text === SEPARATOR && lines[at] === SEPARATOR); text = next()) {
        if (text === undefined)
          throw new Error(`line ${line}: the doubled ${SEPARATOR} is not closed`)
        expected.push(text)
      }
      at++
      expectedTo = at
    } else {
      for (let text = next(); text !== undefined && text.trim() !== ''; text = next()) {
        expected.push(text)
      }
      expectedTo = expectedFrom + expected.length
    }
    directives.push({
      line,
      command: first?.key ?? '',
      args,
      input: input.join('\n').trim(),
      expected: expected.join('\n'),
      expectedFrom,
      expectedTo,
    })
  }
  return directives
}

function parseArguments(head: string, line: number): Argument[] {
  const args: Argument[] = []
  let rest = head.trimEnd()
  while (rest.trim() !== '') {
    const match = WORD.exec(rest)
    if (match === null) throw new Error(`line ${line}: can't read the arguments at "${rest}"`)
    const [whole, key = '', list, value] = match
    const values =
      list === undefined ? (value === undefined ? [] : [value]) : list.split(',').map(v => v.trim())
    args.push({ key, values })
    rest = rest.slice(whole.length)
  }
  return args
}
