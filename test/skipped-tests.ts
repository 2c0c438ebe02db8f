/** What a run of the tests left out, from its report in JUnit's format. */

const SKIPPED = /<skipped type="skipped" message="([^"]*)"/g
/** `&amp;` last, or what it stands for would be read once more. */
const ENTITIES = [
  ['&lt;', '<'],
  ['&gt;', '>'],
  ['&quot;', '"'],
  ['&apos;', "'"],
  ['&#39;', "'"],
  ['&amp;', '&'],
] as const

/** Lines for people: how many tests were skipped for which reason; empty if none was. */
export function skippedTests(report: string): string {
  const counts = new Map<string, number>()
  for (const [, message = ''] of report.matchAll(SKIPPED)) {
    const reason = decode(message)
    counts.set(reason, (counts.get(reason) ?? 0) + 1)
  }
  if (counts.size === 0) return ''
  const lines = [...counts].map(([reason, count]) => {
    return `  ${count} ${count === 1 ? 'test' : 'tests'}: ${reason}`
  })
  return `\nNot tested here, "npm run setup" says what to install:\n${lines.join('\n')}\n`
}

function decode(text: string): string {
  return ENTITIES.reduce((decoded, [entity, character]) => {
    return decoded.replaceAll(entity, character)
  }, text)
}
