/** The page that shows every case of the suite of all engines with what came of it. */
import { basename } from 'node:path'

/** What is one test for all engines; docs/internals/engines.md says the same of each. */
export const SUITES = [
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
] as const

export const ENGINES_PAGE = 'docs/internals/engines.md'
const BEGIN = '<!-- engines: made by npm run engines -->'
const END = '<!-- /engines -->'

/** A test that ended. */
export interface SeenCase {
  readonly file: string
  readonly name: string
  readonly isPassed: boolean
  /** Its subtests. */
  readonly inner: readonly SeenCase[]
}

const OF_ENGINE = /^(.*) \((sqlite|mariadb)\)$/

/** One row for each case, one column for each engine. */
export function tableOf(seen: readonly SeenCase[]): string {
  const rows = new Map<string, { readonly begin: string; sqlite: string; mariadb: string }>()
  const note = (key: string, begin: string, engine: string, came: string): void => {
    const row = rows.get(key) ?? { begin, sqlite: '', mariadb: '' }
    if (engine === 'sqlite') row.sqlite = came
    else row.mariadb = came
    rows.set(key, row)
  }
  for (const { file, name, isPassed, inner } of seen) {
    const [, title, engine = ''] = OF_ENGINE.exec(name) ?? []
    if (title === undefined) continue
    const came = isPassed ? 'passed' : 'FAILED'
    const suite = `\`${basename(file)}\``
    note(`${file} ${title}`, `| ${suite} | ${title}`, engine, came)
    for (const each of inner) {
      const key = `${file} ${title} ${each.name}`
      note(key, `| | … ${each.name}`, engine, each.isPassed ? 'passed' : 'FAILED')
    }
  }
  const lines = [...rows.values()].map(
    ({ begin, sqlite, mariadb }) => `${begin} | ${sqlite} | ${mariadb} |`,
  )
  return ['| suite | case | SQLite | MariaDB |', '| --- | --- | --- | --- |', ...lines].join('\n')
}

/** The page with another table. */
export function pageWith(page: string, table: string): string {
  const [before = '', rest = ''] = page.split(BEGIN)
  const [, after = ''] = rest.split(END)
  return `${before}${BEGIN}\n\n${table}\n\n${END}${after}`
}

/** Titles of cases in the text of a suite. */
export function titlesIn(source: string): string[] {
  return [...source.matchAll(/testEngines\(\s*(?:'([^']+)'|"([^"]+)")/g)].map(
    ([, single, double]) => single ?? double ?? '',
  )
}
