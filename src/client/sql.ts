/** The `sql` tag: SQL text whose `${values}` are bound, never spliced. */
import { quoteName } from '../protocol/identifiers.ts'
import type { InputValue } from '../protocol/values.ts'

/** SQL text with `?` and the values for it. Made by {@link sql}. */
export class SqlText {
  readonly sql: string
  readonly params: readonly InputValue[]

  constructor(text: string, params: readonly InputValue[]) {
    this.sql = text
    this.params = params
  }
}

interface SqlTag {
  /**
   * Binds every value; a nested `sql` text is joined in with its own values.
   * @example
   * db.query(sql`SELECT * FROM users WHERE id = ${id}`)
   */
  (strings: TemplateStringsArray, ...values: readonly (InputValue | SqlText)[]): SqlText
  /** A table's or column's name, quoted: `sql.identifier('my table')`. */
  identifier(name: string): SqlText
  /** Values with commas between them, for IN: `WHERE id IN (${sql.list(ids)})`. */
  list(values: readonly InputValue[]): SqlText
}

/** See {@link SqlTag}. */
export const sql: SqlTag = Object.assign(
  (strings: TemplateStringsArray, ...values: readonly (InputValue | SqlText)[]): SqlText => {
    let text = strings[0] ?? ''
    const params: InputValue[] = []
    for (const [at, value] of values.entries()) {
      if (value instanceof SqlText) {
        text += value.sql
        params.push(...value.params)
      } else {
        text += '?'
        params.push(value)
      }
      text += strings[at + 1] ?? ''
    }
    return new SqlText(text, params)
  },
  {
    identifier: (name: string) => new SqlText(quoteName(name, 'sql.identifier'), []),
    list: (values: readonly InputValue[]) => new SqlText(values.map(() => '?').join(', '), values),
  },
)
