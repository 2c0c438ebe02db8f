/**
 * Runs scenario scripts and compares. Lines that the core writes for people are left out on both
 * sides: scripts say what must happen, not in which words it is commented upon.
 */
import { readFileSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { confchangeRunner } from './confchange.ts'
import { type Directive, parseScript } from './data-driven.ts'
import { interactionRunner } from './interaction.ts'
import { quorumRunner } from './quorum.ts'

/** What a directive gave instead of what was expected. */
export interface Mismatch {
  readonly line: number
  readonly command: string
  readonly expected: string
  readonly actual: string
}

/** What became of one script. */
export interface ScriptResult {
  readonly path: string
  readonly directiveCount: number
  readonly mismatches: readonly Mismatch[]
}

const LOG_LINE = /^ *(?:DEBUG|INFO|WARN|ERROR) /
const RUNNERS = {
  interaction: interactionRunner,
  confchange: confchangeRunner,
  quorum: quorumRunner,
} as const

type Kind = keyof typeof RUNNERS

/** Every .txt file under a directory, sorted. */
export function findScripts(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.txt'))
    .map(name => join(directory, name))
    .filter(path => statSync(path).isFile())
    .sort()
}

/** Runs a script to its end, or to the first directive that throws. */
export function runScript(path: string): ScriptResult {
  const mismatches: Mismatch[] = []
  let directives: Directive[]
  try {
    directives = parseScript(readFileSync(path, 'utf8'))
  } catch (error) {
    const mismatch = { line: 0, command: 'read', expected: '', actual: String(error) }
    return { path, directiveCount: 0, mismatches: [mismatch] }
  }
  const run = runnerFor(path, directives)
  for (const directive of directives) {
    const { line, command } = directive
    const expected = withoutLog(directive.expected)
    let actual: string
    let isBroken = false
    try {
      actual = run(directive)
    } catch (error) {
      actual = error instanceof Error ? (error.stack ?? error.message) : String(error)
      isBroken = true
    }
    if (actual !== expected) mismatches.push({ line, command, expected, actual })
    // After an error inside the core nothing that follows means anything.
    if (isBroken) break
  }
  return { path, directiveCount: directives.length, mismatches }
}

/** What a script's directives are run with, the logger's lines left out of its output. */
export function runnerFor(
  path: string,
  directives: readonly Directive[],
): (directive: Directive) => string {
  const run = RUNNERS[kindOf(path, directives)]()
  return directive => withoutLog(run(directive))
}

/** The output of a directive, actual and then expected, with what differs marked. */
export function describeMismatch(mismatch: Mismatch): string {
  const { before, expected, actual, after } = splitCommon(
    mismatch.expected.split('\n'),
    mismatch.actual.split('\n'),
  )
  return [
    `line ${mismatch.line}: ${mismatch.command}`,
    ...before.slice(-3).map(line => `    ${line}`),
    ...expected.map(line => `  - ${line}`),
    ...actual.map(line => `  + ${line}`),
    ...after.slice(0, 3).map(line => `    ${line}`),
  ].join('\n')
}

function splitCommon(expected: string[], actual: string[]) {
  let start = 0
  const shorter = Math.min(expected.length, actual.length)
  while (start < shorter && expected[start] === actual[start]) start++
  let end = 0
  while (end < shorter - start && expected.at(-1 - end) === actual.at(-1 - end)) end++
  return {
    before: expected.slice(0, start),
    expected: expected.slice(start, expected.length - end),
    actual: actual.slice(start, actual.length - end),
    after: expected.slice(expected.length - end),
  }
}

/** The folder's name says what a script is about; a script from elsewhere, its commands. */
function kindOf(path: string, directives: readonly Directive[]): Kind {
  const folders = path.split(/[/\\]/).slice(0, -1).reverse()
  const kinds: readonly Kind[] = ['interaction', 'confchange', 'quorum']
  for (const folder of folders) {
    const kind = kinds.find(name => name === folder)
    if (kind !== undefined) return kind
  }
  const commands = new Set(directives.map(directive => directive.command))
  if (commands.has('committed') || commands.has('vote')) return 'quorum'
  const isConfchange = ['simple', 'enter-joint', 'leave-joint'].some(name => commands.has(name))
  return isConfchange ? 'confchange' : 'interaction'
}

/** A command whose only output was for people did what it should: "ok". */
function withoutLog(text: string): string {
  const lines = text.split('\n').filter(line => !LOG_LINE.test(line))
  return lines.join('\n').trimEnd() || 'ok'
}
