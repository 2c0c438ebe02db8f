/**
 * Whatever a leader tries and takes back (requests that fail, savepoints, turns that are repeated),
 * its full-text and spatial indexes hold the same bytes as those of who only applies its entries:
 * digests of all data count their tables.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SimRandom } from '../../../sim/sim-random.ts'
import { Replica, request, type Sql } from './replica.ts'
import { Talk } from './talk.ts'

const WORDS = ['alpha', 'beta', 'gamma', 'delta', 'epsilon', 'zeta', 'eta', 'theta']
const ROUNDS = 60

function text(random: SimRandom): string {
  const count = random.between(1, 30)
  return Array.from({ length: count }, () => random.pick(WORDS) + random.below(50)).join(' ')
}

/** Statements of one request; some of them fail, some only read. */
function draw(random: SimRandom): readonly Sql[] {
  const words: Sql = ['INSERT INTO words VALUES (?, ?)', [text(random), text(random)]]
  const [x, y] = [random.below(100), random.below(100)]
  const box = `INSERT INTO boxes VALUES (NULL, ${x}, ${x + 9}, ${y}, ${y + 9})`
  const fails = 'INSERT INTO missing VALUES (1)'
  return random.pick<readonly Sql[]>([
    [words],
    [words, words],
    [words, fails],
    [`DELETE FROM words WHERE rowid % 5 = ${random.below(5)}`],
    [`SELECT count(*) FROM words WHERE words MATCH 'alpha${random.below(50)}'`],
    [[`UPDATE words SET a = ? WHERE rowid = ${random.below(20)}`, [text(random)]]],
    [`INSERT INTO words(words, rank) VALUES ('merge', ${random.pick([2, -2])})`],
    [box],
    [box, fails],
    [`DELETE FROM boxes WHERE x0 < ${random.below(20)}`],
  ])
}

function converse(leader: Replica, random: SimRandom): void {
  const talk = new Talk(leader)
  let isSaved = false
  for (let left = random.between(1, 8); left > 0 && talk.last?.isOver !== true; left -= 1) {
    const what = random.below(10)
    if (what === 0 && !isSaved) {
      talk.step(['SAVEPOINT s'])
      isSaved = true
    } else if (what === 1 && isSaved) talk.step(['ROLLBACK TO s'])
    else if (what === 2 && talk.last !== undefined) talk.pause()
    else talk.step(draw(random))
  }
  if (talk.last?.isOver === true || talk.last === undefined) return
  if (random.chance(0.2)) talk.rollback()
  else talk.commit()
}

test('indexes of words and boxes are the same on who tried more than it kept', () => {
  for (let seed = 1; seed <= 12; seed += 1) {
    const random = new SimRandom(seed, 'digests')
    using leader = Replica.withDatabase()
    leader.run("CREATE VIRTUAL TABLE words USING fts5(a, b, prefix='2')")
    for (const [name, value] of [
      ['automerge', 2],
      ['crisismerge', 3],
      ['pgsz', 64],
    ]) {
      leader.run(`INSERT INTO words(words, rank) VALUES ('${name}', ${value})`)
    }
    leader.run('CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1, y0, y1)')
    for (let round = 0; round < ROUNDS; round += 1) {
      if (random.chance(0.3)) converse(leader, random)
      else
        leader.write(
          ...Array.from({ length: random.between(1, 5) }, () => request(...draw(random))),
        )
    }
    const [[count] = []] = leader.query('SELECT count(*) FROM words_data')
    assert(Number(count) > 20, `seed ${seed} wrote too little`)
    using follower = new Replica()
    assert.equal(follower.follow(leader).divergence, undefined, `seed ${seed}`)
    assert.deepEqual(follower.dataDigest(), leader.dataDigest(), `seed ${seed}`)
  }
})
