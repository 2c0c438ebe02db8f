/**
 * Who changes the members of a simulated cluster: adds machines, promotes, demotes, replaces and
 * removes them, at whoever leads or believes so, one change after another, whatever became of the
 * last one. A machine that was added is switched on, one that was removed stays on.
 */
import type { MembersChange, Membership } from '../src/log/log.ts'
import type { SimNode } from './sim-node.ts'
import type { SimRandom } from './sim-random.ts'
import type { World } from './world.ts'

export interface OperatorParts {
  readonly world: World
  readonly nodes: readonly SimNode[]
  /** Machines that may be added to those of the founding. */
  readonly spareCount: number
}

const TIMEOUT_MS = 2000

export class Operator {
  readonly #parts: OperatorParts
  readonly #random: SimRandom
  readonly #machineCountMax: number

  constructor(parts: OperatorParts) {
    this.#parts = parts
    this.#random = parts.world.random('operator')
    this.#machineCountMax = parts.nodes.length + parts.spareCount
  }

  changeSomething(): void {
    const leaders = this.#parts.nodes.filter(node => node.isRunning && node.role === 'leader')
    // With fewer voters nobody could tell who of them is right.
    if (leaders.length === 0 || this.#parts.nodes.some(({ isWrong }) => isWrong)) return
    const leader = this.#random.pick(leaders)
    const change = this.#draw(leader, leader.log.status().membership)
    if (change === undefined) return
    const { world } = this.#parts
    leader.log.changeMembers(change, TIMEOUT_MS, outcome => {
      const isDone = 'members' in outcome
      const result = isDone ? describe(outcome) : `${outcome.code}: ${outcome.message}`
      world.note(isDone ? 'members changed' : 'members unchanged', leader.id, 0, 0, () => {
        return `${JSON.stringify(change)} ${result}`
      })
    })
  }

  #draw(leader: SimNode, membership: Membership): MembersChange | undefined {
    const random = this.#random
    const { voters, learners, members, nextRaftId } = membership
    const others = voters.filter(id => id !== leader.id)
    const wish = random.pick(['add', 'promote', 'promote', 'demote', 'remove', 'replace', 'move'])
    if (wish === 'add' && nextRaftId <= this.#machineCountMax) {
      return { type: 'add-learner', node: machine(nextRaftId) }
    }
    if (wish === 'promote' && learners.length > 0) {
      return { type: 'promote', raftId: random.pick(learners) }
    }
    if (wish === 'demote' && others.length > 0) {
      return { type: 'demote', raftId: random.pick(others) }
    }
    if (wish === 'remove' && others.length + learners.length > 0) {
      return { type: 'remove', raftId: random.pick([...others, ...learners]) }
    }
    if (wish === 'replace' && others.length > 0 && learners.length > 0) {
      return { type: 'replace', remove: random.pick(others), promote: random.pick(learners) }
    }
    if (wish !== 'move') return undefined
    const { raftId } = random.pick(members)
    return { type: 'set-address', raftId, address: `moved-${random.below(1_000_000)}:7070` }
  }
}

/** The machine that gets this number if it is added. */
export function machine(raftId: number): {
  readonly nodeId: string
  readonly address: string
  readonly incarnation: string
} {
  return { nodeId: `n${raftId}`, address: `n${raftId}:7070`, incarnation: `disk-${raftId}` }
}

function describe({ voters, votersOutgoing, learners }: Membership): string {
  return `voters ${voters.join()} (${votersOutgoing.join()}) learners ${learners.join()}`
}
