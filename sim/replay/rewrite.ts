/**
 * Puts what a script gives now in the place of what it expects. The result says only what the code
 * does; whether that is right, the reader of the diff decides, line by line.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { parseScript } from './data-driven.ts'
import { runnerFor } from './replay.ts'

/** Rewrites a script in place; true if anything changed. Logger output is left out. */
export function rewriteScript(path: string): boolean {
  const text = readFileSync(path, 'utf8')
  const directives = parseScript(text)
  const run = runnerFor(path, directives)
  const lines = text.split('\n')
  const output: string[] = []
  let at = 0
  for (const directive of directives) {
    output.push(...lines.slice(at, directive.expectedFrom))
    const actual = run(directive)
    // A blank line inside of the output would end it.
    const body = actual.includes('\n\n') ? `----\n${actual}\n----\n----` : actual
    output.push(...body.split('\n'))
    at = directive.expectedTo
  }
  output.push(...lines.slice(at))
  const rewritten = output.join('\n')
  if (rewritten === text) return false
  writeFileSync(path, rewritten)
  return true
}
