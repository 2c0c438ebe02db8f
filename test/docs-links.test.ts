/** Every link from a page to a file of this repository leads somewhere. */
import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'

const ROOT = join(import.meta.dirname, '..')
const LINK = /\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)|^\[[^\]]+\]:\s+(\S+)/gm
const HEADING = /^#+\s+(.*)$/gm
const IS_ELSEWHERE = /^[a-z][a-z+.-]*:/

const pages = globSync('**/*.md', {
  cwd: ROOT,
  exclude: name => /(?:^|[\\/])(?:node_modules|dist|\.git)$/.test(name),
})

/** The page without its examples, in which nothing is a link or a heading. */
function proseOf(page: string): string {
  const text = readFileSync(join(ROOT, page), 'utf8')
  return text.replaceAll(/^(```+|~~~+)[^]*?^\1/gm, '')
}

/** Names of the headings as links know them. */
function anchorsOf(page: string): Set<string> {
  const anchors = new Set<string>()
  for (const [, heading = ''] of proseOf(page).matchAll(HEADING)) {
    const plain = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase()
    const name = plain.replaceAll(/[^\p{L}\p{N}\s_-]/gu, '').replaceAll(/\s/g, '-')
    let anchor = name
    for (let again = 1; anchors.has(anchor); again += 1) anchor = `${name}-${again}`
    anchors.add(anchor)
  }
  return anchors
}

function linksOf(page: string): string[] {
  const prose = proseOf(page).replaceAll(/`[^`\n]*`/g, '')
  const links = [...prose.matchAll(LINK)].map(([, inline, reference]) => inline ?? reference ?? '')
  return links.filter(link => !IS_ELSEWHERE.test(link))
}

test('every relative link of a page leads to a file, and to a heading that is there', () => {
  const broken: string[] = []
  let count = 0
  for (const page of pages) {
    for (const link of linksOf(page)) {
      count += 1
      const [path = '', anchor] = link.split('#')
      const target = path === '' ? page : join(dirname(page), decodeURIComponent(path))
      const isThere = existsSync(join(ROOT, target))
      const isHeading = anchor === undefined || !target.endsWith('.md')
      if (!isThere || !(isHeading || anchorsOf(target).has(anchor))) broken.push(`${page}: ${link}`)
    }
  }
  assert.deepEqual(broken, [])
  assert(pages.length > 5 && count > 20, `only ${count} links are on ${pages.length} pages`)
})
