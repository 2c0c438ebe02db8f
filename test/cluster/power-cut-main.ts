/** `npm run power-cut -- --rounds 200`: cuts the power of all nodes again and again. */
import { Command } from 'commander'
import { runPowerCuts } from './power-cut-run.ts'
import { isSound } from './writers.ts'

const options = new Command('npm run power-cut --')
  .option('--seed <number>', 'chance of where to cut', '1')
  .option('--rounds <count>', 'how often', '200')
  .option('--connections <count>', 'how many clients write at once', '16')
  .option('--skip <flush>', 'pretend to flush: fdatasync or directory; the test must then fail')
  .parse()
  .opts<{ seed: string; rounds: string; connections: string; skip?: string }>()

const verdict = await runPowerCuts({
  seed: Number(options.seed),
  rounds: Number(options.rounds),
  connections: Number(options.connections),
  ...(options.skip !== undefined && { skipped: options.skip }),
  log: text => console.log(text),
})
console.log(`rows ${verdict.rows}; lost ${verdict.lost.length}, doubled ${verdict.doubled.length},`)
console.log(`denied ${verdict.denied.length}, invented ${verdict.invented.length}`)
console.log(`digests: ${verdict.digests.join(' ')}`)
console.log(isSound(verdict) ? 'sound' : 'NOT SOUND')
process.exit(isSound(verdict) ? 0 : 1)
