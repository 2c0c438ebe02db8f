/**
 * One entry, request by request, so that what each gives here is known even where the entry says
 * otherwise: all of it is applied, or nothing. An entry that the replicas agreed to be otherwise
 * than it says is applied with the outcomes that they agreed on.
 */
import { DbError } from '../../base/errors.ts'
import type { Divergence, RequestError, WriteRequest } from '../engine.ts'
import type { Entry, EntryRequest, StatementOutcome } from '../entry.ts'
import { formatDigest, RowHash } from '../hash.ts'
import { describeError, describeOutcome, isSameOutcome } from '../outcomes.ts'
import { LocalFault, toRequestError } from '../request-errors.ts'
import { identitiesOf, RequestIds } from '../request-ids.ts'
import { scoped, withoutDigests } from './execute-batch.ts'
import { classifyServerError, limitOfOwn } from './mysql-errors.ts'
import { type PlannedRequest, planRepeat, type Repeat } from './repeat-plan.ts'
import { runSolo, type SchemaRequest } from './schema-changes.ts'
import { readOutcomes } from './schema-outcomes.ts'
import { ownFault, type Session } from './session.ts'

/** An entry with its index. */
export interface Applied {
  readonly index: number
  readonly entry: Entry
}

/** What became of a request here. */
type OwnOutcome =
  | { readonly type: 'ok'; readonly outcomes: readonly StatementOutcome[] }
  | { readonly type: 'failed'; readonly error: RequestError }
  /** There was nothing to do, because of what is here already, or isn't. */
  | { readonly type: 'void' }
  /** What schema changes came to here. */
  | { readonly type: 'schema'; readonly digests: readonly string[] }

const SAVEPOINT = 'lockstep_careful'

/** The request that an entry is, if it can't be undone: it says no outcomes. */
export function soloOf({ requests }: Entry): SchemaRequest | undefined {
  const [first] = requests
  if (first === undefined || requests.length > 1) return undefined
  const { request, outcomes } = first
  if (request.type === 'cancel' || request.type === 'transaction') return undefined
  const isPlain = outcomes.length > 0 || readOutcomes(request) !== undefined
  return request.type === 'statements' && isPlain ? undefined : request
}

export class CarefulEntry {
  readonly #session: Session
  readonly #index: number
  readonly #entry: Entry
  readonly #own: OwnOutcome[] = []
  readonly #ids: RequestIds
  #difference: Omit<Divergence, 'index' | 'digest'> | undefined
  #comparedUpTo: number | undefined

  constructor(session: Session, { index, entry }: Applied) {
    this.#session = session
    this.#index = index
    this.#entry = entry
    this.#ids = new RequestIds(session.tables)
  }

