/** What faults ask of the members, as an operator would, and how all of it is cleared up. */
import { setTimeout as pause } from 'node:timers/promises'
import { DbError } from '../../src/base/errors.ts'
import { createClient } from '../../src/client/client.ts'
import type { MembersRequest, MembersResponse } from '../../src/protocol/http-api.ts'
import type { ChaosNodes } from './nodes.ts'

const CHANGE_MS_MAX = 5000
const STEP_MS = 200

/** Undefined if it failed: what became of it then is seen in the members. */
export async function change(
  nodes: ChaosNodes,
  request: MembersRequest,
): Promise<MembersResponse | undefined> {
  try {
    const client = createClient({ nodes: nodes.addresses, timeoutMs: CHANGE_MS_MAX })
    return await client.changeMembers(request)
  } catch (error) {
    if (error instanceof DbError) return undefined
    throw error
  }
}

/** The same again and again, until it is done or `timeoutMs` have passed. */
export async function insist(
  nodes: ChaosNodes,
  request: MembersRequest,
  isDone: (seen: MembersResponse) => boolean,
  timeoutMs: number,
): Promise<boolean> {
  const deadlineMs = performance.now() + timeoutMs
  for (;;) {
    const before = await seeMembers(nodes)
    if (before !== undefined && isDone(before)) return true
    const after = await change(nodes, request)
    if (after !== undefined && isDone(after)) return true
    if (performance.now() > deadlineMs) return false
    await pause(STEP_MS)
  }
}

/** The members as the leader has them; undefined if nobody says so. */
export async function seeMembers(nodes: ChaosNodes): Promise<MembersResponse | undefined> {
  try {
    const client = createClient({ nodes: nodes.addresses, timeoutMs: CHANGE_MS_MAX })
    const { leader } = await client.members()
    return leader === null ? undefined : await client.members(leader.address)
  } catch (error) {
    if (error instanceof DbError) return undefined
    throw error
  }
}

/** The role of a node, if it is a member. */
export function roleOf(seen: MembersResponse | undefined, nodeId: string): string | undefined {
  return seen?.members.find(member => member.nodeId === nodeId)?.role
}

/** Whether the voters are exactly the nodes that belong to the cluster. */
export function isWhole(nodes: ChaosNodes, seen: MembersResponse | undefined): boolean {
  const members = seen?.members ?? []
  return (
    members.length === nodes.nodeIds.length &&
    members.every(({ nodeId, role }) => role === 'voter' && nodes.nodeIds.includes(nodeId))
  )
}

/**
 * Makes every node of the cluster a voter again, and nobody else, when all faults are over. Tells
 * whose removal was never answered and took effect all the same; they are retired.
 */
export async function expectVoters(nodes: ChaosNodes, timeoutMs: number): Promise<string[]> {
  const removed: string[] = []
  const deadlineMs = performance.now() + timeoutMs
  for (;;) {
    const seen = await seeMembers(nodes)
    for (const nodeId of nodes.nodeIds) {
      if (seen?.removed.includes(nodeId) !== true) continue
      removed.push(nodeId)
      await nodes.retire(nodeId)
    }
    if (isWhole(nodes, seen)) return removed
    if (performance.now() > deadlineMs) {
      // Says why, if one of them is not well.
      await nodes.ready(0)
      throw new Error(`not all nodes are voters in ${timeoutMs} ms: ${JSON.stringify(seen)}`)
    }
    const members = seen?.members ?? []
    const gone = members.find(({ nodeId }) => !nodes.nodeIds.includes(nodeId))
    const learner = members.find(({ role }) => role === 'learner')
    if (gone !== undefined) await change(nodes, { action: 'remove', node: gone.nodeId })
    else if (learner !== undefined) await change(nodes, { action: 'promote', node: learner.nodeId })
    await pause(STEP_MS)
  }
}
