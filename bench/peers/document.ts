/** Makes a comparison's section of docs/performance.md from the JSON of a run. */
import type { Picture } from '../drawing.ts'
import { describeMachine } from '../machine.ts'
import { pictureLine, tableLines, writeSection } from '../pages.ts'
import { pictures } from './charts.ts'
import { COLUMNS, sections, verdictLines } from './report.ts'
import type { Comparison } from './results.ts'

/** Replaces the section of this name and its pictures. */
export function writeDocument(comparison: Comparison, name: string): void {
  const made = pictures(comparison)
  writeSection({
    name,
    command: `npm run bench -- --${name} --docs`,
    lines: sectionLines(comparison, name, made),
    pictures: made,
  })
}

/** The section as Markdown. */
export function sectionLines(
  comparison: Comparison,
  name: string,
  made: readonly Omit<Picture, 'svg'>[],
): string[] {
  const { machine, seconds, warmUpSeconds, repetitions, date, systems, missing } = comparison
  return [
    `Measured on ${date.slice(0, 10)}: ${describeMachine(machine)}. Servers and load generator share the machine and`,
    'talk over loopback, so a figure says how much of this one machine an operation takes. Each case',
    `ran ${seconds} s after ${warmUpSeconds} s of warm-up, ${repetitions} times, in rounds over all systems, each from`,
    'empty data; one system is up at a time. Figures are medians of the rounds.',
    '',
    '### What is compared',
    '',
    ...tableLines(
      ['system', 'version', 'nodes', 'acknowledged means', 'settings'],
      systems.map(one => [
        one.title,
        one.version,
        String(one.nodes),
        one.acknowledged,
        one.settings.join('; '),
      ]),
    ),
    '',
    ...missing.map(({ system, reason }) => `Left out: ${system}: ${reason.replaceAll('|', '/')}.`),
    ...(missing.length > 0 ? [''] : []),
    ...made.flatMap(picture => [pictureLine(name, picture), '']),
    '### Figures',
    '',
    'Server CPU is that of all processes of all nodes together, with what replicas do later; disk is what the',
    'device of the data was given to store meanwhile; memory is the sum of resident sizes at its highest. The',
    'generator is a process of its own, bare sockets for every system, one operation at a time on each',
    'connection. [How it is measured](internals/comparison.md) says more.',
    '',
    ...sections(comparison).flatMap(({ title, rows: cells }) => [
      `#### ${title[0]?.toUpperCase()}${title.slice(1)}`,
      '',
      ...tableLines(COLUMNS, cells),
      '',
    ]),
    '### Checked afterwards',
    '',
    ...verdictLines(comparison).map(line => `* ${line}.`),
  ]
}