  /** Applies the entry; a divergence leaves everything as it was. */
  async run(): Promise<Divergence | undefined> {
    const solo = soloOf(this.#entry)
    if (solo !== undefined) return this.#runSolo(solo)
    const { nowMs, seed, requests } = this.#entry
    const begun = await this.#session.run(this.#session.begin(nowMs, seed))
    if (begun !== undefined) throw ownFault(begun)
    for (const [position, request] of requests.entries()) {
      this.#own.push(await this.#runRequest(request, position))
    }
    const divergence = this.#judge()
    if (divergence === undefined) await this.#commit()
    else await this.#session.rollback()
    return divergence
  }

  async #commit(): Promise<void> {
    const { tables } = this.#session
    const compared =
      this.#comparedUpTo === undefined ? [] : [tables.comparedSql(this.#comparedUpTo)]
    const records = this.#ids.recordsOf(tables.requests)
    const kept = records === undefined ? [] : [{ index: this.#index, records }]
    const commit = tables.commitSql(this.#index, this.#entry.nowMs, kept)
    await this.#session.expect(...compared, ...commit)
  }

  async #runSolo(request: SchemaRequest): Promise<Divergence | undefined> {
    const { tables } = this.#session
    const { nowMs, seed, requests } = this.#entry
    const bytes = requests[0]?.bytes ?? new Uint8Array()
    const { type, database } = request
    if (!(await this.#isNew(request))) this.#own.push(this.#appliedBefore(request))
    const exists = tables.madeBy(database) !== undefined
    if (type === 'create-database' && exists) {
      this.#own.push(this.#void(database, type, 'no such database', `a database ${database}`))
    }
    if (type === 'drop-database' && !exists) {
      this.#own.push(this.#void(database, type, `a database ${database}`, 'no such database'))
    }
    const divergence = this.#judge()
    if (divergence !== undefined) return divergence
    for (const identity of identitiesOf(request)) {
      this.#ids.noteApplied(identity, bytes, tables.requests, [], [])
    }
    const records = this.#ids.recordsOf(tables.requests)
    await runSolo(this.#session, { index: this.#index, nowMs, seed, request, records })
    return undefined
  }

  async #runRequest(entryRequest: EntryRequest, position: number): Promise<OwnOutcome> {
    const { request, bytes, outcomes: expected } = entryRequest
    const compared = readOutcomes(request)
    if (compared !== undefined) return this.#compareSchemas(compared)
    if (!(await this.#isNew(request))) return this.#appliedBefore(request)
    if (request.type === 'cancel') {
      this.#ids.noteCancelled(request)
      return { type: 'ok', outcomes: [] }
    }
    const { database } = request
    if (request.type !== 'statements' && request.type !== 'transaction') {
      return this.#void(database, request.type, 'an entry of its own', 'others beside it')
    }
    const { tables } = this.#session
    if (tables.madeBy(database) === undefined) {
      return this.#void(database, '', `a database ${database}`, 'no such database')
    }
    const entry = this.#entry
    const own = await this.#runPlans({ entry, request, outcomes: expected, position })
    if ('code' in own) {
      this.#differ({ database, sql: '', expected: 'success', actual: describeError(own) })
      return { type: 'failed', error: own }
    }
    const outcomes = own.plans.flatMap(plan => plan.outcomes)
    this.#compare(request, own, outcomes)
    const isWhole = request.type === 'statements'
    const results = isWhole ? own.plans.flatMap(plan => plan.results) : []
    const kept = isWhole ? withoutDigests(outcomes) : []
    for (const identity of identitiesOf(request)) {
      this.#ids.noteApplied(identity, bytes, tables.requests, results, kept)
    }
    return { type: 'ok', outcomes }
  }

  /** Runs a request, or undoes what it did and says why it failed. */
  async #runPlans(repeat: Repeat): Promise<PlannedRequest | RequestError> {
    const session = this.#session
    const { database } = repeat.request
    let planned: PlannedRequest
    try {
      planned = planRepeat(session, repeat)
    } catch (error) {
      if (error instanceof DbError) return toRequestError(error)
      throw error
    }
    const begun = await session.run([...session.use(database), { sql: `SAVEPOINT ${SAVEPOINT}` }])
    if (begun !== undefined) throw ownFault(begun)
    const failure = await session.run(planned.commands)
    if (failure === undefined) return planned
    const { type, error } = classifyServerError(failure.error, session.tables.serverName(database))
    if (type === 'local') throw new LocalFault(error)
    const ownLimit = this.#isAgreed() ? undefined : limitOfOwn(failure.error)
    if (ownLimit !== undefined) throw new LocalFault(ownLimit)
    await session.expect(`ROLLBACK TO SAVEPOINT ${SAVEPOINT}`)
    return error
  }

  #compare(
    request: Repeat['request'],
    { plans, expected }: PlannedRequest,
    actual: readonly StatementOutcome[],
  ): void {
    const texts = plans.flatMap((plan, step) => plan.texts.map(text => textOf(request, step, text)))
    const count = Math.max(expected.length, actual.length)
    for (let at = 0; at < count; at++) {
      const [theirs, ours] = [expected[at], actual[at]]
      if (theirs !== undefined && ours !== undefined && isSameOutcome(theirs, ours)) continue
      this.#differ({
        database: request.database,
        sql: texts[at] ?? '',
        expected: describeOutcome(theirs),
        actual: describeOutcome(ours),
      })
      return
    }
  }

  #compareSchemas(
    compared: readonly { readonly index: number; readonly digest: string }[],
  ): OwnOutcome {
    const digests: string[] = []
    for (const { index, digest } of compared) {
      // It came with another replica's data, or was compared before.
      const own = this.#session.tables.outcomeOf(index)?.digest ?? digest
      digests.push(own)
      if (own === digest) continue
      const sql = `the schema change of entry ${index}`
      this.#differ({ database: '', sql, expected: `outcome ${digest}`, actual: `outcome ${own}` })
    }
    this.#comparedUpTo = compared.at(-1)?.index
    return { type: 'schema', digests }
  }

  async #isNew(request: WriteRequest): Promise<boolean> {
    const { requests } = this.#session.tables
    const identities = identitiesOf(request)
    await requests.fetch(identities.map(scoped))
    return identities.every(identity => this.#ids.isNew(identity, requests))
  }

  #appliedBefore({ type, database }: WriteRequest): OwnOutcome {
    return this.#void(database, type, 'a new request id', 'one that is known already')
  }

  #void(database: string, sql: string, expected: string, actual: string): OwnOutcome {
    this.#differ({ database, sql, expected, actual })
    return { type: 'void' }
  }

  /** The first difference is the one that is told. */
  #differ(difference: Omit<Divergence, 'index' | 'digest'>): void {
    this.#difference ??= difference
  }

  #isAgreed(): boolean {
    return this.#session.tables.agreedDigest(this.#index) !== undefined
  }

  #judge(): Divergence | undefined {
    const agreed = this.#session.tables.agreedDigest(this.#index)
    if (this.#difference === undefined && agreed === undefined) return undefined
    const digest = this.#digest()
    if (agreed === digest) return undefined
    const difference = this.#difference ?? {
      database: this.#entry.requests[0]?.request.database ?? '',
      sql: '',
      expected: `outcomes of digest ${agreed}, as the others agreed`,
      actual: 'what the entry says',
    }
    return { index: this.#index, ...difference, digest }
  }

  /** Over what every request gave here. */
  #digest(): string {
    const hash = new RowHash()
    hash.reset()
    for (const own of this.#own) {
      if (own.type === 'failed') {
        const { code, details = {} } = own.error
        hash.row(['failed', code, Number(details['mysqlCode'] ?? 0)])
      } else if (own.type === 'ok') {
        for (const { rowsAffected, lastInsertId, rowsDigest } of own.outcomes) {
          const { low, high } = rowsDigest ?? { low: -1, high: -1 }
          hash.row([rowsAffected, lastInsertId ?? null, low, high])
        }
        hash.row([])
      } else hash.row([own.type, ...(own.type === 'schema' ? own.digests : [])])
    }
    return formatDigest(hash.digest())
  }
}

function textOf(request: Repeat['request'], step: number, text: number): string {
  const list = request.type === 'transaction' ? request.steps[step] : request.statements
  return list?.[text]?.sql ?? ''
}
