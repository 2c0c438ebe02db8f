/** Bounds of what one statement or request may cost a node, the same on all nodes. */
/** Bytes of a seed. */
export const SEED_BYTES = 16

/** Most databases of a cluster. Each costs every node a file, and every start a look at it. */
export const DATABASES_MAX = 10_000
/** Most databases that one entry writes to: their files are open and in transactions together. */
export const ENTRY_DATABASES_MAX = 32
/** Longest SQL text in UTF-16 units. */
export const SQL_LENGTH_MAX = 1024 * 1024
/** Largest value or row. */
export const VALUE_BYTES_MAX = 64 * 1024 * 1024
/** Most parameters of one statement; SQLite's own limit. */
export const PARAMETERS_MAX = 32_766
/** Most statements of one request, those inside of texts included. */
export const STATEMENTS_MAX = 100_000
/** Most rows that the statements of one write request may return together. */
export const WRITE_ROWS_MAX = 100_000
/** Most bytes that the statements of one write request may return together, about. */
export const WRITE_ROWS_BYTES_MAX = 16 * 1024 * 1024
/**
 * Most bytes of a request's results that are kept for when it comes again. All that is kept of
 * requests must be the same on every node, so that these limits are part of the format of an entry.
 */
export const ANSWER_BYTES_MAX = 1024
/** Sequences of a session that are remembered. A client has none open that is further behind. */
export const SESSION_WINDOW = 64

/** How much is remembered of requests. Counts and never times: clocks decide nothing. */
export interface RequestLimits {
  /** Most sessions that one database remembers; the longest unused goes first. */
  readonly sessionsMax: number
  /** Most keys that one database remembers; the oldest goes first. */
  readonly keysMax: number
  /** Most names of dropped databases; the longest dropped goes first. */
  readonly droppedNamesMax: number
  /** Most bytes of a book's open row: it must fit its page with what stands beside it. */
  readonly openRowBytesMax: number
}

/** The limits of all clusters. Tests have smaller ones. */
export const REQUEST_LIMITS: RequestLimits = {
  sessionsMax: 10_000,
  keysMax: 100_000,
  droppedNamesMax: 10_000,
  openRowBytesMax: 1024,
}
