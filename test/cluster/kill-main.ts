/** `npm run kill-test -- --seconds 60`: kills leaders while clients write, and prints every gap. */
import { Command } from 'commander'
import { runKills } from './kill-run.ts'
import { isSound } from './writers.ts'

const options = new Command('npm run kill-test --')
  .option('--nodes <count>', 'how many nodes', '3')
  .option('--connections <count>', 'how many clients write at once', '32')
  .option('--seconds <count>', 'how long', '60')
  .option('--every <seconds>', 'time from kill to kill', '8')
  .option('--down <seconds>', 'time that a killed node stays away', '3')
  .parse()
  .opts<Record<'nodes' | 'connections' | 'seconds' | 'every' | 'down', string>>()

const report = await runKills({
  nodes: Number(options.nodes),
  connections: Number(options.connections),
  seconds: Number(options.seconds),
  killEverySeconds: Number(options.every),
  downSeconds: Number(options.down),
  log: text => console.log(text),
})
const { ledger, verdict, gapsMs } = report
const sorted = [...gapsMs].sort((left, right) => left - right)
console.log(`acknowledged ${ledger.acknowledged.size}, unknown ${ledger.unknown.size},`)
console.log(`not applied ${ledger.notApplied.size}; failures:`, Object.fromEntries(ledger.failures))
console.log(`gaps in service: ${gapsMs.map(gap => `${Math.round(gap)} ms`).join(', ')}`)
console.log(`median gap: ${Math.round(sorted[Math.floor(sorted.length / 2)] ?? 0)} ms`)
console.log(`rows ${verdict.rows}; lost ${verdict.lost.length}, doubled ${verdict.doubled.length},`)
console.log(`denied ${verdict.denied.length}, invented ${verdict.invented.length}`)
console.log(`digests: ${verdict.digests.join(' ')}`)
console.log(isSound(verdict) ? 'sound' : 'NOT SOUND')
process.exit(isSound(verdict) ? 0 : 1)
