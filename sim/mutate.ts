/**
 * `npm run mutate -- [--only TEXT] [--seconds N]`: puts each mutation into a copy of the product and
 * runs seeds until one fails. Prints the table of docs/internals/testing.md.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

import { assert } from '../src/base/assert.ts'
import { type Mutation, MUTATIONS } from './mutations.ts'

const ROOT = join(import.meta.dirname, '..')
const DEFAULT_SECONDS = 60

interface Verdict {
  /** By what; undefined if nothing failed. */
  readonly found: string | undefined
  readonly seconds: number
  readonly message: string
}

/** The first line of output that says what is wrong. */
const COMPLAINT = /^(?:Violation|AssertionError|DbError|\w*Error|✖)(?: \[\w+\])?:? (.*)$/m

/** Applies a mutation to the product under `root`. Throws if it doesn't fit any more. */
function apply(mutation: Mutation, root: string): void {
  const path = join(root, mutation.file)
  const parts = readFileSync(path, 'utf8').split(mutation.find)
  assert(parts.length === 2, `"${mutation.name}" fits ${parts.length - 1} times`)
  writeFileSync(path, parts.join(mutation.replace))
}

function copyProduct(root: string): void {
  for (const folder of ['src', 'sim', 'test/sim'])
    cpSync(join(ROOT, folder), join(root, folder), { recursive: true })
  cpSync(join(ROOT, 'package.json'), join(root, 'package.json'))
  symlinkSync(join(ROOT, 'node_modules'), join(root, 'node_modules'))
}

function judge(mutation: Mutation, seconds: number): Verdict {
  const root = mkdtempSync(join(tmpdir(), 'lockstep-mutation-'))
  try {
    copyProduct(root)
    apply(mutation, root)
    const startedMs = performance.now()
    const run = spawnSync(process.execPath, argumentsFor(mutation, seconds), {
      cwd: root,
      encoding: 'utf8',
      maxBuffer: 64 << 20,
      timeout: seconds * 4000,
    })
    const isFound = run.status !== 0
    return {
      found: isFound ? `seed ${/^seed (\d+) failed/m.exec(run.stdout)?.[1] ?? ''}` : undefined,
      seconds: (performance.now() - startedMs) / 1000,
      message: COMPLAINT.exec(run.stdout)?.[1] ?? run.stderr,
    }
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}

function argumentsFor({ mode }: Mutation, seconds: number): string[] {
  if (mode === 'scripted')
    return ['--test', 'test/sim/cluster.test.ts', 'test/sim/regressions.test.ts']
  const flags = mode === 'raft-only' ? ['--raft-only'] : []
  return ['sim/main.ts', ...flags, '--first-seed', '1', '--minutes', String(seconds / 60)]
}

function main(): void {
  const { values } = parseArgs({
    options: { only: { type: 'string', default: '' }, seconds: { type: 'string' } },
  })
  const seconds = Number(values.seconds ?? DEFAULT_SECONDS)
  let missed = 0
  console.log('| what is wrong | how | found by | seconds | what it says |')
  console.log('| --- | --- | --- | ---: | --- |')
  for (const mutation of MUTATIONS) {
    if (!mutation.name.includes(values.only)) continue
    const verdict = judge(mutation, seconds)
    if (verdict.found === undefined) missed++
    const by = mutation.mode === 'scripted' && verdict.found !== undefined ? 'test' : verdict.found
    const message = verdict.message.replaceAll('|', ';').slice(0, 100).trim()
    const cells = [
      mutation.name,
      mutation.mode,
      by ?? 'not found',
      verdict.seconds.toFixed(1),
      message,
    ]
    console.log(`| ${cells.join(' | ')} |`)
  }
  console.log(`\n${missed} not found`)
  process.exitCode = missed === 0 ? 0 : 1
}

main()
