/** Makes a section of docs/performance.md for each curve that was measured. */
import { pictureLine, tableLines, writeSection } from '../pages.ts'
import { picture } from './charts.ts'
import type { Curve } from './curves.ts'
import { COLUMNS, circumstances, rowsOf, troubleLines, verdictLine } from './report.ts'
import { pointsOf } from './results.ts'
import type { CurvesFile, PointResult } from './results.ts'

/** Renews the sections of these curves, as far as they were measured. */
export function writeSections(file: CurvesFile, curves: readonly Curve[]): void {
  for (const curve of curves) {
    const points = pointsOf(file, curve)
    if (points.length === 0) continue
    const drawn = picture(curve, points)
    writeSection({
      name: sectionName(curve),
      command: `npm run bench -- --curves ${curve.name} --docs`,
      lines: sectionLines(curve, points, drawn !== undefined),
      pictures: drawn === undefined ? [] : [drawn],
    })
  }
}

/** A section as Markdown. */
export function sectionLines(
  curve: Curve,
  points: readonly PointResult[],
  hasPicture: boolean,
): string[] {
  return [
    ...(hasPicture
      ? [pictureLine(sectionName(curve), { name: 'curve', title: curve.title }), '']
      : []),
    ...tableLines(COLUMNS, rowsOf(points)),
    '',
    ...circumstances(points).map(line => `Measured on ${line}.`),
    `Checked afterwards: ${verdictLine(points)}.`,
    ...troubleLines(points).map(line => `At ${line}.`),
  ]
}

function sectionName(curve: Curve): string {
  return `curve-${curve.name}`
}
