/**
 * `npm run mutants -- [--only TEXT] [--missing] [--seconds N] [--jobs N] [--first] [--write]`:
 * puts each mutation into a copy of the product and asks every layer of tests whether it notices:
 * the scenario scripts, the unit tests of its folder, and the simulation. Prints what survived;
 * `--write` puts each row, as soon as it is known, into the table of docs/internals/testing.md,
 * where the rows of mutations that were not chosen stay. `--missing` chooses those without a row,
 * so that a run that was ended can be gone on with.
 */
import { spawn } from 'node:child_process'
import {
  cpSync,
  existsSync,
  globSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

import { assert } from '../src/base/assert.ts'
import { MUTATIONS } from './mutations.ts'
import type { Mutation } from './mutation.ts'

const ROOT = join(import.meta.dirname, '..')
const PAGE = 'docs/internals/testing.md'
const TABLE_BEGIN = '<!-- mutants: made by npm run mutants -- --write -->'
const TABLE_END = '<!-- /mutants -->'
const DEFAULT_SECONDS = 90
/** Unit tests of a folder take minutes at most; a mutant that hangs them is noticed as well. */
const TESTS_TIMEOUT_MS = 600_000
const SCRIPTS = 'test/raft/scenarios.test.ts'
const SCRIPTED_RUNS = ['test/sim/cluster.test.ts', 'test/sim/regressions.test.ts']

const LAYERS = ['scripts', 'unit tests', 'simulation'] as const
type Layer = (typeof LAYERS)[number]

interface Verdict {
  readonly isKilled: boolean
  readonly seconds: number
  /** What the layer says, if it noticed. */
  readonly message: string
}

interface Judged {
  readonly mutation: Mutation
  /** A layer that has nothing to do with the mutated folder is not asked. */
  readonly verdicts: ReadonlyMap<Layer, Verdict>
}

/** The first line of output that says what is wrong. */
const COMPLAINT = /^\s*(?:Violation|AssertionError|DbError|\w*Error|✖)(?: \[\w+\])?:? (.*)$/m

/** Applies a mutation to the product under `root`. Throws if it doesn't fit any more. */
function apply(mutation: Mutation, root: string): void {
  const path = join(root, mutation.file)
  const parts = readFileSync(path, 'utf8').split(mutation.find)
  assert(parts.length === 2, `"${mutation.name}" fits ${parts.length - 1} times`)
  writeFileSync(path, parts.join(mutation.replace))
}

function copyProduct(root: string): void {
  for (const name of [
    'src',
    'sim',
    'test',
    'docs',
    'package.json',
    'tsconfig.json',
    '.ci',
    'README.md',
  ])
    cpSync(join(ROOT, name), join(root, name), { recursive: true })
  symlinkSync(join(ROOT, 'node_modules'), join(root, 'node_modules'))
}

/** What each layer runs for a mutation until something fails; nothing if it has no say. */
function runsOf(layer: Layer, mutation: Mutation, seconds: number): string[][] {
  const folder = mutation.file.split('/')[1] ?? ''
  switch (layer) {
    case 'scripts':
      return folder === 'raft' ? [['--test', SCRIPTS]] : []
    case 'unit tests':
      return unitTests(mutation, folder)
    case 'simulation': {
      if (mutation.mode === 'scripted') return []
      const flags = mutation.mode === 'raft-only' ? ['--raft-only'] : []
      const until = ['--minutes', String(seconds / 60), '--jobs', '1']
      return [['sim/main.ts', ...flags, '--first-seed', '1', ...until]]
    }
    default:
      return []
  }
}

/** Tests beside the mutated file, or named ones, take seconds; all of a folder take minutes. */
function unitTests(mutation: Mutation, folder: string): string[][] {
  const own = mutation.file.replace(/^src\//, 'test/').replace(/\.ts$/, '.test.ts')
  const first = [own, ...(mutation.tests ?? [])].filter(file => existsSync(join(ROOT, file)))
  const files = globSync(`test/${folder}/**/*.test.ts`, { cwd: ROOT }).sort()
  const scripted = mutation.mode === 'scripted' ? SCRIPTED_RUNS : []
  const others = [...files, ...scripted].filter(file => file !== SCRIPTS && !first.includes(file))
  return [first, others].filter(({ length }) => length > 0).map(each => ['--test', ...each])
}

function run(args: readonly string[], root: string, timeoutMs: number): Promise<Verdict> {
  return new Promise(resolve => {
    const startedMs = performance.now()
    const env = { ...process.env, TZ: 'UTC' }
    const child = spawn(process.execPath, args, { cwd: root, env, timeout: timeoutMs })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text
      })
    }
    child.on('close', code => {
      const seed = /^seed (\d+) failed/m.exec(output)?.[1]
      const complaint = (COMPLAINT.exec(output)?.[1] ?? '').trim()
      const message = seed === undefined ? complaint : `seed ${seed}: ${complaint}`
      resolve({ isKilled: code !== 0, seconds: (performance.now() - startedMs) / 1000, message })
    })
  })
}

/** One run after the other, until one fails; undefined if there is none. */
async function runAll(
  runs: readonly string[][],
  root: string,
  timeoutMs: number,
): Promise<Verdict | undefined> {
  let seconds = 0
  let last: Verdict | undefined
  for (const args of runs) {
    const verdict = await run(args, root, timeoutMs)
    seconds += verdict.seconds
    last = { ...verdict, seconds }
    if (verdict.isKilled) break
  }
  return last
}

