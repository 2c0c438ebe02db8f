/**
 * `npm run chaos -- --seed 1 --minutes 10`: hurts a cluster of real processes in every way that this
 * machine allows while clients work, and says whether a promise was broken.
 */
import { Command } from 'commander'
import type { EngineName } from '../cluster/dialects.ts'
import { whyNoMariaDb } from '../fixtures/mariadb-server.ts'
import { faultsNamed } from './nemesis.ts'
import { isSound, runChaos } from './run.ts'

const options = new Command('npm run chaos --')
  .option('--seed <number>', 'what goes wrong, and when, as far as real time repeats', '1')
  .option('--minutes <count>', 'how long', '2')
  .option('--nodes <count>', 'how many nodes', '3')
  .option('--engine <name>', 'sqlite, or mysql: a MariaDB server under each node', 'sqlite')
  .option('--network <kind>', 'namespaces or proxies; by the seed where both are possible')
  .option('--only <faults>', 'names of faults with commas between them')
  .option('--clients <count>', 'clients of each of the five workloads', '4')
  .option('--pause <ms>', 'mean pause of a client between two requests', '25')
  .option('--keep <directory>', 'keep histories and logs there, whatever comes out')
  .parse()
  .opts<{
    seed: string
    minutes: string
    nodes: string
    engine: string
    network?: string
    only?: string
    clients: string
    pause: string
    keep?: string
  }>()

const report = await runChaos({
  seed: Number(options.seed),
  minutes: Number(options.minutes),
  nodes: Number(options.nodes),
  engine: engineNamed(options.engine),
  network: options.network as 'namespaces' | 'proxies' | undefined,
  kinds: faultsNamed(options.only?.split(',')),
  clients: Number(options.clients),
  pauseMs: Number(options.pause),
  keep: options.keep,
  log: text => console.log(text),
})
console.log(`\nfaults: ${listOf(report.faults)}`)
for (const reason of report.notRun) console.log(`not run: ${reason}`)
console.log(`acknowledged writes: ${report.acknowledged}; reads: ${report.readsAnswered}`)
console.log(`failed requests: ${listOf(report.failures)}`)
console.log(`of unknown fate: ${report.unknownFates}`)
const gap = `${Math.round(report.longestGapMs)} ms, from ${seconds(report.longestGapAtMs)} s`
console.log(`longest time without an acknowledged write: ${gap}`)
for (const { checker, checked, complaints, undecided } of report.verdicts) {
  const doubt = undecided > 0 ? `, ${undecided} undecided` : ''
  const verdict = complaints.length === 0 ? 'sound' : `${complaints.length} VIOLATIONS`
  console.log(`${checker}: ${verdict} (${checked} checked${doubt})`)
  for (const complaint of complaints.slice(0, 5)) console.log(`  ${complaint}`)
}
if (report.kept !== undefined) console.log(`histories and logs are in ${report.kept}`)
console.log(isSound(report) ? 'sound' : `NOT SOUND; again: --seed ${options.seed}`)
process.exit(isSound(report) ? 0 : 1)

function engineNamed(name: string): EngineName {
  if (name === 'sqlite') return name
  if (name !== 'mysql') throw new Error(`no engine is called ${name}; there are sqlite and mysql`)
  const reason = whyNoMariaDb()
  if (reason !== undefined) throw new Error(reason)
  return 'mariadb'
}

function seconds(timeMs: number): string {
  return (timeMs / 1000).toFixed(1)
}

function listOf(counts: ReadonlyMap<string, number>): string {
  if (counts.size === 0) return 'none'
  return [...counts].map(([name, count]) => `${name} ${count}`).join(', ')
}
