/**
 * A replica that computes something else: one statement is altered on one node, follower or leader.
 * The others must find out, and the node must stop serving, take the data of another and return.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { DbError } from '../../src/base/errors.ts'
import { createClient } from '../../src/client/client.ts'
import type { Client } from '../../src/client/client.ts'
import type { StatusResponse } from '../../src/protocol/http-api.ts'
import { always, victimOf } from './fault.ts'
import type { FaultKind, Scene } from './fault.ts'
import { isWhole, seeMembers } from './member-changes.ts'
import type { ChaosNodes } from './nodes.ts'

/** What is computed differently is in this database, and nothing else is. */
export const ODD_DATABASE = 'odd'

const WRITE_MS_MAX = 5000
const READ_MS_MAX = 3000
const LOOK_MS = 40
const HEAL_MS_MAX = 20_000
/** A tie may pass when who was away comes back; then nobody need decide. */
const TIE_MS_MAX = 4000
const VOTERS_TO_DECIDE = 3
/** Some digests, each of which a node may miss, and the heal. */
const SILENCE_MS_MAX = 60_000

/** Makes the table of these faults, before anything goes wrong. */
export async function prepareOddities(admin: Client): Promise<void> {
  await admin.command({ action: 'create_db', database: ODD_DATABASE })
  await admin.execute('CREATE TABLE odd (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)', [], {
    database: ODD_DATABASE,
  })
}

/** A statement, and how one node reads it. Its text is new, so that nobody has it prepared. */
interface Oddity {
  readonly what: string
  readonly sql: string
  readonly find: string
  readonly replace: string
  /** Nobody can see it in what the statement gives: only a digest of all data finds it. */
  readonly isSilent?: true
}

/** Ways to get something else out of a statement: in its rows, in their number, or an error. */
const ODDITIES: readonly ((id: number) => Oddity)[] = [
  id => ({
    what: 'returns another value',
    sql: `INSERT INTO odd VALUES (${id}, ${id} + 1) RETURNING n`,
    find: `${id} + 1)`,
    replace: `${id} + 2)`,
  }),
  id => ({
    what: 'touches no row',
    sql: `INSERT INTO odd SELECT id, id FROM (SELECT ${id} AS id) AS one WHERE id <= ${id}`,
    find: `id <= ${id}`,
    replace: `id < ${id}`,
  }),
  id => ({
    what: 'fails',
    sql: `INSERT INTO odd VALUES (${id}, abs(${id}))`,
    find: `abs(${id})`,
    replace: 'NULL',
  }),
  id => ({
    what: 'silently writes another value',
    sql: `INSERT INTO odd VALUES (${id}, ${id} + 3)`,
    find: `${id} + 3)`,
    replace: `${id} + 4)`,
    isSilent: true,
  }),
]

const HEARD = ODDITIES.filter(oddity => oddity(0).isSilent !== true)

/** What is altered on one node, while everything else goes on. */
export const DIVERGENCE: FaultKind = {
  name: 'divergence',
  weight: 3,
  whyNot: always,
  async begin(scene, random) {
    const { nodes, claims, note } = scene
    const release = claims.alone()
    if (release === undefined) return undefined
    const isEnough = nodes.nodeIds.length >= VOTERS_TO_DECIDE
    if (!isEnough || !isWhole(nodes, await seeMembers(nodes))) {
      release()
      return undefined
    }
    const victim = await victimOf(nodes, random)
    const id = random.between(1, 1_000_000_000)
    const drawn = random.pick(ODDITIES)(id)
    // Where a copy could spread it before it is found, something else is drawn.
    const { what, sql, find, replace } =
      drawn.isSilent === true && !scene.findsSilence ? random.pick(HEARD)(id) : drawn
    const client = createClient({ nodes: nodes.addresses, timeoutMs: WRITE_MS_MAX })
    scene.odd.add(victim)
    nodes.setFaults(victim, [{ type: 'sql', find, replace }])
    const watch = new Watch(scene, victim)
    const outcome = await outcomeOf(client.execute(sql, [], { database: ODD_DATABASE }))
    return {
      what: `a statement ${what} on ${victim}; its writer was told ${outcome}`,
      hurts: [victim],
      undo: async () => {
        nodes.setFaults(victim, [])
        const isWell = await agrees(nodes, victim, id)
        const wasFound = await watch.stop()
        note(
          `  ${victim} ${wasFound ? 'was found out' : 'was not seen as odd'}, ${wellness(isWell)}`,
        )
        // A second one that is odd would be a majority together with this one.
        if (isWell) release()
      },
    }
  },
}

/** Looks at a node all the time: while it says that it has diverged it must not answer. */
class Watch {
  readonly #scene: Scene
  readonly #victim: string
  readonly #running: Promise<void>
  #isOver = false
  #wasFound = false

  constructor(scene: Scene, victim: string) {
    this.#scene = scene
    this.#victim = victim
    this.#running = this.#run()
  }

  /** Whether the node was seen as odd. */
  async stop(): Promise<boolean> {
    this.#isOver = true
    await this.#running
    return this.#wasFound
  }

