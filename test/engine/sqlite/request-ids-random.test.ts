import assert from 'node:assert/strict'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { EngineEntry, RequestId } from '../../../src/engine/engine.ts'
import type { RequestLimits } from '../../../src/engine/limits.ts'
import { Replica } from './replica.ts'
import type { Asked } from './request-ids-model.ts'
import { answerOf, IdsModel, requestOf } from './request-ids-model.ts'

/** So small that nearly everything is forgotten at some time. */
const SMALL: RequestLimits = {
  sessionsMax: 3,
  keysMax: 3,
  droppedNamesMax: 1,
  openRowBytesMax: 300,
}
/** Each entry has a row of its own, so that the floor of the keys is as low as it can be. */
const THIN_ROWS: RequestLimits = { ...SMALL, openRowBytesMax: 1 }

const id: fc.Arbitrary<RequestId> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant('session' as const),
      session: fc.nat({ max: 5 }).map(name => ({ name, birth: name * 2 })),
      sequence: fc.oneof(
        { weight: 5, arbitrary: fc.integer({ min: 1, max: 6 }) },
        { weight: 1, arbitrary: fc.constantFrom(63, 64, 65, 66, 67, 128, 129, 130) },
      ),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant('key' as const),
      key: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
    }),
  },
)

/** Keys that say since when they have been sent. */
const agedKey: fc.Arbitrary<RequestId> = fc.nat({ max: 9 }).map(number => {
  return { type: 'key', key: `k${number}`, birth: number * 3 }
})

/** The body follows from the id, nearly always: a request that comes again is the same. */
const askedUnder = (ids: fc.Arbitrary<RequestId>): fc.Arbitrary<Asked> =>
  fc
    .record({
      id: fc.option(ids, { freq: 8, nil: undefined }),
      database: fc.constantFrom('x', 'x', 'x', 'y'),
      body: fc.constantFrom(
        ...(['append', 'append', 'append', 'append', 'fail', 'create', 'drop', 'cancel'] as const),
      ),
      isOther: fc.nat({ max: 9 }).map(draw => draw === 0),
    })
    .map(({ id: drawn, database, body, isOther }) => ({
      id: drawn ?? (body === 'cancel' ? { type: 'key', key: 'a' } : undefined),
      database,
      body,
      tag:
        drawn === undefined ? 'nobody' : `${JSON.stringify(drawn)}${isOther ? ' otherwise' : ''}`,
    }))

type Step =
  | { readonly type: 'batch'; readonly requests: readonly Asked[]; readonly isCommitted: boolean }
  | { readonly type: 'crash' | 'hand-over' | 'newcomer' }

const stepWith = (ids: fc.Arbitrary<RequestId>): fc.Arbitrary<Step> =>
  fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        type: fc.constant('batch' as const),
        requests: fc.array(askedUnder(ids), { minLength: 1, maxLength: 8 }),
        isCommitted: fc.nat({ max: 5 }).map(draw => draw > 0),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ type: fc.constantFrom('crash' as const, 'hand-over', 'newcomer') }),
    },
  )

/** A leader and a follower with one log. */
class Pair implements Disposable {
  readonly #limits: RequestLimits
  readonly model: IdsModel
  readonly log: EngineEntry[] = []
  leader: Replica
  follower: Replica

  constructor(requestLimits: RequestLimits) {
    this.#limits = requestLimits
    this.model = new IdsModel(requestLimits)
    this.leader = new Replica({ requestLimits })
    this.follower = new Replica({ requestLimits })
  }

  batch(requests: readonly Asked[], isCommitted: boolean): void {
    for (let rest = requests; rest.length > 0;) {
      const executed = this.leader.execute(...rest.map(requestOf))
      const taken = rest.slice(0, executed.taken)
      const expected = taken.map(each => this.model.ask(each, this.leader.index))
      for (const [at, result] of executed.results.entries()) {
        const answer = answerOf(result)
        const wanted = expected[at]
        // What fails in SQL may fail for any reason.
        const isAnyFailure = wanted?.type === 'failed' && wanted.code === undefined
        if (isAnyFailure) assert.equal(answer.type, 'failed')
        else assert.deepEqual(answer, wanted, JSON.stringify(taken[at]))
      }
      if (isCommitted) {
        this.leader.commit(executed)
        if (executed.entry !== undefined) {
          this.log.push({ index: this.leader.index, data: executed.entry })
        }
      } else this.leader.rollback()
      this.model.end(isCommitted, this.leader.index)
      rest = rest.slice(executed.taken)
    }
  }

