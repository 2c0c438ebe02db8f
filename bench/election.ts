/**
 * `node bench/election.ts`: how long groups of three are without a leader when theirs is killed, in
 * simulated time: thousands of elections in a minute, the same ones for the same seeds. The logs are
 * those of the product, at its default times; network, disks and processes are simulated. `--load`
 * is idle (a quiet machine), full (entries without a pause, busy processes and disks) or crowded
 * (processes that get hardly any time). With `--gone`, the machine vanishes instead of the process:
 * nobody tells the others.
 */
import { Command } from 'commander'
import { must } from '../src/base/assert.ts'
import { OPTIONS } from '../src/cli/options.ts'
import { foundingMembership, storedMembers } from '../src/log/membership.ts'
import { Peers } from '../src/log/peers.ts'
import { RaftLog } from '../src/log/raft-log.ts'
import { Wal } from '../src/wal/wal.ts'
import { SimClock } from '../sim/sim-clock.ts'
import { SimDisk } from '../sim/sim-disk.ts'
import { SimNetwork } from '../sim/sim-network.ts'
import { SimProcess } from '../sim/sim-process.ts'
import type { SimRandom } from '../sim/sim-random.ts'
import { QUIET, World } from '../sim/world.ts'

const IDS = [1, 2, 3]
const ENTRY_BYTES = 20_000
const TICK_MS = OPTIONS.tickMs.default
const GIVE_UP_MS = 60_000
/** Bounds of the columns. */
const BOUNDS_MS = [250, 500, 750, 1000, 1300, 1600, 2000, 3000, Infinity]

interface Load {
  readonly flushMsMean: number
  /** An entry is followed by the next one. */
  readonly isWriting: boolean
  /** How long a process works, or waits for its turn, and how long it is free in between. */
  readonly busyMsMean: number
  readonly freeMsMean: number
  /** Now and then it stands still for longer. */
  readonly stallMsMean: number
}

const LOADS: Readonly<Record<string, Load>> = {
  idle: { flushMsMean: 1, isWriting: false, busyMsMean: 0.1, freeMsMean: 20, stallMsMean: 1 },
  full: { flushMsMean: 10, isWriting: true, busyMsMean: 10, freeMsMean: 10, stallMsMean: 60 },
  crowded: { flushMsMean: 40, isWriting: true, busyMsMean: 60, freeMsMean: 30, stallMsMean: 400 },
}
/** One in so many pauses of a process is a long one. */
const STALLS_ONE_IN = 50

interface Life {
  readonly id: number
  readonly process: SimProcess
  readonly log: RaftLog
}

interface Measured {
  readonly electedMs: number
  readonly committedMs: number
}

class Group {
  readonly #world: World
  readonly #load: Load
  readonly #random: SimRandom
  readonly #network: SimNetwork
  #lives: Life[]
  #isOver = false

