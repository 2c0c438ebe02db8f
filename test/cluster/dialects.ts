/** The few forms in which tests write their SQL otherwise for each engine. */

export type EngineName = 'sqlite' | 'mariadb'

/** What is written otherwise. */
export interface Dialect {
  /** A column that gives each new row the next number. */
  readonly key: string
  /** Text that can be in an index. */
  readonly name: string
  /** Behind an INSERT: a row whose key is there gets this value, of the one that was to come. */
  readonly upsert: (column: string, value: (old: string, given: string) => string) => string
  /** Texts one behind the other. */
  readonly concat: (...parts: readonly string[]) => string
  /** A query of the numbers from 1 to `count`, in a column `i`. */
  readonly numbers: (count: number) => string
  /** An expression of chance and time, of less than a hundred characters. */
  readonly chance: string
  /** What a repeated answer is known by: rows, if they are remembered. */
  readonly returningId: string
}

export const DIALECTS: Readonly<Record<EngineName, Dialect>> = {
  sqlite: {
    key: 'INTEGER PRIMARY KEY',
    name: 'TEXT',
    upsert: (column, value) =>
      `ON CONFLICT DO UPDATE SET ${column} = ${value(column, `excluded.${column}`)}`,
    concat: (...parts) => parts.join(' || '),
    numbers: count =>
      `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ${count}) SELECT i FROM n`,
    chance: "hex(randomblob(8)) || random() || datetime('now')",
    returningId: 'RETURNING id',
  },
  mariadb: {
    key: 'BIGINT AUTO_INCREMENT PRIMARY KEY',
    name: 'VARCHAR(100)',
    upsert: (column, value) =>
      `ON DUPLICATE KEY UPDATE ${column} = ${value(column, `VALUES(${column})`)}`,
    concat: (...parts) => `CONCAT(${parts.join(', ')})`,
    numbers: count => `SELECT seq AS i FROM seq_1_to_${count}`,
    chance: 'CONCAT(UUID(), RAND(), NOW(6))',
    // Rows come in another order on every node, so that none are remembered.
    returningId: '',
  },
}
