/** Checks of the code as code: layers, purity, sizes, dead files. One read of every file. */
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path/posix'
import { test } from 'node:test'

/** Each folder under src/ and the folders it may import. Reading order is bottom up. */
const LAYERS: Record<string, readonly string[]> = {
  base: [],
  raft: ['base'],
  wal: ['base', 'raft'],
  log: ['base', 'raft', 'wal'],
  engine: ['base'],
  replica: ['base', 'log', 'engine'],
  protocol: ['base'],
  client: ['base', 'protocol'],
  server: ['base', 'protocol', 'replica'],
  platform: ['base'],
  cli: [
    'base',
    'raft',
    'wal',
    'log',
    'engine',
    'replica',
    'protocol',
    'client',
    'server',
    'platform',
  ],
}
const PURE = ['base', 'raft', 'wal', 'log', 'replica', 'protocol', 'client'] // no node:*
const SIMULATED = ['raft', 'wal', 'log', 'replica'] // no clock, no dice, no timer
const AMBIENT = /\b(Date\.now|new Date\b|Math\.random|performance\.|setTimeout|setInterval)/
const LINES_PER_FILE_MAX = 600
const COLUMNS_MAX = 100
const DOORS = ['src/client/index.ts'] // package.json "exports"
/** Tests of a whole folder, or of several files together. */
const UNPAIRED =
  /thesis|scenarios|checklist|crash|fuzz|suite|traps|recovery|codecs|faults|random|durability|examples|many-databases/
/** Programs: started, not imported. */
const ENTRIES = [
  'src/cli/main.ts',
  'src/cli/demo.ts',
  'src/cli/reference.ts',
  'src/engine/sqlite/child.ts',
  // A Storage for tests and the simulator; the product's is the WAL.
  'src/raft/memory-storage.ts',
  // The engine in process: for tests, the simulator, and later for embedding.
  'src/engine/sqlite/local-engine.ts',
  ...DOORS,
]

const IMPORT = /^\s*(?:import|export)\b(?:[^'";]*?\bfrom)?\s*['"]([^'"]+)['"]/gm
const LATE_IMPORT = /\bimport\(['"]([^'"]+)['"]\)/g
const files = globSync('src/**/*.ts')
  .map(path => path.replaceAll('\\', '/'))
  .sort()
const sources = new Map(files.map(path => [path, readFileSync(path, 'utf8')]))
const folderOf = (path: string): string => path.split('/')[1] ?? ''

function importsOf(path: string): string[] {
  const text = sources.get(path) ?? ''
  return [...text.matchAll(IMPORT), ...text.matchAll(LATE_IMPORT)].map(match => match[1] ?? '')
}

/** Whether a line stands in a table that is kept as one: from `// prettier-ignore` to its end. */
function isInTable(lines: readonly string[], at: number): boolean {
  const start = lines.slice(0, at).lastIndexOf('// prettier-ignore')
  return start >= 0 && !lines.slice(start, at).some(line => line.startsWith('}'))
}

/** Paths under src/ that `path` imports, types included: a type is a dependency too. */
function edgesOf(path: string): string[] {
  const local = importsOf(path).filter(to => to.startsWith('.'))
  return local.map(to => normalize(join(dirname(path), to)))
}

test('every import goes down the layers', () => {
  const wrong: string[] = []
  for (const path of files) {
    const from = folderOf(path)
    const allowed = LAYERS[from] ?? assert.fail(`${path}: no layer is given for folder "${from}"`)
    for (const target of edgesOf(path)) {
      const to = folderOf(target)
      if (to !== from && !allowed.includes(to)) wrong.push(`${path} imports ${target}`)
    }
  }
  assert.deepEqual(wrong, [])
})

test('no file takes part in an import cycle', () => {
  const done = new Set<string>()
  const walk = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path)
    assert(start < 0, `cycle: ${[...trail.slice(start), path].join(' -> ')}`)
    if (done.has(path)) return
    for (const target of edgesOf(path)) walk(target, [...trail, path])
    done.add(path)
  }
  for (const path of files) walk(path, [])
})

test('pure folders import no node module; simulated ones use no clock and no dice', () => {
  const wrong = files.filter(
    path =>
      (PURE.includes(folderOf(path)) && importsOf(path).some(to => to.startsWith('node:'))) ||
      (SIMULATED.includes(folderOf(path)) && AMBIENT.test(sources.get(path) ?? '')),
  )
  assert.deepEqual(wrong, [])
})

test('an index.ts is a door of the package, never a barrel inside it', () => {
  assert.deepEqual(
    files.filter(path => path.endsWith('/index.ts') && !DOORS.includes(path)),
    [],
  )
})

test('every test file stands where its source file stands', () => {
  const tests = globSync(Object.keys(LAYERS).map(folder => `test/${folder}/**/*.test.ts`))
  const lost = tests
    .map(path => path.replaceAll('\\', '/'))
    .filter(path => !sources.has(path.replace(/^test/, 'src').replace(/\.test\.ts$/, '.ts')))
  assert.deepEqual(
    lost.filter(path => !UNPAIRED.test(path)),
    [],
  )
})

test('every file is short, narrow, and imported by something', () => {
  const imported = new Set(files.flatMap(edgesOf))
  for (const path of files) {
    const lines = (sources.get(path) ?? '').split('\n')
    assert(lines.length <= LINES_PER_FILE_MAX, `${path} has ${lines.length} lines`)
    const wide = lines.findIndex(
      (line, at) =>
        line.length > COLUMNS_MAX && !line.includes('https://') && !isInTable(lines, at),
    )
    assert(wide < 0, `${path}:${wide + 1} is wider than ${COLUMNS_MAX} columns`)
    assert(imported.has(path) || ENTRIES.includes(path), `${path} is dead: nothing imports it`)
  }
})
