/** What SQL is to every layer: values, statements and what became of them. */

/** An INTEGER is a bigint, a REAL a number, TEXT a string, a BLOB bytes. */
export type SqlValue = null | bigint | number | string | Uint8Array

/** By position, or by name without its `:`, `@` or `$`. */
export type SqlParams = readonly SqlValue[] | Readonly<Record<string, SqlValue>>

/** One SQL text, which may hold several statements only where that is said, and its parameters. */
export interface Statement {
  readonly sql: string
  readonly params: SqlParams
}

/** What one executed statement gave. */
export interface StatementResult {
  /** Rows inserted, updated or deleted by the statement itself, without triggers. */
  readonly rowsAffected: number
  /** rowid of the last row that this statement inserted, or undefined if it inserted none. */
  readonly lastInsertId?: bigint
  /** Column names, present if the statement returns rows (SELECT, RETURNING). */
  readonly columns?: readonly string[]
  readonly rows?: readonly (readonly SqlValue[])[]
}
