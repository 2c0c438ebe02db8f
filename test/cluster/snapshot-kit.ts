/** What the tests of snapshots between real nodes have in common. */
import assert from 'node:assert/strict'
import type { LocalCluster, LocalNode } from '../../src/cli/local-cluster.ts'
import { type Dialect, DIALECTS } from './dialects.ts'
import { type Answer, get, post, until } from './kit.ts'

/** A log so small that it forgets soon. */
export const SMALL_LOG = [
  '--max-log-bytes',
  '65536',
  '--segment-size-bytes',
  '65536',
  '--report-ms',
  '20',
]

const TEXT = 'x'.repeat(2000)

/** Writes so many rows of 2 KB. */
export async function fill(address: string, rows: number): Promise<void> {
  for (let done = 0; done < rows; done += 20) {
    const statements = Array.from({ length: 20 }, () => ({
      sql: 'INSERT INTO t (text) VALUES (?)',
      params: [TEXT],
    }))
    const answer = await post(address, '/execute', { database: 'main', statements })
    assert.equal(answer.status, 200, JSON.stringify(answer.json))
  }
}

/** Makes the database and the table of these tests. */
export async function makeTable(
  address: string,
  { key }: Dialect = DIALECTS.sqlite,
): Promise<void> {
  const database = 'main'
  await post(address, '/execute', { action: 'create_db', database })
  const sql = `CREATE TABLE t (id ${key}, text TEXT)`
  assert.equal((await post(address, '/execute', { database, sql })).status, 200)
}

/** Waits until the log of a node begins after `index`. */
export function untilForgotten(address: string, index: number): Promise<unknown> {
  return until(
    () => get(address, '/status'),
    ({ json }) => Number(json['firstIndex']) > index,
  )
}

/** Waits until all nodes hold the same. */
export async function untilEqual(cluster: LocalCluster): Promise<void> {
  await until(
    () =>
      Promise.all(
        cluster.addresses.map(address =>
          get(address, '/digest?database=main&consistency=linearizable'),
        ),
      ),
    answers => answers.every(({ json }) => json['digest'] === answers[0]?.json['digest']),
  )
}

/** The node that listens at an address. */
export function nodeAt(cluster: LocalCluster, address: string): LocalNode {
  const node = cluster.nodes.find(node => node.address === address)
  assert(node !== undefined)
  return node
}

/** Waits until the node at the address has got a part of a snapshot, but not all of it. */
export async function untilFetching(address: string): Promise<SnapshotJson> {
  const answer = await until(
    () => get(address, '/status').catch(() => undefined),
    seen => {
      const { step, receivedBytes } = snapshotOf(seen)
      return step === 'fetching' && receivedBytes > 0
    },
  )
  return snapshotOf(answer)
}

/** What `/status` says of a snapshot, as far as it is used here. */
export interface SnapshotJson {
  readonly step: string
  readonly from: string | null
  readonly receivedBytes: number
  readonly lastError: string
  readonly installed: number
}

/** The same of an answer, also of none. */
export function snapshotOf(answer: Answer | undefined): SnapshotJson {
  const none: SnapshotJson = {
    step: 'none',
    from: null,
    receivedBytes: 0,
    lastError: '',
    installed: 0,
  }
  return (answer?.json['snapshot'] as SnapshotJson | null | undefined) ?? none
}
