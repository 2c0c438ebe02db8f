/** `lockstep recover`: what it refuses before it changes anything, and what a crash of it leaves. */
import assert from 'node:assert/strict'
import { copyFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { ErrorCode } from '../../src/base/errors.ts'
import type { OtherNode } from '../../src/cli/recover-checks.ts'
import { finishRecovery } from '../../src/cli/recovery.ts'
import type { Divergence } from '../../src/engine/engine.ts'
import { SNAPSHOT_FORMAT } from '../../src/engine/snapshot.ts'
import { newCatalogueImage } from '../../src/engine/sqlite/catalogue.ts'
import { describeFile } from '../../src/engine/sqlite/snapshot-files.ts'
import { engineBuild } from '../../src/engine/sqlite/build.ts'
import { nodeFileSystem } from '../../src/engine/sqlite/file-system.ts'
import { beginStaging, finishStaging } from '../../src/engine/sqlite/staging.ts'
import { createDatabase, Replica } from '../engine/sqlite/replica.ts'
import {
  type Deviation,
  engineOf,
  entries,
  identityText,
  look,
  makeNode,
  memberIn,
  Moments,
  recoverHere,
  STORED,
  tellEngine,
} from './recover-kit.ts'

const WRONG: Divergence = {
  index: 2,
  database: 'app',
  sql: 'UPDATE t SET n = 1',
  expected: '1',
  actual: '2',
  digest: 'ab',
}
/** A log whose first ten entries were compacted. */
const COMPACTED = {
  entries: [],
  hardState: { term: 1, vote: 0, commit: 10 },
  snapshot: { index: 10, term: 1, ...STORED },
}

/** Fails with the code and these words, and leaves everything as it was. */
async function refused(
  directory: string,
  code: ErrorCode,
  words: RegExp,
  deviation?: Deviation,
): Promise<void> {
  const before = identityText(directory)
  await assert.rejects(recoverHere(directory, deviation), { code, message: words })
  assert.equal(identityText(directory), before)
}

const answer = (nodeId: string, leader?: string): OtherNode => {
  return { nodeId, clusterId: 'c1', leader, lastIndex: 3 }
}

test('a crash at any moment leaves the old cluster or the new one, and both can be recovered', async t => {
  const directory = await makeNode(t)
  const moments = new Moments(directory)
  t.after(() => moments.copies.forEach(copy => rmSync(copy, { recursive: true, force: true })))

  const result = await recoverHere(directory, { disk: moments.disk, files: moments.files })

  assert.deepEqual([result.lastIndex, result.after.voters], [3, [2]])
  const after = await look(directory)
  assert.deepEqual(after, { ...after, isDecided: false, voters: [2], known: ['n2'], lastIndex: 5 })
  assert.notEqual(after.historyId, 'old')
  const met: string[] = []
  for (const copy of moments.copies) {
    const seen = await look(copy)
    if (seen.historyId === 'old') {
      assert.deepEqual(seen, {
        historyId: 'old',
        isDecided: false,
        voters: [1, 2, 3],
        known: ['n1', 'n2', 'n3'],
        lastIndex: 3,
      })
      met.push('old')
    } else if (seen.isDecided) {
      assert.equal(seen.historyId, after.historyId)
      // Whoever comes next does the rest: the start of the node does this.
      await finishRecovery({ directory: copy }, memberIn(copy))
      assert.deepEqual(await look(copy), after)
      met.push('decided')
    } else {
      assert.deepEqual(seen, after)
      met.push('new')
    }
  }
  const order = met.filter((state, at) => state !== met[at - 1])
  assert.deepEqual(order, ['old', 'decided', 'new'], met.join(' '))
})

test('repeated, it finishes what was decided, whoever answers by then', async t => {
  const directory = await makeNode(t)
  const moments = new Moments(directory)
  t.after(() => moments.copies.forEach(copy => rmSync(copy, { recursive: true, force: true })))
  await recoverHere(directory, moments)
  const isDecided = (copy: string): boolean => memberIn(copy).recovering !== undefined
  const copy = moments.copies.find(isDecided)
  assert(copy !== undefined)

  const { printed } = await recoverHere(copy, { ask: () => answer('n1', 'n1') })

  assert.match(printed, /was interrupted before; it is finished now/)
  assert.deepEqual(await look(copy), await look(directory))
  await refused(copy, 'FORBIDDEN', /a majority of the voters by itself: .* start it/)
})

test('a cluster that leads itself, or could, is not recovered', async t => {
  const directory = await makeNode(t)
  // One look is not enough: an election, or a restart, may be going on.
  await refused(directory, 'FORBIDDEN', /still has a leader: node n3 follows n1/, {
    ask: (address, look) =>
      look >= 4 && address === '127.0.0.1:3' ? answer('n3', 'n1') : undefined,
  })
  await refused(directory, 'FORBIDDEN', /node n3 runs, and with node n2 that is a majority/, {
    ask: (address, look) => (look === 1 && address === '127.0.0.1:3' ? answer('n3') : undefined),
  })
  // What answers at an address may be of another cluster by now.
  const other = { ...answer('n1', 'n1'), clusterId: 'c9' }
  const { after } = await recoverHere(directory, { ask: () => other })
  assert.deepEqual(after.voters, [2])
})

test('a node that could not serve afterwards is refused before anything is changed', async t => {
  await t.test('its log is gone', async t => {
    const directory = await makeNode(t)
    const log = join(directory, 'group-1', 'log')
    for (const name of readdirSync(log)) rmSync(join(log, name))
    await refused(directory, 'WRONG_DATA', /the log of this node is missing/)
  })

  await t.test('its data can not be opened', async t => {
    const directory = await makeNode(t)
    writeFileSync(join(engineOf(directory), 'gen-1', 'system.sqlite'), 'garbage'.repeat(1000))
    await refused(directory, 'CORRUPT', /can not be opened: .*Nothing was changed/)
  })

  await t.test('its log begins after its data', async t => {
    const directory = await makeNode(t, COMPACTED)
    await refused(directory, 'WRONG_DATA', /begins with entry 11, and its data end at entry 0/)
  })

  await t.test('its data are ahead of its log', async t => {
    const hardState = { term: 1, vote: 0, commit: 1 }
    const directory = await makeNode(t, { entries: entries(1), hardState })
    using leader = new Replica()
    leader.write(createDatabase('app'))
    leader.write(createDatabase('shop'))
    tellEngine(directory, { type: 'apply', entries: leader.entries }, { type: 'checkpoint' })
    await refused(directory, 'WRONG_DATA', /not of the same life/)
  })
})

test('a staged snapshot that closes the gap is as good as data', async t => {
  const directory = await makeNode(t, COMPACTED)
  const source = join(directory, 'source.sqlite')
  writeFileSync(source, newCatalogueImage())
  const manifest = {
    format: SNAPSHOT_FORMAT,
    id: '00000000000000aa',
    index: 10,
    nowMs: 1,
    build: engineBuild(),
    context: '',
    files: [describeFile(source, 'system.sqlite')],
  }
  const location = beginStaging(engineOf(directory), manifest, nodeFileSystem)
  copyFileSync(source, join(location, 'system.sqlite'))
  finishStaging(engineOf(directory), nodeFileSystem)

  assert.deepEqual((await recoverHere(directory)).after.voters, [2])
})

test('a node whose data were found wrong is recovered only by explicit word', async t => {
  const directory = await makeNode(t)
  tellEngine(directory, { type: 'condemn', divergence: WRONG })
  await refused(directory, 'FORBIDDEN', /at entry 2 \(database app: UPDATE t SET n = 1\)/)

  const { after } = await recoverHere(directory, { isPardoned: true })

  assert.deepEqual(after.voters, [2])
  const opened = tellEngine(directory)
  assert(opened.type === 'opened')
  assert.equal(opened.past.condemned, undefined)
})
