/**
 * Committed entries on a follower, or on any node that replays. As many as come together run in one
 * transaction, in few packets; their outcomes are compared before it is committed. If anything is
 * not as it should be, all of it is undone and goes once more, entry by entry and with care.
 */
import { DbError } from '../../base/errors.ts'
import type { Divergence, EngineEntry, RequestId } from '../engine.ts'
import { decodeEntry } from '../entry.ts'
import { isSameOutcome } from '../outcomes.ts'
import { LocalFault } from '../request-errors.ts'
import { identitiesOf, RequestIds } from '../request-ids.ts'
import { type Applied, CarefulEntry, soloOf } from './careful-entry.ts'
import type { Command } from './commands.ts'
import { scoped, withoutDigests } from './execute-batch.ts'
import type { Placed } from './insert-targets.ts'
import { jointCommands, joinNeighbours, learnTargets } from './joint-inserts.ts'
import { classifyServerError } from './mysql-errors.ts'
import type { EntryRecords } from './node-tables.ts'
import { type PlannedRequest, planRepeat } from './repeat-plan.ts'
import { readOutcomes } from './schema-outcomes.ts'
import { momentCommand, type Session } from './session.ts'

/** A request, or a step of a transaction. */
interface Step extends Placed {
  readonly database: string
}

/** Entries that share a transaction at most. */
const GROUP_MAX = 64

/** Applies entries up to the first that gives something else; that one changes nothing. */
export async function applyEntries(
  session: Session,
  entries: readonly EngineEntry[],
): Promise<Divergence | undefined> {
  let group: Applied[] = []
  const applyGroup = async (): Promise<Divergence | undefined> => {
    const applied = group
    group = []
    if (applied.length === 0 || (await new Group(session, applied).run())) return undefined
    return applyOneByOne(session, applied)
  }
  for (const { index, data } of entries) {
    const applied = { index, entry: decodeEntry(data) }
    const isAgreed = session.tables.agreedDigest(index) !== undefined
    if (!isAgreed && soloOf(applied.entry) === undefined) {
      group.push(applied)
      if (group.length < GROUP_MAX) continue
      const divergence = await applyGroup()
      if (divergence !== undefined) return divergence
      continue
    }
    const divergence = (await applyGroup()) ?? (await applyOneByOne(session, [applied]))
    if (divergence !== undefined) return divergence
  }
  return applyGroup()
}

async function applyOneByOne(
  session: Session,
  entries: readonly Applied[],
): Promise<Divergence | undefined> {
  for (const applied of entries) {
    const divergence = await new CarefulEntry(session, applied).run()
    if (divergence !== undefined) return divergence
  }
  return undefined
}

/** Entries that are applied together, or not at all. */
class Group {
  readonly #session: Session
  readonly #entries: readonly Applied[]
  readonly #planned: PlannedRequest[] = []
  readonly #steps: { readonly nowMs: number; readonly steps: readonly Step[] }[] = []
  /** The server does not say what became of each row. */
  #isOdd = false
  /** Schema changes up to here are compared. */
  #comparedUpTo: number | undefined

  constructor(session: Session, entries: readonly Applied[]) {
    this.#session = session
    this.#entries = entries
  }

