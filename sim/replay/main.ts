/**
 * `npm run replay -- DIR` replays the scenario scripts under a directory. With `--rewrite` it writes
 * down what they give now instead.
 */
import { describeMismatch, findScripts, runScript } from './replay.ts'
import { rewriteScript } from './rewrite.ts'

const args = process.argv.slice(2)
const isRewrite = args.includes('--rewrite')
const [directory] = args.filter(arg => arg !== '--rewrite')
if (directory === undefined) {
  console.error('usage: npm run replay -- [--rewrite] DIR')
  process.exitCode = 2
} else if (isRewrite) {
  for (const path of findScripts(directory)) if (rewriteScript(path)) console.log(`rewrote ${path}`)
} else {
  process.exitCode = replay(directory)
}

function replay(directory: string): number {
  let directiveCount = 0
  let mismatchCount = 0
  let failedCount = 0
  const paths = findScripts(directory)
  for (const path of paths) {
    const result = runScript(path)
    directiveCount += result.directiveCount
    mismatchCount += result.mismatches.length
    if (result.mismatches.length === 0) continue
    failedCount++
    console.log(`FAILED ${path}`)
    for (const mismatch of result.mismatches) console.log(`${describeMismatch(mismatch)}\n`)
  }
  console.log(`${directiveCount} directives, ${mismatchCount} of them differ`)
  console.log(`${paths.length - failedCount} passed, ${failedCount} failed`)
  return failedCount > 0 || paths.length === 0 ? 1 : 0
}
