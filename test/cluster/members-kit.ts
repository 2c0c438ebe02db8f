/** What the tests of members have in common. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LocalCluster } from '../../src/cli/local-cluster.ts'
import type { MembersResponse } from '../../src/protocol/http-api.ts'
import { get, lockstep, post, until } from './kit.ts'

/** Makes the database of these tests. */
export const CREATE = { action: 'create_db', database: 'app' }
/** Makes its table. */
export const TABLE = { database: 'app', sql: 'CREATE TABLE t (id INTEGER PRIMARY KEY, note TEXT)' }
/** Inserts one row. */
export const insert = (id: number): object => ({
  database: 'app',
  sql: 'INSERT INTO t VALUES (?, ?)',
  params: [id, `row ${id}`],
})
/** Counts the rows. */
export const COUNT = { database: 'app', sql: 'SELECT count(*) FROM t' }

/** The members as the node at the address knows them. */
export async function membersOf(address: string): Promise<MembersResponse> {
  return (await get(address, '/members')).json as unknown as MembersResponse
}

/** Names and roles, in the order of the raft ids. */
async function rolesAt(address: string): Promise<string> {
  const { members } = await membersOf(address)
  return members.map(({ nodeId, role }) => `${nodeId} ${role}`).join(', ')
}

/** Waits until the members are as in the text: `n1 voter, n2 learner`. */
export async function untilRoles(address: string, roles: string): Promise<void> {
  await until(
    () => rolesAt(address).catch(() => 'not there yet'),
    seen => seen === roles,
    30_000,
  )
}

/** The row of the count as the node gives it; undefined on a failure. */
export async function countAt(address: string, consistency: string): Promise<unknown> {
  const { json } = await post(address, '/query', { ...COUNT, consistency })
  return json.results?.[0]?.rows?.[0]
}

/** Runs a command; what it printed, if it went well. */
export async function run(...args: string[]): Promise<string> {
  const { code, output } = await lockstep(args)
  assert.equal(code, 0, output)
  return output
}

/** What the directory of a node says that it is. */
export function identityOf(
  cluster: LocalCluster,
  nodeId: string,
): Readonly<Record<string, unknown>> {
  const node = cluster.nodes.find(other => other.nodeId === nodeId)
  const text = readFileSync(join(node?.directory ?? '', 'node.json'), 'utf8')
  return JSON.parse(text) as Readonly<Record<string, unknown>>
}

/** The roles of so many voters. */
export function namesOf(...nodeIds: readonly string[]): string {
  return nodeIds
    .toSorted()
    .map(nodeId => `${nodeId} voter`)
    .join(', ')
}
