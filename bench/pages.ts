/**
 * docs/performance.md: prose by hand, and between marks what benchmarks measured, each in a section of
 * its own that can be renewed alone. Pictures stand in a folder beside.
 */
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Picture } from './drawing.ts'

const PAGE = join('docs', 'performance.md')
const FOLDER = join('docs', 'performance')
const NEW_PAGE = '# Performance\n'

export interface Section {
  /** Small letters and hyphens. */
  readonly name: string
  /** How it is renewed. */
  readonly command: string
  readonly lines: readonly string[]
  readonly pictures: readonly Picture[]
}

/** Renews one section of the page, with its pictures; at the end if the page doesn't have it yet. */
export function writeSection({ name, command, lines, pictures }: Section): void {
  mkdirSync(FOLDER, { recursive: true })
  for (const file of readdirSync(FOLDER)) {
    if (file.startsWith(`${name}.`)) rmSync(join(FOLDER, file))
  }
  for (const { name: picture, svg } of pictures) {
    writeFileSync(join(FOLDER, fileOf(name, picture)), `${svg}\n`)
  }
  const page = existsSync(PAGE) ? readFileSync(PAGE, 'utf8') : NEW_PAGE
  writeFileSync(PAGE, withSection(page, name, command, lines))
}

/** The page with the section's lines in place of what stood between its marks. */
export function withSection(
  page: string,
  name: string,
  command: string,
  lines: readonly string[],
): string {
  const begin = `<!-- ${name}: made by \`${command}\`; do not edit -->`
  const section = [begin, '', ...lines, '', `<!-- end of ${name} -->`].join('\n')
  const marked = new RegExp(`<!-- ${name}: [^]*?<!-- end of ${name} -->`)
  // A function, because a text to replace by could hold signs with a meaning.
  if (marked.test(page)) return page.replace(marked, () => section)
  return `${page.trimEnd()}\n\n${section}\n`
}

/** What shows a picture of a section in the page. */
export function pictureLine(section: string, { name, title }: Omit<Picture, 'svg'>): string {
  return `![${title}](performance/${fileOf(section, name)})`
}

function fileOf(section: string, picture: string): string {
  return `${section}.${picture}.svg`
}

/** A table of Markdown. */
export function tableLines(
  head: readonly string[],
  rows: readonly (readonly string[])[],
): string[] {
  return [
    `| ${head.join(' | ')} |`,
    `|${head.map(() => ' --- |').join('')}`,
    ...rows.map(row => `| ${row.join(' | ')} |`),
  ]
}