  constructor(seed: number, load: Load) {
    this.#world = new World(seed, QUIET)
    this.#load = load
    this.#random = this.#world.random('group')
    const network = {
      delayMsMin: 0.05,
      delayMsMean: 0.1,
      bytesPerMs: 1_000_000,
      dropProbability: 0,
      repeatProbability: 0,
      resetProbability: 0,
      connectMsMean: 2,
      breakMsMin: 5000,
      breakMsMax: 10_000,
      queueBytesMax: 64 << 20,
    }
    const knowledge = { mayRepeat: () => false, describe: () => '' }
    this.#network = new SimNetwork(this.#world, network, knowledge)
    this.#lives = IDS.map(id => this.#start(id))
    for (const life of this.#lives) this.#keepBusy(life.process)
  }

  /** Kills the leader at some moment. */
  measure(isMachineGone: boolean): Measured {
    this.#until('a leader', () => this.#leader() !== undefined)
    const settleMs = 3000 + this.#random.below(1000)
    this.#world.scheduler.runUntil(this.#world.nowMs + settleMs, () => false)
    this.#until('a leader', () => this.#leader() !== undefined)
    const killed = must(this.#leader())
    const killedMs = this.#world.nowMs
    killed.process.kill()
    if (isMachineGone) {
      for (const id of IDS.filter(other => other !== killed.id)) {
        this.#network.cut(killed.id, id)
        this.#network.cut(id, killed.id)
      }
    } else {
      this.#network.detach(killed.id)
    }
    this.#lives = this.#lives.filter(life => life !== killed)
    this.#until('an election', () => this.#leader() !== undefined)
    const electedMs = this.#world.nowMs - killedMs
    this.#until('a commit', () => this.#leader()?.log.status().isCommitCurrent === true)
    this.#isOver = true
    return { electedMs, committedMs: this.#world.nowMs - killedMs }
  }

  #leader(): Life | undefined {
    return this.#lives.find(({ log }) => log.status().role === 'leader')
  }

  #until(what: string, isDone: () => boolean): void {
    const isTrue = this.#world.scheduler.runUntil(this.#world.nowMs + GIVE_UP_MS, isDone)
    if (!isTrue) throw new Error(`no ${what} within ${GIVE_UP_MS} ms`)
  }

  #start(id: number): Life {
    const { flushMsMean, isWriting } = this.#load
    const process = new SimProcess(this.#world)
    const random = this.#world.random(`node/${id}`)
    const disk = new SimDisk({
      random,
      later: (delayMs, callback) => process.after(delayMs, callback),
      latencyMs: ({ type }) => (type === 'sync' ? random.exponential(flushMsMean) : 0.05),
    })
    const originMs = random.below(1_000_000)
    const clock = new SimClock(this.#world, { rate: 1, originMs, wallOffsetMs: 0 }).portFor(process)
    const peers = new Peers(this.#network.attach(id, process), clock, 1)
    const members = IDS.map(raftId => ({
      raftId,
      nodeId: `n${raftId}`,
      address: `n${raftId}:1`,
      incarnation: `${raftId}`,
    }))
    const log = new RaftLog({
      raftId: id,
      wal: Wal.open({
        disk: disk.mount(),
        directory: 'log',
        identity: { clusterId: 'c', groupId: 1, raftId: id },
        initialMembers: storedMembers(foundingMembership(members)),
        onFatal: error => {
          throw error
        },
      }),
      peers,
      clock,
      random,
      options: {
        tickMs: TICK_MS,
        electionTicks: OPTIONS.electionTimeoutMs.default / TICK_MS,
        heartbeatTicks: OPTIONS.heartbeatMs.default / TICK_MS,
        maxSizePerMessageBytes: 1 << 20,
        maxInflightMessages: 256,
        maxInflightBytes: 32 << 20,
      },
      logger: { debug() {}, info() {}, warn() {}, error() {} },
    })
    log.start(() => {
      if (isWriting) process.after(1, () => this.#write(log))
    })
    peers.listen()
    return { id, process, log }
  }

  #write(log: RaftLog): void {
    const { role, term, lastIndex, commitIndex } = log.status()
    if (role !== 'leader' || lastIndex !== commitIndex) return
    log.append(term, new Uint8Array(ENTRY_BYTES))
    log.compact(commitIndex - 100)
  }

  #keepBusy(process: SimProcess): void {
    const { busyMsMean, freeMsMean, stallMsMean } = this.#load
    this.#world.after(this.#random.exponential(freeMsMean), () => {
      if (this.#isOver || !process.isAlive) return
      const isStall = this.#random.chance(1 / STALLS_ONE_IN)
      const busyMs = this.#random.exponential(isStall ? stallMsMean : busyMsMean)
      process.pause(busyMs)
      this.#world.after(busyMs, () => this.#keepBusy(process))
    })
  }
}

function main(): void {
  const options = new Command('node bench/election.ts')
    .option('--runs <count>', 'groups whose leader is killed', '1000')
    .option('--first-seed <number>', 'seed of the first', '1')
    .option('--load <kind>', 'idle, full or crowded', 'idle')
    .option('--gone', 'the machine vanishes without a word', false)
    .parse()
    .opts<{ runs: string; firstSeed: string; load: string; gone: boolean }>()
  const load = must(LOADS[options.load], `the load ${options.load}`)
  const all: Measured[] = []
  for (let run = 0; run < Number(options.runs); run += 1) {
    all.push(new Group(Number(options.firstSeed) + run, load).measure(options.gone))
  }
  const how = options.gone ? 'machine gone' : 'process killed'
  console.log(`${options.load}, ${how}, ${all.length} elections, in milliseconds:`)
  for (const name of ['electedMs', 'committedMs'] as const) {
    const sorted = all.map(measured => measured[name]).sort((left, right) => left - right)
    const at = (part: number): string =>
      must(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]).toFixed(0)
    const counts = BOUNDS_MS.map((bound, index) => {
      const low = index === 0 ? 0 : must(BOUNDS_MS[index - 1])
      const count = sorted.filter(time => time >= low && time < bound).length
      return bound === Infinity ? `more: ${count}` : `<${bound}: ${count}`
    })
    const quantiles = `median ${at(0.5)}, 90 % ${at(0.9)}, 99 % ${at(0.99)}, worst ${at(1)}`
    console.log(`  ${name}: ${quantiles}\n    ${counts.join(', ')}`)
  }
}

main()
