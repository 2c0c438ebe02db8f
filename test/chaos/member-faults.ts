/** Changes of the members while everything else goes on: nodes come, go, and change their roles. */
import type { SimRandom } from '../../sim/sim-random.ts'
import { always, othersOf, victimOf } from './fault.ts'
import type { ActiveFault, FaultKind, Scene } from './fault.ts'
import type { Comeback } from './nodes.ts'
import { change, insist, isWhole, roleOf, seeMembers } from './member-changes.ts'

/** How long a change is asked for again while something else is wrong too. */
const INSIST_MS_MAX = 20_000
/** How long a node without its disk may look for somebody who refuses it. */
const REFUSAL_MS_MAX = 6000
/** More would make the machine the bottleneck; those above the first go again. */
const EXTRA_NODES_MAX = 2
const VOTERS_TO_LOSE_ONE = 3

const REFUSED = /lockstep remove \S+.*under a new id/s

const transfer: FaultKind = {
  name: 'transfer',
  weight: 3,
  whyNot: always,
  async begin({ nodes }, random) {
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

/** A change of members that claims its place among them, and gives it back when it is undone. */
function shared(
  name: string,
  weight: number,
  begin: (scene: Scene, random: SimRandom) => Promise<ActiveFault | undefined>,
): FaultKind {
  return {
    name,
    weight,
    whyNot: always,
    async begin(scene, random) {
      const release = scene.claims.share()
      if (release === undefined) return undefined
      const fault = await begin(scene, random)
      if (fault === undefined) {
        release()
        return undefined
      }
      return { what: fault.what, undo: () => fault.undo().finally(release) }
    },
  }
}

const demote = shared('demote', 2, async ({ nodes, learners }, random) => {
  const node = await victimOf(nodes, random)
  if (learners.has(node)) return undefined
  const answer = await change(nodes, { action: 'demote', node })
  const outcome = answer === undefined ? 'failed' : 'done'
  return {
    what: `demote ${node}: ${outcome}`,
    undo: async () => void (await change(nodes, { action: 'promote', node })),
  }
})

const remove = shared('remove', 2, async ({ nodes, learners, note }, random) => {
  const node = await victimOf(nodes, random)
  if (learners.has(node)) return undefined
  const answer = await change(nodes, { action: 'remove', node })
  if (answer === undefined) {
    return {
      what: `remove ${node}: failed`,
      // Unless nobody heard that it was done: then somebody must come for it as well.
      undo: async () => {
        if ((await seeMembers(nodes))?.removed.includes(node) !== true) return
        await nodes.retire(node)
        note(`  ${node} was removed all the same; ${await nodes.join()} joins`)
      },
    }
  }
  const joiner = await nodes.join()
  return {
    what: `remove ${node}: done; ${joiner} joins with an empty disk`,
    // Until then the clients go on asking the removed node, which must not serve them.
    undo: () => nodes.retire(node),
  }
})

/** A learner begins under load; when its time is over it votes in the place of a voter, in one step. */
const replace = shared('replace', 2, async (scene, random) => {
  const { nodes, note } = scene
  const node = await victimOf(nodes, random)
  if (scene.learners.has(node)) return undefined
  const joiner = await joinLearner(scene)
  if (joiner === undefined) return undefined
  return {
    what: `${joiner} joins as a learner, to replace ${node}`,
    undo: async () => {
      await expectLearner(scene, joiner)
      const request = { action: 'replace', remove: node, promote: joiner } as const
      const isDone = await insist(
        nodes,
        request,
        seen => roleOf(seen, joiner) === 'voter' && roleOf(seen, node) === undefined,
        INSIST_MS_MAX,
      )
      note(`  ${joiner} votes in the place of ${node}: ${isDone ? 'done' : 'not yet'}`)
      if (isDone) await nodes.retire(node)
    },
  }
})

/** A learner begins under load and is promoted when its time is over; somebody else goes then. */
const learner = shared('learner', 2, async (scene, random) => {
  const { nodes, note } = scene
  const joiner = await joinLearner(scene)
  if (joiner === undefined) return undefined
  const voters = othersOf(nodes, joiner).filter(nodeId => !scene.learners.has(nodeId))
  const leaving = random.pick(voters)
  return {
    what: `${joiner} joins as a learner, to be promoted; ${leaving} goes then`,
    undo: async () => {
      await expectLearner(scene, joiner)
      const isVoter = await insist(
        nodes,
        { action: 'promote', node: joiner },
        seen => roleOf(seen, joiner) === 'voter',
        INSIST_MS_MAX,
      )
      note(`  ${joiner} is promoted: ${isVoter ? 'done' : 'not yet'}`)
      if (!isVoter) return
      const isGone = await insist(
        nodes,
        { action: 'remove', node: leaving },
        seen => roleOf(seen, leaving) === undefined,
        INSIST_MS_MAX,
      )
      note(`  ${leaving} is removed: ${isGone ? 'done' : 'not yet'}`)
      if (isGone) await nodes.retire(leaving)
    },
  }
})

/** A disk is lost for good: its node must be refused under its old id, and come as another. */
const lostDisk: FaultKind = {
  name: 'lost-disk',
  weight: 2,
  whyNot: always,
  async begin({ nodes, claims, expectations, note }, random) {
    const release = claims.alone()
    if (release === undefined) return undefined
    const seen = await seeMembers(nodes)
    const { length } = nodes.nodeIds
    // Two disks of three voters would be more than a majority survives.
    if (length < VOTERS_TO_LOSE_ONE || !isWhole(nodes, seen)) {
      release()
      return undefined
    }
    const victim = await victimOf(nodes, random)
    const comeback = await nodes.loseDisk(victim, REFUSAL_MS_MAX)
    expectations.check('an empty disk is refused', complaintOf(victim, comeback))
    await nodes.retire(victim)
    const joiner = await nodes.join()
    const how = HOW[comeback.type]
    return {
      what: `took the disk of ${victim}, which ${how}; ${joiner} joins in its place`,
      undo: async () => {
        const isDone = await insist(
          nodes,
          { action: 'remove', node: victim },
          now => roleOf(now, victim) === undefined && roleOf(now, joiner) === 'voter',
          INSIST_MS_MAX,
        )
        note(`  ${victim} is replaced by ${joiner}: ${isDone ? 'done' : 'not yet'}`)
        // As long as its vote is missing, no other may be taken away.
        if (isDone) release()
      },
    }
  },
}

const HOW: Readonly<Record<Comeback['type'], string>> = {
  ended: 'was refused',
  served: 'served all the same',
  waited: 'found nobody to refuse it',
}

/** What is wrong with how a node without its disk came back, if anything. */
function complaintOf(nodeId: string, comeback: Comeback): string | undefined {
  if (comeback.type === 'waited') return undefined
  if (comeback.type === 'served') return `${nodeId} served with an empty disk`
  const { code, output } = comeback
  if (code !== 0 && REFUSED.test(output)) return undefined
  return `${nodeId} ended with ${code} as its disk was empty: ${output}`
}

/** Starts a node that stays a learner; undefined if there are too many nodes already. */
async function joinLearner({ nodes, learners }: Scene): Promise<string | undefined> {
  if (nodes.nodeIds.length >= nodes.founders + EXTRA_NODES_MAX) return undefined
  const nodeId = await nodes.join({ isLearner: true })
  learners.add(nodeId)
  return nodeId
}

/** A learner must not have become a voter by itself; now it may. */
async function expectLearner(scene: Scene, nodeId: string): Promise<void> {
  const { nodes, expectations, learners } = scene
  const seen = await seeMembers(nodes)
  const role = roleOf(seen, nodeId)
  const complaint = role === 'voter' ? `${nodeId} votes, and nobody promoted it` : undefined
  if (seen !== undefined) expectations.check('learners wait for their promotion', complaint)
  learners.delete(nodeId)
}

/** Every kind of change of the members. */
export const MEMBER_FAULTS: readonly FaultKind[] = [
  transfer,
  demote,
  remove,
  replace,
  learner,
  lostDisk,
]
