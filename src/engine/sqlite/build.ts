/**
 * Names the build of the SQL engine. Statements are executed again on every node, so all nodes must
 * have the same: SQLite, how it was compiled, the processor, and the mathematics of its C library.
 */
import { DatabaseSync } from 'node:sqlite'
import type { SqlValue } from '../../base/sql.ts'
import { formatDigest, RowHash } from '../hash.ts'

/** Functions that SQLite takes from the C library, whose last digit may differ between versions. */
const MATHEMATICS = `
  WITH RECURSIVE points(i, x) AS (
    SELECT 1, 0.1 UNION ALL SELECT i + 1, (i + 1) * 0.37 FROM points WHERE i < 64
  )
  SELECT sin(x), cos(x), tan(x), atan(x), exp(x), ln(x), log10(x), sqrt(x), pow(x, 1.7),
    sinh(x / 9), tanh(x), asinh(x), atan2(x, 3.0), x * 1e300 / 7, CAST(x / 3 AS TEXT),
    printf('%.17g', x / 7)
  FROM points`

let build: string | undefined

/** Equal on two nodes only if they give the same for the same statements, as far as can be told. */
export function engineBuild(): string {
  if (build !== undefined) return build
  const database = new DatabaseSync(':memory:', { readBigInts: true, returnArrays: true })
  try {
    const rows = (sql: string): readonly (readonly SqlValue[])[] =>
      database.prepare(sql).all() as unknown as readonly (readonly SqlValue[])[]
    const [version, source] = rows('SELECT sqlite_version(), sqlite_source_id()')[0] ?? []
    const hash = new RowHash()
    hash.reset()
    for (const row of rows('PRAGMA compile_options')) hash.row(row)
    const options = formatDigest(hash.digest())
    hash.reset()
    for (const row of rows(MATHEMATICS)) hash.row(row)
    const mathematics = formatDigest(hash.digest())
    const commit = String(source).split(' ').at(-1)?.slice(0, 12)
    build = `sqlite ${String(version)} ${commit} ${process.arch} ${options} ${mathematics}`
    return build
  } finally {
    database.close()
  }
}
