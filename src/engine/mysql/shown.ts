/**
 * What SHOW and EXPLAIN tell, as every node tells it: a server speaks of its own name of the
 * database, of the account of one node, and of its own counters.
 */
import type { SqlValue } from '../../base/sql.ts'
import type { Answer } from './connection.ts'
import type { ParsedStatement } from './statement-parser.ts'
import { withoutCounter, withoutDefiner } from './schema-text.ts'

const SHOW = /^SHOW\b/i
const EXPLAIN = /^(?:EXPLAIN|DESCRIBE|DESC)\b/i
/** `Tables_in_n1_app`, and what the names are like. */
const TABLES_IN = /^Tables_in_.*?( \(.*\))?$/s
const DEFINITIONS = new Set(['Create Table', 'Create View'])

/**
 * The answer to a statement, in the words of the cluster. `database`: its name there, and on the
 * server if that is known.
 */
export function asAllTell(
  { pieces: [first] }: ParsedStatement,
  answer: Answer,
  database: string,
  server?: string,
): Pick<Answer, 'columns' | 'rows'> {
  const { columns, rows } = answer
  if (columns === undefined || typeof first !== 'string') return answer
  if (EXPLAIN.test(first) && server !== undefined) {
    const tell = (value: SqlValue): SqlValue =>
      typeof value === 'string' ? value.replaceAll(`${server}.`, `${database}.`) : value
    return { columns, rows: rows.map(row => row.map(tell)) }
  }
  if (!SHOW.test(first)) return answer
  const [name = '', definition = ''] = columns
  if (TABLES_IN.test(name)) {
    const told = name.replace(TABLES_IN, (_, like = '') => `Tables_in_${database}${String(like)}`)
    return { columns: [told, ...columns.slice(1)], rows }
  }
  if (!DEFINITIONS.has(definition)) return answer
  const shown = rows.map(([table = null, text, ...rest]) => {
    return [
      table,
      definition === 'Create View' ? withoutDefiner(String(text)) : withoutCounter(String(text)),
      ...rest,
    ]
  })
  return { columns, rows: shown }
}
