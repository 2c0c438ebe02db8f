/** Looks at all nodes all the time: who leads, who holds which data, who complains of what. */
import { setTimeout as pause } from 'node:timers/promises'
import type { DigestResponse } from '../../src/protocol/http-api.ts'
import { ODD_DATABASE } from './divergence-fault.ts'
import type { ChaosNodes } from './nodes.ts'
import { checkDigests, checkLeaders } from './sights.ts'
import type { DigestSight, LeaderSight } from './sights.ts'
import type { History, Verdict } from './workload.ts'

const LOOK_EVERY_MS = 250
const DIGESTS_EVERY_LOOKS = 8
const DIGEST_MS_MAX = 3000
const LAST_DIGEST_MS_MAX = 40_000

export class Observer {
  readonly #nodes: ChaosNodes
  readonly #history: History
  readonly #databases: readonly string[]
  readonly #odd: ReadonlySet<string>
  readonly #leaders: LeaderSight[] = []
  readonly #digests: DigestSight[] = []
  readonly #divergences = new Set<string>()
  readonly #running: Promise<void>
  #isStopped = false

  /** `odd`: nodes that a fault has made compute something else. */
  constructor(
    nodes: ChaosNodes,
    history: History,
    databases: readonly string[],
    odd: ReadonlySet<string>,
  ) {
    this.#nodes = nodes
    this.#history = history
    this.#databases = databases
    this.#odd = odd
    this.#running = this.#run()
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    await this.#running
  }

  judge(): Verdict[] {
    const verdict = (checker: string, checked: number, complaints: readonly string[]): Verdict => {
      return { checker, checked, complaints, undecided: 0 }
    }
    const leaders = this.#leaders.length
    return [
      verdict('one leader in a term', leaders, checkLeaders(this.#leaders)),
      verdict('equal data at equal index', this.#digests.length, checkDigests(this.#digests)),
      verdict('nobody else diverges', leaders, [...this.#divergences]),
    ]
  }

  /** Reads the digest of every database at every node, each at least as new as `token`. */
  async lastDigests(token: string): Promise<Verdict> {
    const complaints: string[] = []
    for (const database of this.#databases) {
      const search = { database, consistency: 'session', atLeast: token, timeoutMs: '30000' }
      const seen = await Promise.all(
        this.#nodes.nodes.map(async ({ nodeId, address }) => {
          const answer = await digestInTime(address, search)
          return { nodeId, digest: typeof answer === 'string' ? answer : answer.digest }
        }),
      )
      const digests = new Set(seen.map(({ digest }) => digest))
      if (digests.size === 1 && !seen.some(({ digest }) => digest.startsWith('no '))) continue
      const shown = seen.map(({ nodeId, digest }) => `${nodeId} ${digest}`).join(', ')
      complaints.push(`${database} is not the same everywhere: ${shown}`)
    }
    const checked = this.#databases.length * this.#nodes.nodes.length
    return { checker: 'equal data in the end', checked, complaints, undecided: 0 }
  }

  async #run(): Promise<void> {
    for (let look = 1; !this.#isStopped; look += 1) {
      await Promise.all(this.#nodes.nodeIds.map(nodeId => this.#lookAt(nodeId)))
      if (look % DIGESTS_EVERY_LOOKS === 0) {
        const database = this.#databases[(look / DIGESTS_EVERY_LOOKS) % this.#databases.length]
        // A leader that is odd has what it wrote until it is found out.
        if (database !== undefined && database !== ODD_DATABASE) await this.#digest(database)
      }
      await pause(LOOK_EVERY_MS)
    }
  }

  async #lookAt(nodeId: string): Promise<void> {
    const status = await this.#nodes.status(nodeId)
    if (status === undefined) return
    const { role, term, state, commitIndex, appliedIndex, divergence, lastError } = status
    this.#history.remark({ nodeId, role, term, state, commitIndex, appliedIndex, lastError })
    if (role === 'leader') this.#leaders.push({ nodeId, term })
    // There a fault makes replicas differ, on purpose.
    if (divergence === null || divergence.database === ODD_DATABASE) return
    // By a digest of all data it may be known that it differs, and not yet where.
    if (divergence.database === '' && this.#odd.has(nodeId)) return
    this.#divergences.add(`${nodeId}: ${JSON.stringify(divergence)}`)
  }

  async #digest(database: string): Promise<void> {
    const search = { database, consistency: 'local', timeoutMs: String(DIGEST_MS_MAX) }
    await Promise.all(
      this.#nodes.nodes.map(async ({ nodeId, address }) => {
        const answer = await digestOf(address, search, DIGEST_MS_MAX)
        if (typeof answer === 'string') return
        this.#digests.push({ nodeId, database, index: answer.index, digest: answer.digest })
      }),
    )
  }
}

/** The same from a node that may take another's data right now, since it has fallen behind. */
async function digestInTime(
  address: string,
  search: Record<string, string>,
): Promise<DigestResponse | string> {
  const deadlineMs = performance.now() + LAST_DIGEST_MS_MAX
  for (;;) {
    const answer = await digestOf(address, search, LAST_DIGEST_MS_MAX)
    if (typeof answer !== 'string' || performance.now() > deadlineMs) return answer
    await pause(LOOK_EVERY_MS)
  }
}

/** The digest, or a sentence that begins with "no". */
async function digestOf(
  address: string,
  search: Record<string, string>,
  timeoutMs: number,
): Promise<DigestResponse | string> {
  try {
    const url = `http://${address}/digest?${new URLSearchParams(search).toString()}`
    const answer = await fetch(url, { signal: AbortSignal.timeout(timeoutMs) })
    const text = await answer.text()
    return answer.ok ? (JSON.parse(text) as DigestResponse) : `no digest: ${text}`
  } catch (error) {
    return `no digest: ${String(error)}`
  }
}
