/** `npm run forms -- --seed 1`: statements of many forms on three MariaDB servers. */
import { Command } from 'commander'
import { runForms } from './forms-run.ts'

const options = new Command('npm run forms --')
  .option('--seed <number>', 'which statements, in which order', '1')
  .option('--requests <count>', 'how many requests', '1000')
  .parse()
  .opts<Record<'seed' | 'requests', string>>()

const { succeeded, failed, complaint } = await runForms({
  seed: Number(options.seed),
  requests: Number(options.requests),
  log: text => console.log(text),
})
console.log(`seed ${options.seed}: ${succeeded} succeeded; failed:`, Object.fromEntries(failed))
console.log(complaint ?? 'all nodes have the same')
process.exit(complaint === undefined ? 0 : 1)
