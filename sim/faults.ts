/** What goes wrong in a simulated cluster, one thing after another, by the weights of the run. */
import type { Operator } from './operator.ts'
import type { SimNetwork } from './sim-network.ts'
import type { SimNode } from './sim-node.ts'
import type { SimRandom } from './sim-random.ts'
import type { FaultWeights, Swarm } from './swarm.ts'
import type { World } from './world.ts'

export interface FaultParts {
  readonly world: World
  readonly swarm: Swarm
  readonly network: SimNetwork
  readonly nodes: readonly SimNode[]
  readonly operator: Operator
}

const PAUSE_MS_MEAN = 300
const MISCOMPUTE_MS_MEAN = 300
const HAND_OVER_MS = 2000
const STUCK_MS_MEAN = 600
const JUMP_MS_MAX = 3_600_000

export class Faults {
  readonly #parts: FaultParts
  readonly #random: SimRandom
  #transfers = 0
  #isStopped = false

  constructor(parts: FaultParts) {
    this.#parts = parts
    this.#random = parts.world.random('faults')
  }

  start(): void {
    const { world, swarm } = this.#parts
    world.after(this.#random.exponential(swarm.faultMsMean), () => {
      if (this.#isStopped) return
      this.#strike()
      this.start()
    })
  }

  stop(): void {
    this.#isStopped = true
  }

  #strike(): void {
    const kinds = Object.entries(this.#parts.swarm.weights) as [keyof FaultWeights, number][]
    let point = this.#random.float(
      0,
      kinds.reduce((sum, [, weight]) => sum + weight, 0),
    )
    for (const [kind, weight] of kinds) {
      point -= weight
      if (point < 0) return this.#do(kind)
    }
  }

  #do(kind: keyof FaultWeights): void {
    const { nodes, network } = this.#parts
    const node = this.#random.pick(nodes)
    const other = this.#random.pick(nodes)
    switch (kind) {
      case 'crash':
        return node.crash(false)
      case 'powerCut':
        return node.crash(true)
      case 'allPowerCut':
        for (const each of nodes) each.crash(true)
        return undefined
      case 'restart':
        return node.isRunning ? undefined : node.start()
      case 'pause':
        return this.#pause(node)
      case 'partition':
        return this.#partition()
      case 'isolate':
        return this.#isolate(nodes.find(({ role }) => role === 'leader') ?? node)
      case 'cut':
        return node === other ? undefined : network.cut(node.id, other.id)
      case 'heal':
        return network.healAll()
      case 'reset':
        return network.reset(node.id, other.id)
      case 'slow':
        return network.slowDown(node.id, other.id, this.#random.float(5, 100))
      case 'stuckDisk':
        return this.#stickDisk(nodes.find(({ role }) => role === 'leader') ?? node)
      case 'clockJump':
        return node.clock.jump(this.#random.between(-JUMP_MS_MAX, JUMP_MS_MAX))
      case 'engineDeath':
        return node.killEngine()
      case 'miscompute':
        return this.#miscompute(node)
      case 'rot':
        return this.#rot(node)
      case 'transfer':
        return this.#transfer(node)
      case 'members':
        return this.#parts.operator.changeSomething()
    }
  }

  /** Bluntly or with care, in turns. */
  #transfer(node: SimNode): void {
    if (!node.isRunning) return
    this.#transfers += 1
    if (this.#transfers % 2 === 0) node.replica.handOver(undefined, HAND_OVER_MS, () => {})
    else node.replica.transferLeadership()
  }

  #pause(node: SimNode): void {
    const durationMs = this.#random.exponential(PAUSE_MS_MEAN)
    this.#parts.world.note('pause', node.id, Math.round(durationMs))
    node.process.pause(durationMs)
  }

  /** One at a time, and never where two could not tell who is right. */
  #miscompute(node: SimNode): void {
    const { nodes, swarm } = this.#parts
    const leader = nodes.find(({ isRunning, role }) => isRunning && role === 'leader')
    const votersMin = swarm.weights.members > 0 ? 4 : 3
    const voterCount = leader?.log.status().voters.length ?? 0
    if (voterCount < votersMin || nodes.some(({ isWrong }) => isWrong)) return
    node.miscompute(this.#random.exponential(MISCOMPUTE_MS_MEAN))
  }

  /** One at a time, so that a majority stays right. */
  #rot(node: SimNode): void {
    if (!this.#parts.nodes.some(({ isWrong }) => isWrong)) node.rot()
  }

  #stickDisk(node: SimNode): void {
    const durationMs = this.#random.exponential(STUCK_MS_MEAN)
    this.#parts.world.note('disk stuck', node.id, Math.round(durationMs))
    node.stickDisk(durationMs)
  }

  #isolate(node: SimNode): void {
    const { world, nodes, network } = this.#parts
    world.note('isolate', node.id)
    for (const other of nodes) {
      if (other === node) continue
      network.cut(node.id, other.id)
      network.cut(other.id, node.id)
    }
  }

  /** Two sides; now and then only one of them does not hear the other. */
  #partition(): void {
    const { world, nodes, network } = this.#parts
    const sides = nodes.map(({ id }) => ({ id, isLeft: this.#random.chance(0.5) }))
    const isOneWay = this.#random.chance(0.3)
    world.note('partition', 0, sides.filter(({ isLeft }) => isLeft).length, isOneWay ? 1 : 0)
    for (const { id: from, isLeft } of sides) {
      for (const { id: to, isLeft: isToLeft } of sides) {
        if (isLeft && !isToLeft) {
          network.cut(from, to)
          if (!isOneWay) network.cut(to, from)
        }
      }
    }
  }
}
