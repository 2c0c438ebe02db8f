/** Snapshots that are damaged while they are on their way between real nodes. */
import assert from 'node:assert/strict'
import { closeSync, openSync, readdirSync, readFileSync, readSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import type { LocalCluster, LocalNode } from '../../src/cli/local-cluster.ts'
import { get, rolesOf, startCluster } from './kit.ts'
import {
  fill,
  makeTable,
  nodeAt,
  SMALL_LOG,
  type SnapshotJson,
  snapshotOf,
  untilEqual,
  untilFetching,
  untilForgotten,
} from './snapshot-kit.ts'

const ROWS = 1600

interface Fetching {
  readonly cluster: LocalCluster
  readonly taker: LocalNode
  readonly giver: LocalNode
}

/** A node that was away has got the first part of a snapshot of another one, and no more yet. */
async function startFetching(t: TestContext): Promise<Fetching> {
  const slow = ['--snapshot-bytes-per-second', '1000000']
  const cluster = await startCluster(t, { options: [...SMALL_LOG, ...slow] })
  const { leader, follower } = await rolesOf(cluster)
  await makeTable(leader)
  const taker = nodeAt(cluster, follower)
  await cluster.kill(taker.nodeId)
  const before = Number((await get(leader, '/status')).json['lastIndex'])
  await fill(leader, ROWS)
  await untilForgotten(leader, before)
  cluster.restart(taker.nodeId)
  const { from } = await untilFetching(follower)
  const giver = cluster.nodes.find(({ nodeId }) => nodeId === from)
  assert(giver !== undefined)
  return { cluster, taker, giver }
}

/** Turns one bit of the largest file below a directory of the engine whose name begins so. */
function flipBit(node: LocalNode, prefix: string, at: (sizeBytes: number) => number): void {
  const engine = join(node.directory, 'group-1', 'engine')
  const name = readdirSync(engine)
    .filter(each => each.startsWith(prefix))
    .toSorted()
    .at(-1)
  const directory = join(engine, name ?? '')
  const [path, sizeBytes] = readdirSync(directory)
    .filter(file => file.startsWith('db-'))
    .map(file => [join(directory, file), readFileSync(join(directory, file)).length] as const)
    .toSorted((left, right) => right[1] - left[1])[0] ?? ['', 0]
  const descriptor = openSync(path, 'r+')
  const byte = new Uint8Array(1)
  readSync(descriptor, byte, 0, 1, at(sizeBytes))
  byte[0] = (byte[0] ?? 0) ^ 4
  writeSync(descriptor, byte, 0, 1, at(sizeBytes))
  closeSync(descriptor)
}

/** The taker has all data, and what it says of the snapshot that it installed. */
async function untilTaken({ cluster, taker }: Fetching): Promise<SnapshotJson> {
  await cluster.ready()
  await untilEqual(cluster)
  const snapshot = snapshotOf(await get(taker.address, '/status'))
  assert.equal(snapshot.installed, 1)
  return snapshot
}

function outputOf({ directory, nodeId }: LocalNode): string {
  return readFileSync(join(dirname(directory), `${nodeId}.log`), 'utf8')
}

test('a bit that flips in a snapshot while it is given away is noticed by its giver, which makes another', async t => {
  const fetching = await startFetching(t)
  flipBit(fetching.giver, 'snapshot-', sizeBytes => sizeBytes - 1000)
  await untilTaken(fetching)
  assert.match(outputOf(fetching.giver), /a snapshot was damaged and is thrown away/)
  const made = readdirSync(join(fetching.giver.directory, 'group-1', 'engine'))
  assert(made.filter(name => name.startsWith('snapshot-')).length <= 1, made.join())
})

test('a bit that flips in what has arrived of a snapshot is noticed, and that file comes again', async t => {
  const fetching = await startFetching(t)
  flipBit(fetching.taker, 'gen-', () => 500_000)
  const { lastError } = await untilTaken(fetching)
  assert.match(lastError, /db-\d+\.sqlite of the snapshot has other bytes than were announced/)
})
