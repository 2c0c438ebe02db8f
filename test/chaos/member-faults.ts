/** Changes of the members while everything else goes on: nodes come, go, and change their roles. */
import { setTimeout as pause } from 'node:timers/promises'
import { DbError } from '../../src/base/errors.ts'
import { createClient } from '../../src/client/client.ts'
import type { MembersRequest, MembersResponse } from '../../src/protocol/http-api.ts'
import { always, victimOf } from './fault.ts'
import type { FaultKind } from './fault.ts'
import type { ChaosNodes } from './nodes.ts'

const CHANGE_MS_MAX = 5000
const STEP_MS = 200

/** Undefined if it failed: what became of it then is seen in the members. */
async function change(
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

const transfer: FaultKind = {
  name: 'transfer',
  weight: 3,
  whyNot: always,
  async begin(nodes, random) {
    const node = random.pick(nodes.nodeIds)
    const isNamed = random.chance(0.5)
    const answer = await change(nodes, { action: 'transfer', ...(isNamed && { node }) })
    const outcome = answer === undefined ? 'failed' : `${answer.leader?.nodeId ?? 'nobody'} leads`
    return {
      what: `hand over to ${isNamed ? node : 'any'}: ${outcome}`,
      undo: async () => {},
    }
  },
}

const demote: FaultKind = {
  name: 'demote',
  weight: 2,
  whyNot: always,
  async begin(nodes, random) {
    const node = await victimOf(nodes, random)
    const answer = await change(nodes, { action: 'demote', node })
    const outcome = answer === undefined ? 'failed' : 'done'
    return {
      what: `demote ${node}: ${outcome}`,
      undo: async () => void (await change(nodes, { action: 'promote', node })),
    }
  },
}

const replace: FaultKind = {
  name: 'replace',
  weight: 2,
  whyNot: always,
  async begin(nodes, random) {
    const node = await victimOf(nodes, random)
    const answer = await change(nodes, { action: 'remove', node })
    if (answer === undefined) return { what: `remove ${node}: failed`, undo: async () => {} }
    const joiner = await nodes.join()
    return {
      what: `remove ${node}: done; ${joiner} joins with an empty disk`,
      // Until then the clients go on asking the removed node, which must not serve them.
      undo: () => nodes.retire(node),
    }
  },
}

/** Every kind of change of the members. */
export const MEMBER_FAULTS: readonly FaultKind[] = [transfer, demote, replace]

/**
 * Makes every node of the cluster a voter again, when all faults are over. Tells whose removal was
 * never answered and took effect all the same; they are retired.
 */
export async function expectVoters(nodes: ChaosNodes, timeoutMs: number): Promise<string[]> {
  const client = createClient({ nodes: nodes.addresses, timeoutMs: CHANGE_MS_MAX })
  const removed: string[] = []
  const deadlineMs = performance.now() + timeoutMs
  for (;;) {
    let seen: MembersResponse | undefined
    try {
      const { leader } = await client.members()
      seen = leader === null ? undefined : await client.members(leader.address)
    } catch (error) {
      if (!(error instanceof DbError)) throw error
    }
    for (const nodeId of nodes.nodeIds) {
      if (seen?.removed.includes(nodeId) !== true) continue
      removed.push(nodeId)
      await nodes.retire(nodeId)
    }
    const voters = seen?.members.filter(({ role }) => role === 'voter').map(each => each.nodeId)
    if (voters !== undefined && nodes.nodeIds.every(nodeId => voters.includes(nodeId))) {
      return removed
    }
    if (performance.now() > deadlineMs) {
      // Says why, if one of them is not well.
      await nodes.ready(0)
      throw new Error(`not all nodes are voters in ${timeoutMs} ms: ${JSON.stringify(seen)}`)
    }
    const learner = seen?.members.find(({ role }) => role === 'learner')
    if (learner !== undefined) await change(nodes, { action: 'promote', node: learner.nodeId })
    await pause(STEP_MS)
  }
}
