/** The lines of `lockstep top`: one a node, under a head that comes again now and then. */
import Table from 'cli-table3'
import { WRITE_STAGES, type WriteStage } from '../replica/write-stages.ts'
import type { NodeLine, StageTimes } from './node-line.ts'

const STAGES = Object.keys(WRITE_STAGES) as WriteStage[]
const BEFORE = { time: 9, node: 8, role: 9, 'writes/s': 9, 'req/batch': 10 }
const AFTER = { behind: 7, 'lag ms': 7, queue: 6, 'errors/s': 8 }
const STAGE_WIDTH = 9
const HEAD = [...Object.keys(BEFORE), ...STAGES, ...Object.keys(AFTER)]
const WIDTHS = [...Object.values(BEFORE), ...STAGES.map(() => STAGE_WIDTH), ...Object.values(AFTER)]
const TITLE = 'p50/p99 of each stage of a write, in ms'
/** After so many looks the head comes again. */
const HEAD_EVERY = 10

const NO_LINES = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: ' ',
}
const PLAIN = { 'padding-left': 0, 'padding-right': 0, head: [], border: [] }

/** One line for each node; before the first look, and every so often, what the columns are. */
export function topLines(lines: readonly NodeLine[], at: Date, count: number): string {
  const time = at.toTimeString().slice(0, 8)
  const table = new Table({ chars: NO_LINES, style: PLAIN, colWidths: WIDTHS })
  const isHeadDue = count % HEAD_EVERY === 0
  if (isHeadDue) table.push(HEAD)
  for (const line of lines) table.push([time, line.node, ...cells(line)])
  return isHeadDue ? `${TITLE}\n${table.toString()}` : table.toString()
}

function cells(line: NodeLine): Table.Cell[] {
  const { role, stages, logFlush, error } = line
  if (role === 'away') return [role, { content: error ?? '', colSpan: HEAD.length - 3 }]
  // A node that does not lead has a disk, too, and that is looked at in the same place.
  const shown = { ...stages, flush: stages.flush ?? logFlush }
  return [
    role,
    short(line.writesPerSecond),
    short(line.requestsPerBatch),
    ...STAGES.map(stage => pair(shown[stage])),
    short(line.behindEntries),
    short(line.lagMs),
    short(line.queuedRequests),
    short(line.errorsPerSecond),
  ]
}

function pair(times: StageTimes | undefined): string {
  return times === undefined ? '' : `${short(times.p50Ms)}/${short(times.p99Ms)}`
}

/** Two or three digits, which is all that a column has room for and a glance takes in. */
function short(value: number | undefined): string {
  if (value === undefined) return ''
  if (value === 0 || value >= 100) return value.toFixed(0)
  return value < 10 ? value.toFixed(value < 0.1 ? 2 : 1) : value.toFixed(0)
}
