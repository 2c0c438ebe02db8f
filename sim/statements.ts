/** The SQL by which the simulator's workload changes rows; the first parameter is its operation. */

/** Raises the version of a register; tells the new one. */
export const BUMP =
  'UPDATE registers SET version = version + 1, writer = ?1 WHERE key = ?2 RETURNING version'
/** Leaves a mark. */
export const MARK =
  "INSERT INTO marks (operation, chance, moment) VALUES (?1, random(), datetime('now'))"
/** Takes a name for ever. */
export const CLAIM = 'INSERT INTO claims (operation, name) VALUES (?1, ?2)'
