/** Pictures of a comparison, as SVG without a browser. */
import { COLOURS, draw } from '../drawing.ts'
import type { Picture } from '../drawing.ts'
import { summarise } from './results.ts'
import type { Comparison, Summary } from './results.ts'
import { titleOf } from './report.ts'

/** Writes that can be set beside each other; etcd has no SQL and stores bytes instead. */
const INSERTS = ['insert', 'put-200']

/** Only those for which there are figures. */
export function pictures(comparison: Comparison): Picture[] {
  const all = summarise(comparison.results)
  const inserts = all.filter(({ workload }) => INSERTS.includes(workload))
  const updates = all.filter(({ workload }) => workload === 'update')
  const most = busiest(inserts)
  const atMost = inserts.filter(({ connections }) => connections === most)
  const reads = all.filter(({ workload }) => workload === 'point-read')
  const readers = busiest(reads)
  const lines = { comparison, unit: 'operations/s' }
  const made = [
    throughput({ ...lines, name: 'inserts', title: 'Durable inserts by connections' }, inserts),
    throughput({ ...lines, name: 'updates', title: 'Durable updates by connections' }, updates),
    latencies(comparison, `Latency of durable inserts at ${most} connections`, atMost),
    bars(
      {
        comparison,
        unit: 'µs of CPU an operation, all server processes',
        name: 'cpu',
        title: `CPU of a durable insert at ${most} connections`,
      },
      atMost,
      row => row.serverCpuMicros,
    ),
    bars(
      { ...lines, name: 'reads', title: `Reads of one row at ${readers} connections` },
      reads.filter(({ connections }) => connections === readers),
      row => row.operationsPerSecond,
    ),
  ]
  return made.filter(picture => picture !== undefined)
}

interface About {
  readonly comparison: Comparison
  readonly name: string
  readonly title: string
  readonly unit: string
}

/** 64 if it was measured: what most figures are compared at; else the most. */
function busiest(rows: readonly Summary[]): number {
  const counts = rows.map(({ connections }) => connections)
  return counts.includes(64) ? 64 : Math.max(0, ...counts)
}

function throughput(about: About, rows: readonly Summary[]): Picture | undefined {
  const connections = [...new Set(rows.map(row => row.connections))].sort((a, b) => a - b)
  if (connections.length < 2) return undefined
  const series = [...Map.groupBy(rows, row => labelOf(about.comparison, row))].map(
    ([name, own]) => ({
      type: 'line',
      name,
      color: own[0] === undefined ? undefined : colourOf(about.comparison, own[0]),
      symbolSize: 7,
      data: connections.map(
        count => own.find(row => row.connections === count)?.operationsPerSecond ?? null,
      ),
    }),
  )
  return draw(about, {
    xAxis: {
      type: 'category',
      name: 'connections',
      nameLocation: 'middle',
      nameGap: 30,
      data: connections.map(String),
    },
    yAxis: { type: 'value', name: about.unit },
    series,
  })
}

function latencies(
  comparison: Comparison,
  title: string,
  rows: readonly Summary[],
): Picture | undefined {
  if (rows.length === 0) return undefined
  const about = { comparison, name: 'latencies', title, unit: 'ms' }
  const series = rows.map(row => ({
    type: 'bar',
    name: labelOf(comparison, row),
    color: colourOf(comparison, row),
    data: [row.p50Ms, row.p99Ms, row.p999Ms].map(ms => Number(ms.toFixed(2))),
  }))
  const lowestMs = Math.min(...rows.map(row => row.p50Ms))
  const min = 10 ** Math.floor(Math.log10(Math.max(lowestMs, 0.001)))
  return draw(about, {
    xAxis: { type: 'category', data: ['p50', 'p99', 'p99.9'] },
    yAxis: { type: 'log', name: about.unit, min, startValue: min },
    series,
  })
}

function bars(
  about: About,
  rows: readonly Summary[],
  figure: (row: Summary) => number,
): Picture | undefined {
  if (rows.length === 0) return undefined
  const sorted = rows.toSorted((a, b) => figure(a) - figure(b))
  return draw(about, {
    grid: { left: 260, right: 60, top: 60, bottom: 50 },
    legend: undefined,
    xAxis: { type: 'value', name: about.unit, nameLocation: 'middle', nameGap: 30 },
    yAxis: { type: 'category', data: sorted.map(row => labelOf(about.comparison, row)) },
    series: [
      {
        type: 'bar',
        data: sorted.map(row => ({
          value: Math.round(figure(row)),
          itemStyle: { color: colourOf(about.comparison, row) },
        })),
        label: { show: true, position: 'right' },
      },
    ],
  })
}

/** A system has the same colour in every picture; Lockstep, the first, has the strongest. */
function colourOf({ systems }: Comparison, { system }: Summary): string {
  const at = systems.findIndex(({ name }) => name === system)
  return COLOURS[Math.max(0, at) % COLOURS.length] ?? COLOURS[0]
}

function labelOf(comparison: Comparison, { system, level, workload }: Summary): string {
  const title = titleOf(comparison, system, level)
  return workload.startsWith('put') ? `${title} (bare put)` : title
}
