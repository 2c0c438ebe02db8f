/**
 * Whether a schema change names a database. It runs once its entry is committed, on every node, and
 * what is no database on the leader's server may be one, of somebody else, on another node's.
 */

/** Behind these stands a table. */
const BEFORE_TABLES = new Set([
  'TABLE',
  'VIEW',
  'EXISTS',
  'TO',
  'AS',
  'RENAME',
  'TRUNCATE',
  'REFERENCES',
  'INTO',
  'JOIN',
  'STRAIGHT_JOIN',
])
/** A list of columns, or a condition, begins with one of these. */
const CLAUSES = new Set(['SELECT', 'WHERE', 'ON', 'USING', 'BY', 'HAVING', 'SET', 'LIMIT'])

/** Behind these, brackets may hold tables, if a list of tables it is that they stand in. */
const BEFORE_LISTS = new Set([',', '(', 'FROM', 'JOIN', 'STRAIGHT_JOIN'])

export interface Words {
  /** In capitals; other tokens as a sign of their kind. */
  readonly words: readonly string[]
  /** How many brackets each stands in. */
  readonly depths: readonly number[]
  /** The name that a token is, in small letters; undefined if it is none. */
  readonly nameAt: (at: number) => string | undefined
}

/** The first name before a dot that is none of a table of the statement. */
export function databaseNamed(statement: Words): string | undefined {
  const { words, nameAt } = statement
  const alone = new Set<string>()
  const qualifiers: { readonly name: string; readonly at: number }[] = []
  for (const [at] of words.entries()) {
    const name = nameAt(at)
    if (name === undefined || words[at - 1] === '.') continue
    if (words[at + 1] === '.') qualifiers.push({ name, at })
    else alone.add(name)
  }
  return qualifiers.find(({ name, at }) => !alone.has(name) || isTable(statement, at))?.name
}

/** Whether a table stands here, and no column. */
function isTable({ words, depths }: Words, at: number): boolean {
  const before = words[at - 1] ?? ''
  if (BEFORE_TABLES.has(before)) return true
  const depth = depths[at] ?? 0
  if (before === 'LIKE') return !words.includes('SELECT') && (depth === 0 || words[at - 2] === '(')
  if (before === 'ON') return words.includes('INDEX') && !words.includes('SELECT')
  return isInFrom({ words, depths }, at)
}

/** Whether it is in the list of tables of a query, or in brackets there. */
function isInFrom({ words, depths }: Pick<Words, 'words' | 'depths'>, at: number): boolean {
  const depth = depths[at] ?? 0
  let hasFrom = false
  for (let before = at - 1; before >= 0; before--) {
    const word = words[before] ?? ''
    if (depths[before] !== depth) continue
    if (word === '(') {
      if (hasFrom) return false
      const outside = words[before - 1] ?? ''
      const mayHoldTables = BEFORE_LISTS.has(outside)
      return mayHoldTables && isInFrom({ words, depths: depths.with(before, depth - 1) }, before)
    }
    // EXTRACT(YEAR FROM t.d) has no SELECT in its brackets.
    if (word === 'SELECT') return hasFrom
    if (!hasFrom && CLAUSES.has(word)) return false
    if (word === 'FROM') hasFrom = true
  }
  return hasFrom
}
