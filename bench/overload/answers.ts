/** Reads just enough of answers to see which are good, and how the others failed. */

/** What became of a request. */
export interface Answered {
  /** Undefined if it was acknowledged. */
  readonly code: string | undefined
  readonly fate: 'applied' | 'not-applied' | 'unknown'
}

const GOOD: Answered = { code: undefined, fate: 'applied' }
const GOOD_LINE = '{"results"'
const HEAD_END = '\r\n\r\n'
const LENGTH = 'content-length: '

/** Hands on every whole answer at the beginning of `text`; gives what is left. */
export function parseAnswers(
  door: 'http' | 'stream' | 'reads',
  text: string,
  onAnswer: (answered: Answered) => void,
): string {
  return door === 'stream' ? parseLines(text, onAnswer) : parseHttp(text, onAnswer)
}

function parseHttp(text: string, onAnswer: (answered: Answered) => void): string {
  let at = 0
  for (;;) {
    const headEnd = text.indexOf(HEAD_END, at)
    if (headEnd < 0) return text.slice(at)
    const lengthAt = text.indexOf(LENGTH, at)
    const hasLength = lengthAt >= 0 && lengthAt < headEnd
    const length = hasLength ? Number.parseInt(text.slice(lengthAt + LENGTH.length), 10) : 0
    const bodyAt = headEnd + HEAD_END.length
    if (text.length < bodyAt + length) return text.slice(at)
    const isGood = text.startsWith('200', at + 'HTTP/1.1 '.length)
    onAnswer(isGood ? GOOD : toAnswered(text.slice(bodyAt, bodyAt + length)))
    at = bodyAt + length
  }
}

/** Nodes send whole lines in a chunk: what is none begins otherwise and frames them. */
function parseLines(text: string, onAnswer: (answered: Answered) => void): string {
  let at = 0
  for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', at)) {
    if (text[at] === '{') {
      onAnswer(text.startsWith(GOOD_LINE, at) ? GOOD : toAnswered(text.slice(at, end)))
    }
    at = end + 1
  }
  return text.slice(at)
}

/** An answer that isn't understood leaves everything open. */
function toAnswered(text: string): Answered {
  try {
    const { error } = JSON.parse(text) as { error: { code: string; fate: string } }
    return { code: error.code, fate: error.fate === 'not-applied' ? 'not-applied' : 'unknown' }
  } catch {
    return { code: 'STRANGE_ANSWER', fate: 'unknown' }
  }
}