  async #run(): Promise<void> {
    const { nodes, expectations } = this.#scene
    const { address } = nodes.find(this.#victim)
    const first = await nodes.status(this.#victim)
    while (!this.#isOver) {
      const before = await nodes.status(this.#victim)
      this.#wasFound ||= isOdd(before) || divergencesOf(before) > divergencesOf(first)
      if (isOdd(before)) {
        const answered = await isAnswered(address)
        const after = await nodes.status(this.#victim)
        const isSame = isOdd(after) && after?.startedAt === before?.startedAt
        if (isSame && healsOf(after) === healsOf(before)) {
          const complaint = answered ? `${this.#victim} answered while it had diverged` : undefined
          expectations.check('who diverged does not serve', complaint)
        }
      }
      await pause(LOOK_MS)
    }
  }
}

function isOdd(status: StatusResponse | undefined): boolean {
  return status?.state === 'diverged' || status?.isCondemned === true
}

function divergencesOf(status: StatusResponse | undefined): number {
  return status?.counters['divergences'] ?? 0
}

function healsOf(status: StatusResponse | undefined): number {
  return status?.counters['heals'] ?? 0
}

function wellness(isWell: boolean): string {
  return isWell ? 'and has what the others have' : 'and is not well yet'
}

async function outcomeOf(written: Promise<unknown>): Promise<string> {
  try {
    await written
    return 'ok'
  } catch (error) {
    if (error instanceof DbError) return `${error.code} (${error.fate})`
    throw error
  }
}

async function isAnswered(address: string): Promise<boolean> {
  const client = createClient({ nodes: [address], discover: false, timeoutMs: 500 })
  const sql = 'SELECT count(*) FROM odd'
  const read = client.query(sql, [], { database: ODD_DATABASE, consistency: 'local' })
  return (await outcomeOf(read)) === 'ok'
}

/** Waits until a node has the same in a row as what counts; false if it doesn't come to that. */
async function agrees(nodes: ChaosNodes, nodeId: string, id: number): Promise<boolean> {
  const sql = 'SELECT n FROM odd WHERE id = ?'
  const read = async (addresses: readonly string[]): Promise<string> => {
    const client = createClient({ nodes: addresses, discover: false, timeoutMs: READ_MS_MAX })
    const { rows } = await client.query(sql, [id], { database: ODD_DATABASE })
    return JSON.stringify(rows)
  }
  const { address } = nodes.find(nodeId)
  const deadlineMs = performance.now() + HEAL_MS_MAX
  while (performance.now() < deadlineMs) {
    try {
      const right = await read(nodes.addresses.filter(other => other !== address))
      if (right === (await read([address]))) return true
    } catch (error) {
      if (!(error instanceof DbError)) throw error
    }
    await pause(LOOK_MS)
  }
  return false
}

/** When nobody writes any more, all nodes must come to have the same rows, also of silent faults. */
export async function expectEqualOddities({
  nodes,
  findsSilence,
  expectations,
}: Scene): Promise<void> {
  if (!findsSilence) return
  const deadlineMs = performance.now() + SILENCE_MS_MAX
  for (;;) {
    const seen = await Promise.all(nodes.addresses.map(address => allOddities(address)))
    const isSame = seen.every(each => each !== undefined && each === seen[0])
    const isOver = performance.now() > deadlineMs
    if (isSame || isOver) {
      const complaint = isSame ? undefined : 'nodes have different rows, and no digest found it'
      expectations.check('a silent change is found', complaint)
      return
    }
    await pause(LOOK_MS)
  }
}

async function allOddities(address: string): Promise<string | undefined> {
  const client = createClient({ nodes: [address], discover: false, timeoutMs: READ_MS_MAX })
  const options = { database: ODD_DATABASE, consistency: 'local' } as const
  try {
    const { rows } = await client.query('SELECT id, n FROM odd ORDER BY id', [], options)
    return JSON.stringify(rows)
  } catch (error) {
    if (error instanceof DbError) return undefined
    throw error
  }
}

/**
 * Decides where no majority can come about, as an operator must: a node that got its data from the
 * odd one is no witness any more. Call it when all other faults are over.
 */
export async function decideTies(scene: Scene): Promise<void> {
  const { nodes, note } = scene
  const deadlineMs = performance.now() + TIE_MS_MAX
  for (;;) {
    const all = await Promise.all(nodes.nodeIds.map(nodeId => nodes.status(nodeId)))
    if (!all.some(status => status?.dispute?.isTie === true)) return
    if (performance.now() > deadlineMs) {
      const honest = all.filter(each => each !== undefined && !scene.odd.has(each.node))
      // Who stopped has computed it itself, and is not the odd one.
      const right = honest.find(each => each?.divergence !== null) ?? honest[0]
      if (right === undefined) return
      note(`nobody has a majority, and the operator trusts ${right.node}`)
      const client = createClient({ nodes: nodes.addresses, timeoutMs: WRITE_MS_MAX })
      await outcomeOf(client.trust(right.node))
      return
    }
    await pause(LOOK_MS)
  }
}
