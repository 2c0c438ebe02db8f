/** The page that shows every case of the suite of all engines with what came of it. */

/** What is one test for all engines, in the order of the table. */
export const SUITES: readonly string[] = [
  'service.test.ts',
  'exactly-once.test.ts',
  'transactions.test.ts',
  'client-transactions.test.ts',
  'reads.test.ts',
  'hand-over.test.ts',
  'killed-processes.test.ts',
  'divergence.test.ts',
  'digest.test.ts',
  'snapshot.test.ts',
]

export const ENGINES_PAGE = 'docs/internals/engines.md'
const BEGIN = '<!-- engines: made by npm run engines -->'
const END = '<!-- /engines -->'
const HEAD = '| suite | case | SQLite | MariaDB |\n| --- | --- | --- | --- |'

/** A test that ended. */
export interface SeenCase {
  readonly suite: string
  readonly name: string
  readonly isPassed: boolean
  /** Its subtests. */
  readonly inner: readonly SeenCase[]
}

interface Row {
  readonly suite: string
  readonly text: string
  readonly came: Map<string, string>
}

const OF_ENGINE = /^(.*) \((sqlite|mariadb)\)$/

/** For each suite its lines: one for each case and each part of it, a column for each engine. */
export function linesOf(seen: readonly SeenCase[]): Map<string, string[]> {
  const rows = new Map<string, Row>()
  const note = (
    key: string,
    suite: string,
    text: string,
    came: readonly [string, boolean],
  ): void => {
    const row = rows.get(key) ?? { suite, text, came: new Map() }
    const [engine, isPassed] = came
    row.came.set(engine, isPassed ? 'passed' : 'FAILED')
    rows.set(key, row)
  }
  for (const { suite, name, isPassed, inner } of seen) {
    const [, title, engine = ''] = OF_ENGINE.exec(name) ?? []
    if (title === undefined) continue
    note(`${suite} ${title}`, suite, `| \`${suite}\` | ${title} |`, [engine, isPassed])
    for (const each of inner) {
      const key = `${suite} ${title} ${each.name}`
      note(key, suite, `| | … ${each.name} |`, [engine, each.isPassed])
    }
  }
  const lines = new Map<string, string[]>()
  for (const { suite, text, came } of rows.values()) {
    const cells = ['sqlite', 'mariadb'].map(engine => ` ${came.get(engine) ?? ''} |`)
    lines.set(suite, [...(lines.get(suite) ?? []), `${text}${cells.join('')}`])
  }
  return lines
}

/** The page with these lines; those of other suites stay. */
export function pageWith(page: string, lines: ReadonlyMap<string, readonly string[]>): string {
  const [before = '', rest = ''] = page.split(BEGIN)
  const [old = '', after = ''] = rest.split(END)
  const kept = linesIn(old)
  const all = SUITES.flatMap(suite => lines.get(suite) ?? kept.get(suite) ?? [notRun(suite)])
  return `${before}${BEGIN}\n\n${[HEAD, ...all].join('\n')}\n\n${END}${after}`
}

function notRun(suite: string): string {
  return `| \`${suite}\` | not run yet | | |`
}

function linesIn(table: string): Map<string, string[]> {
  const lines = new Map<string, string[]>()
  let suite = ''
  for (const line of table.split('\n')) {
    const [, next] = /^\| `([^`]+)`/.exec(line) ?? []
    suite = next ?? suite
    if (suite !== '' && line !== '') lines.set(suite, [...(lines.get(suite) ?? []), line])
  }
  return lines
}

/** Titles of cases in the text of a suite. */
export function titlesIn(source: string): string[] {
  return [...source.matchAll(/testEngines\(\s*(?:'([^']+)'|"([^"]+)")/g)].map(
    ([, single, double]) => single ?? double ?? '',
  )
}
