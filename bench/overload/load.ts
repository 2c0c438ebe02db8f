/** Runs load generators beside each other and takes care that no two rows have the same id. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Measured, Message, Plan } from './generator.ts'
import type { Checked } from './ledger.ts'
import type { Summary } from './tally.ts'
import type { Target } from './target.ts'

export type Wish = Omit<Plan, 'firstId' | 'ledger'>

/** Ids that one generator may use: more than it can in an hour. */
const IDS_EACH = 100_000_000

interface Ledger {
  readonly path: string
  readonly firstId: number
}

export class Loader {
  readonly #target: Target
  readonly #ledgers: Ledger[] = []

  constructor(target: Target) {
    this.#target = target
  }

  /** Runs one generator to its end. */
  async run(wish: Wish, onInterval: (summary: Summary) => void = () => {}): Promise<Measured> {
    const at = this.#ledgers.length
    const ledger = {
      path: join(this.#target.directory, `ledger-${at}`),
      firstId: 1 + at * IDS_EACH,
    }
    this.#ledgers.push(ledger)
    const plan: Plan = { ...wish, firstId: ledger.firstId, ledger: ledger.path }
    const program = new URL('./generator.ts', import.meta.url).pathname
    const child = spawn(process.execPath, [program, JSON.stringify(plan)], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    let measured: Measured | undefined
    child.on('message', (message: Message) => {
      if (message.type === 'interval') onInterval(message.summary)
      else measured = message.measured
    })
    const onExit = (): void => void child.kill('SIGKILL')
    process.once('exit', onExit)
    const [code] = (await once(child, 'close')) as [number | null]
    process.off('exit', onExit)
    if (measured === undefined) throw new Error(`a load generator ended with ${code}`)
    return measured
  }

  /** What became of all rows of all generators that ran. */
  async check(): Promise<Checked> {
    const total = { acknowledged: 0, unknown: 0, missing: 0, unwanted: 0 }
    for (const { path, firstId } of this.#ledgers) {
      const found = await this.#target.check(path, firstId)
      total.acknowledged += found.acknowledged
      total.unknown += found.unknown
      total.missing += found.missing
      total.unwanted += found.unwanted
    }
    return total
  }
}
