/** Makes docs/performance.md and its pictures from the JSON of a comparison. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pictures } from './charts.ts'
import type { Picture } from './charts.ts'
import { COLUMNS, sections, verdictLines } from './report.ts'
import type { Comparison } from './results.ts'

const PAGE = join('docs', 'performance.md')
const FOLDER = join('docs', 'performance')

/** Replaces the page and all pictures. */
export function writeDocument(comparison: Comparison): void {
  const made = pictures(comparison)
  rmSync(FOLDER, { recursive: true, force: true })
  mkdirSync(FOLDER, { recursive: true })
  for (const { name, svg } of made) writeFileSync(join(FOLDER, `${name}.svg`), `${svg}\n`)
  writeFileSync(PAGE, page(comparison, made))
}

/** The page as Markdown. */
export function page(
  comparison: Comparison,
  made: readonly Pick<Picture, 'name' | 'title'>[],
): string {
  const { machine, seconds, warmUpSeconds, repetitions, date, systems, missing } = comparison
  const facts = Object.entries(machine).map(([name, value]) => `${name} ${value}`)
  return [
    '# Performance, beside others',
    '',
    '*Made by `npm run bench -- --peers --docs` from one run; do not edit.*',
    '',
    `Measured on ${date.slice(0, 10)}: ${facts.join(', ')}. Servers and load generator share the machine and`,
    'talk over loopback, so a figure says how much of this one machine an operation takes. Each case',
    `ran ${seconds} s after ${warmUpSeconds} s of warm-up, ${repetitions} times, in rounds over all systems, each from`,
    'empty data; one system is up at a time. Figures are medians of the rounds.',
    '',
    '## What is compared',
    '',
    ...rows(
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
    ...made.flatMap(({ name, title }) => [`![${title}](performance/${name}.svg)`, '']),
    '## Figures',
    '',
    'Server CPU is that of all processes of all nodes together, with what replicas do later; disk is what the',
    'device of the data was given to store meanwhile; memory is the sum of resident sizes at its highest. The',
    'generator is a process of its own, bare sockets for every system, one operation at a time on each',
    'connection. [How it is measured](internals/comparison.md) says more.',
    '',
    ...sections(comparison).flatMap(({ title, rows: cells }) => [
      `### ${title[0]?.toUpperCase()}${title.slice(1)}`,
      '',
      ...rows(COLUMNS, cells),
      '',
    ]),
    '## Checked afterwards',
    '',
    ...verdictLines(comparison).map(line => `* ${line}.`),
    '',
  ].join('\n')
}

function rows(head: readonly string[], cells: readonly (readonly string[])[]): string[] {
  return [
    `| ${head.join(' | ')} |`,
    `|${head.map(() => ' --- |').join('')}`,
    ...cells.map(row => `| ${row.join(' | ')} |`),
  ]
}
