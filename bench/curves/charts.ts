/** The picture of a curve: throughput, latency and CPU along one axis, one over the other. */
import { COLOURS, draw } from '../drawing.ts'
import type { Picture } from '../drawing.ts'
import type { Curve, CurveLoad } from './curves.ts'
import { loadName } from './report.ts'
import type { PointResult, Result } from './results.ts'

interface Line {
  readonly style: 'solid' | 'dashed'
  readonly figure: (result: Result) => number
}

interface Panel {
  readonly unit: string
  readonly lines: readonly Line[]
  readonly isLog: boolean
}

const PANELS: readonly Panel[] = [
  {
    unit: 'operations/s',
    isLog: false,
    lines: [{ style: 'solid', figure: result => Math.round(result.operationsPerSecond) }],
  },
  {
    unit: 'ms: p50, dashed p99',
    isLog: true,
    lines: [
      { style: 'solid', figure: result => round(result.p50Ms) },
      { style: 'dashed', figure: result => round(result.p99Ms) },
    ],
  },
  {
    unit: 'µs of CPU an operation: all nodes, dashed the leader',
    isLog: true,
    lines: [
      { style: 'solid', figure: result => round(result.serverCpuMicros) },
      { style: 'dashed', figure: result => round(result.leaderCpuMicros) },
    ],
  },
]
const TOP = 70
const PANEL_HEIGHT = 190
const PANEL_GAP = 60
const BOTTOM = 90

/** Undefined if there are too few points for a line. */
export function picture(curve: Curve, points: readonly PointResult[]): Picture | undefined {
  const measured = points.filter(({ results }) => results.length > 0)
  if (measured.length < 2) return undefined
  const height = TOP + PANELS.length * (PANEL_HEIGHT + PANEL_GAP) + BOTTOM - PANEL_GAP
  const labels = measured.map(({ point }) => point)
  return draw(
    { name: 'curve', title: curve.title, height },
    {
      grid: PANELS.map((_, at) => ({
        left: 80,
        right: 60,
        top: TOP + at * (PANEL_HEIGHT + PANEL_GAP),
        height: PANEL_HEIGHT,
      })),
      xAxis: PANELS.map((_, at) => ({
        type: 'category',
        gridIndex: at,
        data: labels,
        ...(at === PANELS.length - 1 && {
          name: curve.axis,
          nameLocation: 'middle',
          nameGap: 30,
        }),
      })),
      yAxis: PANELS.map(({ unit, isLog }, at) => ({
        type: isLog ? 'log' : 'value',
        gridIndex: at,
        name: unit,
        nameTextStyle: { align: 'left' },
        ...(isLog && lowest(measured, PANELS[at])),
      })),
      series: PANELS.flatMap((panel, at) => seriesOf(curve.loads, measured, panel, at)),
    },
  )
}

function seriesOf(
  loads: readonly CurveLoad[],
  points: readonly PointResult[],
  { lines }: Panel,
  panel: number,
): object[] {
  return loads.flatMap((load, at) =>
    lines.map(({ style, figure }) => ({
      type: 'line',
      // The same name in all panels: the legend has it once.
      name: loadName(load),
      color: COLOURS[at % COLOURS.length],
      xAxisIndex: panel,
      yAxisIndex: panel,
      symbolSize: 6,
      lineStyle: { type: style },
      data: points.map(({ results }) => {
        const result = results.find(one => loadName(one) === loadName(load))
        return result === undefined ? null : figure(result)
      }),
    })),
  )
}

/** A logarithmic axis begins at the power of ten below all that it shows. */
function lowest(points: readonly PointResult[], panel: Panel | undefined): object {
  const figures = points.flatMap(({ results }) =>
    results.flatMap(result => (panel?.lines ?? []).map(({ figure }) => figure(result))),
  )
  const min = 10 ** Math.floor(Math.log10(Math.max(0.01, Math.min(...figures))))
  return { min, startValue: min }
}

function round(value: number): number {
  return Number(value.toPrecision(3))
}