  step(next: Step): void {
    switch (next.type) {
      case 'batch':
        return this.batch(next.requests, next.isCommitted)
      case 'crash':
        this.leader = this.leader.crash()
        return this.#catchUp(this.leader)
      case 'hand-over':
        this.#catchUp(this.follower)
        ;[this.leader, this.follower] = [this.follower, this.leader]
        return
      default:
        this.follower[Symbol.dispose]()
        this.follower = new Replica({ requestLimits: this.#limits })
    }
  }

  check(): void {
    this.#catchUp(this.follower)
    const books = booksOf(this.leader)
    assert.deepEqual(booksOf(this.follower), books)
    // What was just read from the files is what the memory of both had.
    using again = this.leader.copy()
    this.#catchUp(again)
    assert.deepEqual(booksOf(again), books)
    for (const [name, { tags }] of this.model.databases) {
      const rows = tags.length === 0 ? [] : this.leader.query('SELECT tag FROM t', name)
      assert.deepEqual(
        rows.map(([tag]) => tag),
        tags,
      )
    }
    const seen = new Set<string>()
    for (const { id: text, database } of this.model.appended) {
      if (text === undefined) continue
      const effect = `${database} ${text}`
      assert(!seen.has(effect), `${effect} twice`)
      seen.add(effect)
    }
  }

  #catchUp(replica: Replica): void {
    const missing = this.log.filter(entry => entry.index > replica.index)
    if (missing.length === 0) return
    const { divergence } = replica.apply(...missing)
    assert.equal(divergence, undefined, JSON.stringify(divergence))
  }

  [Symbol.dispose](): void {
    this.leader[Symbol.dispose]()
    this.follower[Symbol.dispose]()
  }
}

/** All that the files of a replica know of requests. */
function booksOf(replica: Replica): unknown {
  const generation = join(replica.directory, 'gen-1')
  const books = new Map<string, unknown>()
  const columns = 'request_floor, request_key_floor, request_row, hex(request_ids)'
  const rows = 'SELECT entry, last, hex(ids) FROM lockstep_request ORDER BY entry'
  const system = join(generation, 'system.sqlite')
  books.set('catalogue', [
    ask(system, `SELECT applied, dropped_floor, ${columns} FROM lockstep_state`),
    ask(system, rows),
    ask(system, 'SELECT * FROM lockstep_dropped'),
  ])
  for (const { name, made_by: madeBy } of ask(system, 'SELECT * FROM lockstep_database')) {
    const path = join(generation, `db-${String(madeBy)}.sqlite`)
    books.set(String(name), [
      ask(path, `SELECT applied, ${columns} FROM lockstep_meta`),
      ask(path, rows),
    ])
  }
  return books
}

function ask(path: string, sql: string): Record<string, unknown>[] {
  const database = new DatabaseSync(path, { readOnly: true })
  try {
    return database.prepare(sql).all()
  } finally {
    database.close()
  }
}

const numRuns = Number(process.env['LOCKSTEP_IDS_RUNS'] ?? 40)

function isOnceAtMost(ids: fc.Arbitrary<RequestId>, limits: RequestLimits): void {
  fc.assert(
    fc.property(fc.array(stepWith(ids), { minLength: 5, maxLength: 40 }), steps => {
      using pair = new Pair(limits)
      pair.batch([{ id: undefined, database: 'x', body: 'create', tag: '' }], true)
      for (const next of steps) pair.step(next)
      pair.check()
    }),
    { numRuns },
  )
}

test('every id takes effect at most once, whatever is repeated, cancelled, lost and forgotten', () => {
  isOnceAtMost(id, SMALL)
})

test('so does every key that says since when it has been sent', () => {
  isOnceAtMost(agedKey, THIN_ROWS)
})