/** A layer that fails without any mutation would kill them all, and prove nothing. */
async function checkUnmutated(chosen: readonly Mutation[]): Promise<void> {
  const root = mkdtempSync(join(tmpdir(), 'lockstep-mutant-'))
  try {
    copyProduct(root)
    const asked = new Set<string>()
    for (const mutation of chosen) {
      for (const layer of ['scripts', 'unit tests'] as const) {
        for (const args of runsOf(layer, mutation, 0)) {
          if (asked.has(args.join(' '))) continue
          asked.add(args.join(' '))
          const { isKilled: isBroken, message } = await run(args, root, TESTS_TIMEOUT_MS)
          assert(!isBroken, `fails without a mutation: ${args.join(' ')}: ${message}`)
        }
      }
    }
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}

async function judge(mutation: Mutation, options: Options): Promise<Judged> {
  const root = mkdtempSync(join(tmpdir(), 'lockstep-mutant-'))
  const verdicts = new Map<Layer, Verdict>()
  try {
    copyProduct(root)
    apply(mutation, root)
    for (const layer of LAYERS) {
      const timeoutMs = layer === 'simulation' ? options.seconds * 4000 : TESTS_TIMEOUT_MS
      const verdict = await runAll(runsOf(layer, mutation, options.seconds), root, timeoutMs)
      if (verdict === undefined) continue
      verdicts.set(layer, verdict)
      if (verdict.isKilled && options.stopsAtFirst) break
    }
    return { mutation, verdicts }
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}

interface Options {
  readonly only: string
  readonly isMissingOnly: boolean
  readonly seconds: number
  readonly jobs: number
  readonly stopsAtFirst: boolean
  readonly writes: boolean
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', default: '' },
      missing: { type: 'boolean', default: false },
      seconds: { type: 'string', default: String(DEFAULT_SECONDS) },
      jobs: { type: 'string', default: String(availableParallelism()) },
      first: { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
    },
  })
  return {
    only: values.only,
    isMissingOnly: values.missing,
    seconds: Number(values.seconds),
    jobs: Number(values.jobs),
    stopsAtFirst: values.first,
    writes: values.write,
  }
}

function isKilled({ verdicts }: Judged): boolean {
  return [...verdicts.values()].some(verdict => verdict.isKilled)
}

const HEAD = [
  '| what is wrong | scripts | unit tests | simulation | what it says |',
  '| --- | --- | --- | --- | --- |',
]

function row(judged: Judged): string {
  const { mutation, verdicts } = judged
  const cells = LAYERS.map(layer => {
    const verdict = verdicts.get(layer)
    if (verdict === undefined) return '–'
    if (!verdict.isKilled) return 'survives'
    const seed = layer === 'simulation' ? /^seed \d+/.exec(verdict.message)?.[0] : undefined
    return `${seed ?? 'killed'}, ${verdict.seconds.toFixed(0)} s`
  })
  // The simulation's complaint tells most of what the bug does.
  const killers = [...verdicts.values()].filter(verdict => verdict.isKilled)
  const message = (killers.at(-1)?.message ?? '').replace(/^seed \d+: /, '').replaceAll('|', ';')
  return `| ${[mutation.name, ...cells, message.slice(0, 100).trim()].join(' | ')} |`
}

interface Page {
  readonly before: string
  readonly after: string
  /** The lines of the table, by the names of their mutations. */
  readonly rows: ReadonlyMap<string, string>
}

function readPage(): Page {
  const page = readFileSync(join(ROOT, PAGE), 'utf8')
  const begin = page.indexOf(TABLE_BEGIN)
  const end = page.indexOf(TABLE_END)
  assert(begin >= 0 && end > begin, `${PAGE} has no place for the table`)
  const lines = page.slice(begin, end).split('\n')
  const rows = new Map(lines.map(line => [/^\| (.*?) \|/.exec(line)?.[1] ?? '', line]))
  return { before: page.slice(0, begin), after: page.slice(end), rows }
}

function writeRow(judged: Judged): void {
  const { before, after, rows } = readPage()
  const all = new Map([...rows, [judged.mutation.name, row(judged)]])
  const table = [...HEAD, ...MUTATIONS.flatMap(({ name }) => all.get(name) ?? [])].join('\n')
  writeFileSync(join(ROOT, PAGE), `${before}${TABLE_BEGIN}\n\n${table}\n\n${after}`)
}

async function main(): Promise<void> {
  const options = readOptions()
  const known = options.isMissingOnly ? readPage().rows : new Map<string, string>()
  const chosen = MUTATIONS.filter(({ name }) => name.includes(options.only) && !known.has(name))
  assert(chosen.length > 0, `no mutation is called ${options.only}, or all of them have a row`)
  await checkUnmutated(chosen)
  const judged: Judged[] = []
  const queue = [...chosen]
  console.log(HEAD.join('\n'))
  const worker = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const result = await judge(next, options)
      judged.push(result)
      if (options.writes) writeRow(result)
      console.log(row(result))
    }
  }
  await Promise.all(Array.from({ length: options.jobs }, worker))
  const survivors = judged.filter(one => !isKilled(one))
  for (const { mutation } of survivors) console.log(`SURVIVED: ${mutation.name}`)
  console.log(`\n${judged.length} mutants, ${survivors.length} survived`)
  process.exitCode = survivors.length === 0 ? 0 : 1
}

await main()
