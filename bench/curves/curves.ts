/** The curves: along what work grows, at which points, and what is done at each. */

/** Everything that can differ between two points. */
export interface Settings {
  readonly voters: number
  readonly learners: number
  /** Writes are spread over so many. */
  readonly databases: number
  /** Text in a row; its key and a number come on top. */
  readonly rowBytes: number
  /** Rows that are there before the load, in all databases together; updates hit any of them. */
  readonly loadedRows: number
  /** Every message between nodes arrives so much later; undefined: nothing stands between them. */
  readonly delayMs?: number
  /** A flush of the log takes at least so long; undefined: as long as the disk takes. */
  readonly flushMs?: number
}

export interface CurveLoad {
  readonly operation: 'insert' | 'update'
  readonly connections: number
}

export interface Point {
  /** Its name in the command, on the axis and in the table. */
  readonly label: string
  readonly settings: Settings
  /** Measured only if it is asked for by name. */
  readonly isLong?: boolean
}

export interface Curve {
  readonly name: string
  readonly title: string
  /** What the axis says. */
  readonly axis: string
  readonly loads: readonly CurveLoad[]
  readonly points: readonly Point[]
}

const BASE: Settings = {
  voters: 3,
  learners: 0,
  databases: 1,
  rowBytes: 100,
  loadedRows: 10_000,
}
/** Four rows to a page of SQLite, so that a row of the table is about 1 KB of the file. */
const KILOBYTE_ROW = { rowBytes: 950 }
const BOTH = [
  { operation: 'insert', connections: 64 },
  { operation: 'update', connections: 64 },
] as const

function points<Value>(
  values: readonly Value[],
  settingsOf: (value: Value) => Partial<Settings>,
  labelOf: (value: Value) => string = String,
): Point[] {
  return values.map(value => ({
    label: labelOf(value),
    settings: { ...BASE, ...settingsOf(value) },
  }))
}

function ofSize(label: string, loadedRows: number, isLong = false): Point {
  return { label, settings: { ...BASE, ...KILOBYTE_ROW, loadedRows }, isLong }
}

export const CURVES: readonly Curve[] = [
  {
    name: 'size',
    title: 'Data',
    axis: 'data on each node before the load',
    loads: BOTH,
    points: [
      ofSize('1MB', 1000),
      ofSize('100MB', 100_000),
      ofSize('1GB', 1_000_000),
      ofSize('10GB', 10_000_000, true),
    ],
  },
  {
    name: 'voters',
    title: 'Voters',
    axis: 'voters, all on this machine',
    loads: BOTH,
    points: points([1, 3, 5, 7], voters => ({ voters })),
  },
  {
    name: 'learners',
    title: 'Learners',
    axis: 'learners beside 3 voters, all on this machine',
    loads: BOTH,
    points: points([0, 1, 5, 10], learners => ({ learners })),
  },
  {
    name: 'databases',
    title: 'Databases',
    axis: 'databases that writes are spread over',
    loads: BOTH,
    points: points([1, 10, 100, 1000], databases => ({ databases })),
  },
  {
    name: 'rows',
    title: 'Size of a row',
    axis: 'text of a row',
    loads: [{ operation: 'insert', connections: 16 }],
    points: points(
      [100, 1000, 10_000, 100_000, 1_000_000],
      rowBytes => ({ rowBytes, loadedRows: 0 }),
      bytes => ({ 100: '100B', 1000: '1KB', 10_000: '10KB', 100_000: '100KB' })[bytes] ?? '1MB',
    ),
  },
  {
    name: 'delay',
    title: 'Delay between nodes',
    axis: 'delay of every message between nodes, each way, ms',
    loads: [
      { operation: 'insert', connections: 16 },
      { operation: 'insert', connections: 64 },
      { operation: 'insert', connections: 256 },
    ],
    points: points([0, 1, 10, 50], delayMs => ({ delayMs })),
  },
  {
    name: 'flush',
    title: 'Slow flushes',
    axis: 'least time of a flush of the log on every node, ms',
    loads: [
      { operation: 'insert', connections: 16 },
      { operation: 'insert', connections: 64 },
    ],
    points: points([0, 1, 5], flushMs => ({ flushMs })),
  },
]

/** A point that is to be measured. */
export interface Chosen {
  readonly curve: Curve
  readonly point: Point
}

/**
 * The points of these names, such as `size` or `size/10GB`; of no names all but the long ones. Throws
 * for a name that isn't there.
 */
export function choose(names: readonly string[]): Chosen[] {
  const all = CURVES.flatMap(curve => curve.points.map(point => ({ curve, point })))
  const isNamed = ({ curve, point }: Chosen, name: string): boolean =>
    name === `${curve.name}/${point.label}` || (name === curve.name && point.isLong !== true)
  const unknown = names.filter(name => !all.some(one => isNamed(one, name)))
  if (unknown.length > 0) throw new Error(`unknown: ${unknown.join(', ')}`)
  if (names.length === 0) return all.filter(({ point }) => point.isLong !== true)
  return all.filter(one => names.some(name => isNamed(one, name)))
}
