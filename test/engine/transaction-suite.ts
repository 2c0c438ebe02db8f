/** Interactive transactions, as every engine must run them on a leader and repeat their entries. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RequestId } from '../../src/engine/engine.ts'
import { decodeEntry } from '../../src/engine/entry.ts'
import type { Dialect } from './dialect.ts'
import { codeOf, EngineHarness, statements, type OpenEngine } from './harness.ts'
import { temporaryDirectory } from './sqlite/support.ts'
import { TransactionTalk } from './transaction-talk.ts'

const DONE = { type: 'ok', results: [] }

/** A leader with an empty table n, and a follower of it; both end with the test. */
class Pair {
  readonly leader: EngineHarness
  readonly #open: OpenEngine
  readonly #here = temporaryDirectory()
  readonly #there = temporaryDirectory()

  private constructor(open: OpenEngine, leader: EngineHarness, here: Directory) {
    this.#open = open
    this.leader = leader
    this.#here = here
  }

  static async open(open: OpenEngine, dialect: Dialect): Promise<Pair> {
    const here = temporaryDirectory()
    const leader = await EngineHarness.open(open, here.path)
    await leader.createDatabase('a')
    await leader.run('a', dialect.idTable)
    return new Pair(open, leader, here)
  }

  /** Someone who applied everything that the leader has logged agrees, and holds the same rows. */
  async expectFollowed(): Promise<void> {
    await using follower = await EngineHarness.open(this.#open, this.#there.path)
    await follower.apply(this.leader.entries)
    const [ours, theirs] = await Promise.all([this.leader.digest('a'), follower.digest('a')])
    assert.equal(ours.type, 'ok')
    assert.deepEqual(theirs, ours)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.leader.stop()
    this.#here[Symbol.dispose]()
    this.#there[Symbol.dispose]()
  }
}

interface Directory extends Disposable {
  readonly path: string
}

/** Registers the tests for the engine that `open` opens. */
export function testTransactions(kind: string, open: OpenEngine, dialect: Dialect): void {
  const pair = (): Promise<Pair> => Pair.open(open, dialect)
  testSteps(kind, pair)
  testChanceAndTime(kind, pair, dialect)
  testRepetition(kind, pair)
  testSavepoints(kind, pair)
  testEnds(kind, pair)
  testFates(kind, pair)
  testFollowers(kind, open, dialect)
}

type OpenPair = () => Promise<Pair>

function testSteps(kind: string, open: OpenPair): void {
  test(`${kind}: a transaction sees its own writes, nobody else does, and its commit is one entry`, async () => {
    await using pair = await open()
    const { leader } = pair
    const talk = new TransactionTalk(leader)
    const [inserted] = await talk.run(["INSERT INTO n (a, b) VALUES ('x', 1)", []])
    assert.equal(inserted?.lastInsertId, 1n)
    assert.deepEqual(await talk.rows('SELECT a FROM n'), [['x']])
    assert.deepEqual(await leader.rows('a', 'SELECT a FROM n'), [], 'it is not committed')
    await talk.run('UPDATE n SET b = b + 1')
    const before = leader.entries.length
    assert.deepEqual(await talk.commit(), DONE)

    assert.equal(leader.entries.length, before + 1)
    assert.deepEqual(await leader.rows('a', 'SELECT a, b FROM n'), [['x', 2n]])
    await pair.expectFollowed()
  })

  test(`${kind}: the entry of a transaction holds the steps that changed something, and no others`, async () => {
    await using pair = await open()
    const { leader } = pair
    const talk = new TransactionTalk(leader)
    await talk.rows('SELECT count(*) FROM n')
    await talk.run("INSERT INTO n (a) VALUES ('x')", "INSERT INTO n (a) VALUES ('y')")
    await talk.fail("INSERT INTO n (a) VALUES ('x')")
    await talk.rows('SELECT * FROM n')
    await talk.run('DELETE FROM n WHERE id = 1')
    await talk.commit()

    const { requests } = decodeEntry(leader.entries.at(-1)?.data ?? new Uint8Array())
    const entry = requests.find(({ request }) => request.type === 'transaction')
    assert(entry?.request.type === 'transaction')
    const texts = entry.request.steps.map(step => step.map(({ sql }) => sql))
    assert.deepEqual(texts, [
      ["INSERT INTO n (a) VALUES ('x')", "INSERT INTO n (a) VALUES ('y')"],
      ['DELETE FROM n WHERE id = 1'],
    ])
    assert.equal(entry.outcomes.length, 3)
    await pair.expectFollowed()
  })

  test(`${kind}: a step that fails is undone whole and alone, and its transaction goes on`, async () => {
    await using pair = await open()
    const { leader } = pair
    const talk = new TransactionTalk(leader)
    await talk.run("INSERT INTO n (a) VALUES ('x')")
    const error = await talk.fail(
      "INSERT INTO n (a) VALUES ('y')",
      "INSERT INTO n (a) VALUES ('x')",
    )
    assert.equal(error.code, 'SQL_CONSTRAINT')
    assert.equal(error.details?.['statement'], 1)
    assert.equal(error.details['transaction'], undefined, 'it is still open')
    assert.equal((await talk.fail('INSERT INTO missing VALUES (1)')).code, 'UNKNOWN_TABLE')
    assert.equal((await talk.fail('INSERT INTO')).code, 'SQL_SYNTAX')
    assert.deepEqual(await talk.rows('SELECT a FROM n'), [['x']])
    await talk.run("INSERT INTO n (a) VALUES ('z')")
    await talk.commit()

    assert.deepEqual(await leader.rows('a', 'SELECT a FROM n ORDER BY a'), [['x'], ['z']])
    await pair.expectFollowed()
  })

  test(`${kind}: a transaction that only read, or took everything back, leaves no entry`, async () => {
    await using pair = await open()
    const { leader } = pair
    const { length } = leader.entries
    const reader = new TransactionTalk(leader)
    await reader.rows('SELECT count(*) FROM n')
    assert.equal(reader.last?.isReadOnly, true)
    assert.deepEqual(await reader.commit(), DONE)

    const undecided = new TransactionTalk(leader)
    await undecided.run('SAVEPOINT s')
    await undecided.run('INSERT INTO n (b) VALUES (1)')
    assert.equal(undecided.last?.isReadOnly, false)
    await undecided.run('ROLLBACK TO s')
    assert.equal(undecided.last?.isReadOnly, true)
    await undecided.commit()

    assert.equal(leader.entries.length, length)
    assert.deepEqual(await leader.rows('a', 'SELECT * FROM n'), [])
  })

  test(`${kind}: what can be no step of a transaction is refused, and it stays open`, async () => {
    await using pair = await open()
    const { leader } = pair
    const talk = new TransactionTalk(leader)
    for (const sql of ['BEGIN', '/* now */ COMMIT', 'ROLLBACK', 'commit;', 'ROLLBACK; SELECT 1']) {
      const error = await talk.fail(sql)
      assert.equal(error.code, 'UNSUPPORTED', sql)
      assert.match(error.message, /calls of its own/)
    }
    for (const list of [['SAVEPOINT a; SAVEPOINT b'], ['SAVEPOINT a', 'SELECT 1'], ['SAVEPOINT']]) {
      assert.match((await talk.fail(...list)).message, /each sent alone/, list.join())
    }
    assert.equal((await talk.fail('SELECT 1', 'SAVEPOINT s')).code, 'UNSUPPORTED')
    assert.equal((await talk.step(["INSERT INTO n (a) VALUES ('q')"], true)).type, 'failed')
    assert.equal((await talk.fail()).code, 'INVALID_REQUEST')
    await talk.run('INSERT INTO n (id) VALUES (1)')
    await talk.commit()
    assert.deepEqual(await leader.rows('a', 'SELECT id FROM n'), [[1n]])
    const [asked] = await leader.write({ type: 'transaction', database: 'a', steps: [] })
    assert.equal(codeOf(asked), 'INVALID_REQUEST', 'nobody can ask for its entry')
  })
}

function testChanceAndTime(kind: string, open: OpenPair, { chance, moment }: Dialect): void {
  test(`${kind}: chance in a transaction depends on no reads, failures and undone steps`, async () => {
    await using pair = await open()
    const { leader } = pair
    const talk = new TransactionTalk(leader)
    await talk.run(`INSERT INTO n (b) VALUES (${chance})`)
    await talk.rows(`SELECT ${chance}`)
    await talk.fail(`INSERT INTO n (id, b) VALUES (1, ${chance})`)
    await talk.run('SAVEPOINT s')
    await talk.run(`INSERT INTO n (b) VALUES (${chance})`)
    await talk.run('ROLLBACK TO s')
    await talk.run(`INSERT INTO n (b) VALUES (${chance}), (${chance})`)
    await talk.commit()

    const values = await leader.rows('a', 'SELECT b FROM n')
    assert.equal(new Set(values.map(([b]) => String(b))).size, 3)
    await pair.expectFollowed()
  })

  test(`${kind}: two transactions get other random values, and one the same at each repetition`, async () => {
    await using pair = await open()
    const { leader } = pair
    const sql = `SELECT ${chance}, ${chance}`
    const first = new TransactionTalk(leader, { seed: 1 })
    const random = await first.rows(sql)
    assert.notDeepEqual(await first.rows(sql), random)
    await first.pause()
    const second = new TransactionTalk(leader, { seed: 2 })
    assert.notDeepEqual(await second.rows(sql), random)
    await second.commit()
    await first.run('DELETE FROM n')
    assert.deepEqual(await first.commit(), DONE)
  })

  test(`${kind}: a transaction keeps its moment while others pass it by`, async () => {
    await using pair = await open()
    const { leader } = pair
    const talk = new TransactionTalk(leader, { nowMs: 1_800_000_000_000 })
    assert.deepEqual(await talk.rows(`SELECT ${moment}`), [[1_800_000_000n]])
    await talk.pause()
    const later = new TransactionTalk(leader, { nowMs: 1_800_000_060_000 })
    await later.run(`INSERT INTO n (id, b) VALUES (2, ${moment})`)
    await later.commit()
    await talk.run(`INSERT INTO n (id, b) VALUES (1, ${moment})`)
    await talk.commit()
    // The moment of the newest entry counts for who begins, whatever its own clock says.
    const behind = new TransactionTalk(leader, { nowMs: 1_800_000_000_000 })
    await behind.run(`INSERT INTO n (id, b) VALUES (3, ${moment})`)
    assert.equal(behind.nowMs, 1_800_000_060_000)
    await behind.commit()

    assert.deepEqual(await leader.rows('a', 'SELECT b FROM n ORDER BY id'), [
      [1_800_000_000n],
      [1_800_000_060n],
      [1_800_000_060n],
    ])
    await pair.expectFollowed()
  })
}

const CHANGES: readonly [what: string, mine: string, others: string][] = [
  ['rows that it read', 'SELECT b FROM n', 'UPDATE n SET b = 2'],
  ['that there were no rows', 'SELECT b FROM n WHERE id > 1', 'INSERT INTO n (id) VALUES (2)'],
  [
    'how many rows it changed',
    'UPDATE n SET b = 9 WHERE id > 1',
    "INSERT INTO n VALUES (2, 'y', 2)",
  ],
  ['an error that it got', 'INSERT INTO n (id) VALUES (1)', 'DELETE FROM n'],
  ['that there was no error', 'INSERT INTO n (id) VALUES (7)', 'INSERT INTO n (id) VALUES (7)'],
  ['names of columns', 'SELECT * FROM n', 'ALTER TABLE n RENAME COLUMN b TO c'],
  ['that there is a table', 'SELECT count(*) FROM n', 'DROP TABLE n'],
]

function testRepetition(kind: string, open: OpenPair): void {
  test(`${kind}: a transaction goes on where it was, if nothing that it saw has changed`, async () => {
    await using pair = await open()
    const { leader } = pair
    await leader.run('a', "INSERT INTO n (id, a) VALUES (10, 'old')")
    const talk = new TransactionTalk(leader)
    await talk.rows("SELECT b FROM n WHERE a = 'old'")
    await talk.run("UPDATE n SET b = 1 WHERE a = 'old'")
    await talk.pause()
    await leader.run('a', "INSERT INTO n (id, a) VALUES (5, 'other')")
    assert.deepEqual(await talk.rows("SELECT b FROM n WHERE a = 'old'"), [[1n]])
    await talk.pause()
    assert.deepEqual(await talk.commit(), DONE)

    assert.deepEqual(await leader.rows('a', 'SELECT id, b FROM n ORDER BY id'), [
      [5n, null],
      [10n, 1n],
    ])
    await pair.expectFollowed()
  })

  test(`${kind}: ids that a transaction was told are its own when it goes on`, async () => {
    await using pair = await open()
    const { leader } = pair
    const talk = new TransactionTalk(leader)
    const [first] = await talk.run("INSERT INTO n (a) VALUES ('x'), ('y')")
    const [second] = await talk.run('INSERT INTO n (b) SELECT b FROM n ORDER BY id')
    for (let round = 0; round < 3; round++) {
      await talk.pause()
      await leader.run('a', 'UPDATE n SET b = 0')
    }
    const ids = await talk.rows('SELECT id FROM n ORDER BY id')
    assert.deepEqual(ids, [[1n], [2n], ...(await talk.rows('SELECT id FROM n WHERE id > 2'))])
    assert(ids.length === 4 && first !== undefined && second !== undefined)
    await talk.commit()

    assert.deepEqual(await leader.rows('a', 'SELECT id FROM n ORDER BY id'), ids)
    await pair.expectFollowed()
  })

  for (const [what, mine, others] of CHANGES) {
    test(`${kind}: others change ${what} while a transaction idles: a conflict, and nothing of it stays`, async () => {
      for (const ending of ['step', 'commit'] as const) {
        await using pair = await open()
        const { leader } = pair
        await leader.run('a', 'INSERT INTO n (id, b) VALUES (1, 1)')
        const talk = new TransactionTalk(leader)
        await talk.step([mine])
        await talk.pause()
        await leader.run('a', others)
        const { length } = leader.entries
        const result = await (ending === 'step' ? talk.step(['SELECT 1']) : talk.commit())

        assert.equal(codeOf(result), 'TRANSACTION_CONFLICT', ending)
        assert.equal(leader.entries.length, length)
        // The writer is free for others.
        await leader.run('a', 'CREATE TABLE later (a INTEGER)')
      }
    })
  }

  test(`${kind}: a step that failed at one statement and now fails alike at another is a conflict`, async () => {
    await using pair = await open()
    const { leader } = pair
    const talk = new TransactionTalk(leader)
    const insert = "INSERT INTO n (a) VALUES ('x')"
    const error = await talk.fail(insert, insert)
    assert.equal(error.details?.['statement'], 1, "there was no 'x' before")
    await talk.pause()
    await leader.run('a', insert)
    assert.equal((await talk.fail('SELECT 1')).code, 'TRANSACTION_CONFLICT')
  })
}

function testSavepoints(kind: string, open: OpenPair): void {
  test(`${kind}: savepoints nest, are released and rolled back to by name`, async () => {
    await using pair = await open()
    const { leader } = pair
    const talk = new TransactionTalk(leader)
    const add = (id: number): unknown => talk.run(`INSERT INTO n (id) VALUES (${id})`)
    await talk.run('SAVEPOINT outer_')
    await add(1)
    await talk.run('savepoint `In ner`;')
    await add(2)
    await talk.run('SAVEPOINT outer_')
    await add(3)
    await talk.run('ROLLBACK TO SAVEPOINT Outer_')
    await add(4)
    await talk.run('RELEASE SAVEPOINT `IN NER`')
    assert.equal((await talk.fail('ROLLBACK TO `in ner`')).code, 'SQL_ERROR')
    assert.deepEqual(await talk.rows('SELECT id FROM n ORDER BY id'), [[1n], [2n], [4n]])
    // A pause brings all of it back.
    await talk.pause()
    await talk.run('ROLLBACK TO outer_')
    assert.deepEqual(await talk.rows('SELECT id FROM n'), [])
    await add(5)
    await talk.run('RELEASE SAVEPOINT outer_')
    await talk.commit()

    assert.deepEqual(await leader.rows('a', 'SELECT id FROM n'), [[5n]])
    await pair.expectFollowed()
  })

  test(`${kind}: a step that fails inside of a savepoint leaves the savepoint as it was`, async () => {
    await using pair = await open()
    const { leader } = pair
    const talk = new TransactionTalk(leader)
    const insert = "INSERT INTO n (a) VALUES ('x')"
    await talk.run("INSERT INTO n (a) VALUES ('w')", 'UPDATE n SET b = 1')
    await talk.run('SAVEPOINT s')
    await talk.run(insert, 'UPDATE n SET b = 2')
    await talk.fail('UPDATE n SET b = 3', insert)
    assert.deepEqual(await talk.rows('SELECT a, b FROM n ORDER BY a'), [
      ['w', 2n],
      ['x', 2n],
    ])
    await talk.run('ROLLBACK TO s')
    await talk.fail('UPDATE n SET b = 4', "INSERT INTO n (a) VALUES ('w')")
    assert.deepEqual(await talk.rows('SELECT a, b FROM n'), [['w', 1n]])
    await talk.commit()
    await pair.expectFollowed()
  })
}

function testEnds(kind: string, open: OpenPair): void {
  test(`${kind}: a transaction on a database that is not there, or not any more, is over`, async () => {
    await using pair = await open()
    const { leader } = pair
    const nowhere = new TransactionTalk(leader, { database: 'nowhere' })
    assert.equal((await nowhere.fail('SELECT 1')).code, 'UNKNOWN_DATABASE')
    assert.equal(nowhere.last?.isOver, true)

    await leader.createDatabase('e')
    const talk = new TransactionTalk(leader, { database: 'e' })
    await talk.run('SELECT 1')
    await talk.pause()
    await leader.write({ type: 'drop-database', database: 'e' })
    assert.equal(codeOf(await talk.commit()), 'UNKNOWN_DATABASE')
  })

  test(`${kind}: a writer that dies with an open transaction leaves no trace of it, and the next repeats it`, async () => {
    await using pair = await open()
    const { leader } = pair
    const talk = new TransactionTalk(leader)
    await talk.run("INSERT INTO n (id, a) VALUES (1, 'x')")
    await leader.restartWriter()
    talk.lost()
    assert.deepEqual(await leader.rows('a', 'SELECT * FROM n'), [])
    await talk.run("INSERT INTO n (id, a) VALUES (2, 'y')")
    assert.deepEqual(await talk.commit(), DONE)
    const { index } = leader
    await leader.restartWriter()

    assert.equal(leader.index, index)
    assert.deepEqual(await leader.rows('a', 'SELECT id FROM n ORDER BY id'), [[1n], [2n]])
    await pair.expectFollowed()
  })
}

function testFates(kind: string, open: OpenPair): void {
  const [id, ownId, other]: readonly RequestId[] = [
    { type: 'session', session: { birth: 1, name: 7 }, sequence: 1 },
    { type: 'key', key: 'transaction 7' },
    { type: 'key', key: 'never' },
  ]
  test(`${kind}: the fate of a commit is answered by each of its ids, also by the next writer`, async () => {
    await using pair = await open()
    const { leader } = pair
    const talk = new TransactionTalk(leader)
    await talk.run('INSERT INTO n (id) VALUES (1)')
    assert.deepEqual(await talk.commit(id, ownId), DONE)

    for (let round = 0; round < 2; round++) {
      for (const known of [id, ownId]) {
        assert(known !== undefined)
        const [fate] = await leader.write({ type: 'cancel', database: 'a', id: known })
        assert.deepEqual(fate, { type: 'ok', results: [], isRepeat: true })
      }
      await leader.restartWriter()
    }
    assert(other !== undefined)
    const [unheard] = await leader.write({ type: 'cancel', database: 'a', id: other })
    assert.equal(codeOf(unheard), 'REQUEST_CANCELLED')
    await pair.expectFollowed()
  })

  test(`${kind}: a commit whose id was cancelled takes no effect, and one whose id is taken is refused`, async () => {
    await using pair = await open()
    const { leader } = pair
    const once = { type: 'key', key: 'once' } as const
    const cancelled = new TransactionTalk(leader)
    await cancelled.run('INSERT INTO n (id) VALUES (1)')
    await cancelled.pause()
    await leader.write({ type: 'cancel', database: 'a', id: once })
    assert.equal(codeOf(await cancelled.commit(once)), 'REQUEST_CANCELLED')
    assert.deepEqual(await leader.rows('a', 'SELECT * FROM n'), [])

    const taken = { type: 'key', key: 'taken' } as const
    await leader.write({ ...statements('a', 'INSERT INTO n (id) VALUES (2)'), id: taken })
    const talk = new TransactionTalk(leader)
    await talk.run('INSERT INTO n (id) VALUES (3)')
    assert.equal(codeOf(await talk.commit(taken)), 'REQUEST_ID_REUSED')
    const own = new TransactionTalk(leader)
    await own.run('INSERT INTO n (id) VALUES (4)')
    const refused = await own.commit({ type: 'key', key: 'fresh' }, once)
    assert.equal(refused.type, 'failed', 'its own is cancelled')
    assert.deepEqual(await leader.rows('a', 'SELECT id FROM n'), [[2n]])
    await pair.expectFollowed()
  })
}

function testFollowers(kind: string, open: OpenEngine, dialect: Dialect): void {
  test(`${kind}: a follower that gets something else in a step says which, undoes all, and accepts what others agree on`, async () => {
    await using pair = await Pair.open(open, dialect)
    const { leader } = pair
    using there = temporaryDirectory()
    await using follower = await EngineHarness.open(open, there.path)
    const before = leader.entries.length
    await follower.apply(leader.entries)
    await leader.run('a', "INSERT INTO n (id, a) VALUES (9, 'missed')")
    const talk = new TransactionTalk(leader)
    await talk.run("INSERT INTO n (id, a) VALUES (1, 'x')")
    await talk.run('UPDATE n SET b = 1 WHERE id = 9')
    await talk.run("INSERT INTO n (id, a) VALUES (3, 'w')")
    await talk.commit()

    const entry = { index: before + 1, data: leader.entries.at(-1)?.data ?? new Uint8Array() }
    const apply = { type: 'apply' as const, entries: [entry] }
    const { divergence, index } = await follower.writer.expect(apply, 'applied')
    assert.equal(index, before)
    assert.equal(divergence?.index, entry.index)
    assert.equal(divergence.database, 'a')
    assert.match(divergence.sql, /^UPDATE n SET b = 1/)
    assert.deepEqual(await follower.rows('a', 'SELECT id FROM n'), [])

    const { digest } = divergence
    await follower.writer.expect({ type: 'accept', index: entry.index, digest }, 'accepted')
    await follower.apply([entry])
    assert.deepEqual(await follower.rows('a', 'SELECT id FROM n ORDER BY id'), [[1n], [3n]])
  })
}