  /** False if something is not as the entries say; nothing is changed then. */
  async run(): Promise<boolean> {
    const { tables } = this.#session
    if (!this.#plan()) return false
    const failure = await this.#session.run(await this.#commands())
    if (failure !== undefined) {
      const { type, error } = classifyServerError(failure.error)
      if (type === 'local') throw new LocalFault(error)
    }
    const records = failure === undefined && this.#isAsSaid() ? await this.#records() : undefined
    if (records === undefined) {
      this.#session.forgetDatabase()
      await this.#session.rollback()
      return false
    }
    const last = this.#entries.at(-1)?.index ?? 0
    const nowMs = Math.max(...this.#entries.map(({ entry }) => entry.nowMs))
    const compared =
      this.#comparedUpTo === undefined ? [] : [tables.comparedSql(this.#comparedUpTo)]
    await this.#session.expect(...compared, ...tables.commitSql(last, nowMs, records))
    return true
  }

  /** False if an entry asks for what is not there. */
  #plan(): boolean {
    const { tables } = this.#session
    for (const { entry } of this.#entries) {
      const steps: Step[] = []
      for (const [position, { request, outcomes }] of entry.requests.entries()) {
        const compared = readOutcomes(request)
        if (compared !== undefined) {
          const isSame = compared.every(({ index, digest }) => {
            const own = tables.outcomeOf(index)
            return own === undefined || own.digest === digest
          })
          if (!isSame) return false
          this.#comparedUpTo = compared.at(-1)?.index
        } else if (request.type === 'statements' || request.type === 'transaction') {
          const { database } = request
          if (tables.madeBy(database) === undefined) return false
          const planned = this.#planRequest({ entry, request, outcomes, position })
          if (planned === undefined) return false
          const server = tables.serverName(database)
          steps.push(...planned.plans.map(plan => ({ plan, database, server })))
        }
      }
      this.#steps.push({ nowMs: entry.nowMs, steps })
    }
    return true
  }

  /** All that runs, in order. Rows of one moment go together. */
  async #commands(): Promise<readonly Command[]> {
    const { targets } = this.#session
    const commands: Command[] = [{ sql: 'START TRANSACTION' }]
    for (const { nowMs, steps } of this.#steps) {
      await learnTargets(steps, targets)
      commands.push(momentCommand(nowMs))
      for (const group of joinNeighbours(steps, targets)) {
        const [first] = group
        if (first === undefined) continue
        commands.push(...this.#session.use(first.database))
        if (group.length === 1) commands.push(...first.plan.commands)
        else commands.push(...jointCommands(group, this.#session, () => (this.#isOdd = true)))
      }
    }
    return commands
  }

  #planRequest(repeat: Parameters<typeof planRepeat>[1]): PlannedRequest | undefined {
    try {
      const planned = planRepeat(this.#session, repeat)
      this.#planned.push(planned)
      return planned
    } catch (error) {
      if (error instanceof DbError) return undefined
      throw error
    }
  }

  #isAsSaid(): boolean {
    if (this.#isOdd) return false
    return this.#planned.every(({ plans, expected }) => {
      const own = plans.flatMap(({ outcomes }) => outcomes)
      return (
        own.length === expected.length &&
        own.every((outcome, at) => {
          const theirs = expected[at]
          return theirs !== undefined && isSameOutcome(outcome, theirs)
        })
      )
    })
  }

  /** What the entries add to the book; undefined if it knows one of their requests already. */
  async #records(): Promise<readonly EntryRecords[] | undefined> {
    const { tables } = this.#session
    const all = this.#entries.flatMap(({ entry }) => entry.requests)
    const identities = all.flatMap(({ request }) => identitiesOf(request))
    await tables.requests.fetch(identities.map(scoped))
    const records: EntryRecords[] = []
    const seen = new Set<string>()
    let planned = 0
    for (const { index, entry } of this.#entries) {
      const ids = new RequestIds(tables)
      for (const { request, bytes } of entry.requests) {
        const isRun = request.type === 'statements' || request.type === 'transaction'
        const isOwn = readOutcomes(request) !== undefined
        const plans = isRun && !isOwn ? (this.#planned[planned++]?.plans ?? []) : []
        for (const identity of identitiesOf(request)) {
          const key = keyOf(scoped(identity))
          // Nobody here may have heard of it, as the leader hadn't.
          if (seen.has(key) || !ids.isNew(identity, tables.requests)) return undefined
          seen.add(key)
          if (request.type === 'cancel') {
            ids.noteCancelled(identity)
            continue
          }
          const isWhole = request.type === 'statements'
          const results = isWhole ? plans.flatMap(plan => plan.results) : []
          const outcomes = isWhole ? plans.flatMap(plan => plan.outcomes) : []
          ids.noteApplied(identity, bytes, tables.requests, results, withoutDigests(outcomes))
        }
      }
      const added = ids.recordsOf(tables.requests)
      if (added !== undefined) records.push({ index, records: added })
    }
    return records
  }
}

/** A text that no other id has. */
function keyOf(id: RequestId): string {
  if (id.type === 'key') return JSON.stringify([id.birth, id.key])
  const { session, sequence } = id
  return `${session.birth}/${session.name}/${sequence}`
}
