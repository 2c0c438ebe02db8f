/**
 * The nodes of a fault run: real processes with real files, started again by their supervisor when
 * they end, each in its place in a network that can be disturbed, on a disk of its own that can
 * be filled where that is possible, with a wall clock that can be moved and an engine that can be
 * made to compute something else.
 */
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  createWriteStream,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statfsSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { must } from '../../src/base/assert.ts'
import { programPath } from '../../src/cli/program.ts'
import type { NodesResponse, StatusResponse } from '../../src/protocol/http-api.ts'
import { lockstep } from '../cluster/kit.ts'
import { writeFaults } from '../cluster/faulty-nodes.ts'
import type { Fault } from '../cluster/faulty-nodes.ts'
import type { ChaosNetwork, Place } from './network.ts'
import type { ChaosServers } from './servers.ts'
import type { WallClocks } from './wall-clocks.ts'

export interface ChaosNodesOptions {
  readonly nodes: number
  readonly directory: string
  readonly network: ChaosNetwork
  readonly clocks: WallClocks
  /** What keeps the data of each node; absent if the nodes do it themselves. */
  readonly servers: ChaosServers | undefined
  /** For `lockstep start`, all nodes alike. */
  readonly options: readonly string[]
}

export interface ChaosNode {
  readonly nodeId: string
  readonly address: string
  readonly directory: string
}

/** A process that ended although nobody ended it. */
export interface Death {
  readonly nodeId: string
  readonly how: string
  /** Whether its disk had been filled, so that it may have had to end. */
  readonly hadFullDisk: boolean
  readonly lastWords: string
}

interface Running extends ChaosNode {
  readonly place: Place
  readonly clockFile: string
  /** Whether its files are on a small file system of their own. */
  readonly isMounted: boolean
  process: ChildProcess | undefined
  /** How it became a member, if it came later. */
  readonly joining: Joining | undefined
  /** Whether it was removed from the cluster, or lost its disk and can't come back. */
  isRetired: boolean
  /** Whether the supervisor starts it again when it ends. */
  isWanted: boolean
  /** Since its last start, or now. */
  hadFullDisk: boolean
}

interface Joining {
  /** Addresses of members that let it in. */
  readonly through: readonly string[]
  readonly isLearner: boolean
}

/** What came of a start that was to be refused. */
export type Comeback =
  | { readonly type: 'ended'; readonly code: number | null; readonly output: string }
  | { readonly type: 'served' }
  /** It was still looking for somebody when its time was over. */
  | { readonly type: 'waited' }

const FAULT_HOOK = fileURLToPath(new URL('../cluster/fault-hook.ts', import.meta.url))
const DISK_BYTES = 192 << 20
const RESTART_MS = 500
const ASK_MS_MAX = 1500
const STOP_MS_MAX = 15_000

export class ChaosNodes {
  readonly deaths: Death[] = []
  readonly network: ChaosNetwork
  readonly #options: ChaosNodesOptions
  readonly #nodes: Running[] = []
  #lastNumber: number
  #secret = ''
  #isStopping = false

  private constructor(options: ChaosNodesOptions) {
    this.#options = options
    this.network = options.network
    this.#lastNumber = options.nodes
  }

  /** Founds the cluster; resolves when one leads and all follow. */
  static async start(options: ChaosNodesOptions): Promise<ChaosNodes> {
    const nodes = new ChaosNodes(options)
    try {
      const ids = Array.from({ length: options.nodes }, (_, at) => `n${at + 1}`)
      await Promise.all(ids.map(async nodeId => options.servers?.place(nodeId)))
      for (const nodeId of ids) await nodes.#place(nodeId, undefined)
      const { directory, nodeId } = must(nodes.#nodes[0])
      const init = ['init', '--data', directory, '--node-id', nodeId]
      const made = await lockstep([...init, '--voters', String(options.nodes)])
      if (made.code !== 0) throw new Error(`lockstep init failed: ${made.output}`)
      nodes.#secret = readFileSync(join(directory, 'secret'), 'utf8').trim()
      for (const node of nodes.#nodes) nodes.start(node.nodeId)
      await nodes.ready(60_000)
    } catch (error) {
      await nodes.stop()
      throw error
    }
    return nodes
  }

  /** Without those that were retired. */
  get nodes(): readonly ChaosNode[] {
    return this.#nodes.filter(({ isRetired }) => !isRetired)
  }

  get nodeIds(): string[] {
    return this.nodes.map(({ nodeId }) => nodeId)
  }

  /** How many there were in the beginning. */
  get founders(): number {
    return this.#options.nodes
  }

  find(nodeId: string): ChaosNode {
    return this.#node(nodeId)
  }

  get addresses(): string[] {
    return this.nodes.map(({ address }) => address)
  }

  /** Starts a node with an empty disk that joins the others; tells its id. */
  async join({ isLearner = false } = {}): Promise<string> {
    this.#lastNumber += 1
    const nodeId = `n${this.#lastNumber}`
    await this.#options.servers?.place(nodeId)
    await this.#place(nodeId, { through: this.addresses, isLearner })
    this.start(nodeId)
    return nodeId
  }

  /**
   * Ends a node, takes all that is on its disk, and tries to start it again as if nothing had
   * happened. What came of that in so much time; in the end it does not run.
   */
  async loseDisk(nodeId: string, timeoutMs: number): Promise<Comeback> {
    const node = this.#node(nodeId)
    await this.kill(nodeId)
    rmSync(node.directory, { recursive: true, force: true, maxRetries: 20 })
    await this.#options.servers?.place(nodeId)
    const [program = '', ...args] = this.#commandOf(node)
    const child = this.#launch(node, program, args)
    let output = ''
    child.stderr?.on('data', chunk => (output += String(chunk)))
    const closed = once(child, 'close') as Promise<[number | null, string | null]>
    const served = this.#isReady(node, timeoutMs).then(isReady => {
      // In its time it ends by itself, or never.
      child.kill('SIGKILL')
      return isReady
    })
    const [code, signal] = await closed
    rmSync(node.directory, { recursive: true, force: true, maxRetries: 20 })
    if (signal === null) return { type: 'ended', code, output }
    return { type: (await served) ? 'served' : 'waited' }
  }

  /** Ends a node for good that was removed from the cluster. */
  async retire(nodeId: string): Promise<void> {
    this.#node(nodeId).isRetired = true
    await this.kill(nodeId)
    await this.#options.servers?.kill(nodeId)
  }

  /** Whether the disks of nodes can be filled on this machine. */
  get hasSmallDisks(): boolean {
    return this.#nodes.every(({ isMounted }) => isMounted)
  }

  pid(nodeId: string): number | undefined {
    return this.#node(nodeId).process?.pid
  }

  /** Processes that run SQL for a node. */
  enginePids(nodeId: string): number[] {
    const { servers } = this.#options
    if (servers !== undefined) return [servers.pid(nodeId)].filter(pid => pid !== undefined)
    const pid = this.pid(nodeId)
    if (pid === undefined) return []
    const { stdout } = spawnSync('ps', ['-o', 'pid=', '--ppid', String(pid)], { encoding: 'utf8' })
    return stdout.split('\n').filter(Boolean).map(Number)
  }

  /** Starts a node, and again whenever it ends by itself, until it is killed. */
  start(nodeId: string): void {
    const node = this.#node(nodeId)
    // Who ends a fault need not know what others have done to the node meanwhile.
    if (node.isRetired) return
    node.isWanted = true
    if (node.process === undefined && !this.#isStopping) this.#spawn(node)
  }

  /** Ends a node for good, until it is started. */
  async kill(nodeId: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const node = this.#node(nodeId)
    node.isWanted = false
    const child = node.process
    if (child === undefined) return
    child.kill(signal)
    // One that is paused hears nothing but this.
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX)
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    clearTimeout(timer)
    if (node.process === child) node.process = undefined
  }

  /** Ends the server under a node; resolves when it is gone. */
  async killServer(nodeId: string, signal: NodeJS.Signals): Promise<void> {
    await this.#options.servers?.kill(nodeId, signal)
  }

  /** Starts it, unless it runs or its node is gone for good; resolves when it answers. */
  async startServer(nodeId: string): Promise<void> {
    if (!this.#node(nodeId).isRetired) await this.#options.servers?.start(nodeId)
  }

  /** Fills the disk of a node up to so many bytes; needs {@link hasSmallDisks}. */
  fillDisk(nodeId: string, leftBytes: number): void {
    const node = this.#node(nodeId)
    node.hadFullDisk = true
    const { bavail, bsize } = statfsSync(dirname(node.directory))
    const sizeBytes = Math.max(0, bavail * bsize - leftBytes)
    spawnSync('fallocate', ['-l', String(sizeBytes), this.#ballast(node)])
  }

  freeDisk(nodeId: string): void {
    rmSync(this.#ballast(this.#node(nodeId)), { force: true })
  }

  /** Moves the wall clock of a node away from the right time. */
  setClock(nodeId: string, offsetMs: number): void {
    this.#options.clocks.set(this.#node(nodeId).clockFile, offsetMs)
  }

  /** Makes the SQL or the disk of a node go wrong in this way, and in no other. */
  setFaults(nodeId: string, faults: readonly Fault[]): void {
    writeFaults(this.#options.directory, nodeId, faults)
  }

  async status(nodeId: string): Promise<StatusResponse | undefined> {
    return (await this.#ask(nodeId, '/status')) as StatusResponse | undefined
  }

  /** The leader as most running nodes know it. */
  async leader(): Promise<string | undefined> {
    const answers = await Promise.all(this.nodeIds.map(nodeId => this.#ask(nodeId, '/nodes')))
    const votes = new Map<string, number>()
    for (const answer of answers as (NodesResponse | undefined)[]) {
      const leader = answer?.leader?.nodeId
      if (leader !== undefined) votes.set(leader, (votes.get(leader) ?? 0) + 1)
    }
    return [...votes].sort((left, right) => right[1] - left[1])[0]?.[0]
  }

  /** Waits until a node serves; false if it does not in that time, or has gone for good. */
  isReady(nodeId: string, timeoutMs: number): Promise<boolean> {
    return this.#isReady(this.#node(nodeId), timeoutMs)
  }

  /** Waits until all nodes are ready under one leader. */
  async ready(timeoutMs: number): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs
    for (;;) {
      const all = await Promise.all(this.nodeIds.map(nodeId => this.status(nodeId)))
      const leaders = new Set(all.map(status => status?.leader?.nodeId))
      if (all.every(status => status?.state === 'ready') && leaders.size === 1) return
      if (performance.now() > deadlineMs) {
        const states = all.map((status, at) => {
          const { state = 'silent', term = 0, lastError = '', snapshot = null } = status ?? {}
          const copy = snapshot === null ? '' : JSON.stringify(snapshot)
          return `${this.nodeIds[at]} ${state} term ${term} ${lastError} ${copy}`
        })
        throw new Error(`not all nodes got ready in ${timeoutMs} ms: ${states.join('; ')}`)
      }
      await pause(50)
    }
  }

  /** Ends all processes and gives all disks and networks back. */
  async stop(): Promise<void> {
    this.#isStopping = true
    await Promise.all(this.#nodes.map(({ nodeId }) => this.kill(nodeId)))
    await this.#options.servers?.stop()
    await this.network.close()
  }

  /** Takes the small disks away. Call it after {@link stop}; `isKept` copies what is on them. */
  unmount(isKept: boolean): void {
    for (const { directory, isMounted } of this.#nodes) {
      if (!isMounted) continue
      const root = dirname(directory)
      if (isKept && existsSync(directory)) cpSync(directory, `${root}-data`, { recursive: true })
      spawnSync('umount', ['-l', root])
    }
  }

  async #isReady(node: Running, timeoutMs: number): Promise<boolean> {
    const deadlineMs = performance.now() + timeoutMs
    while (performance.now() < deadlineMs && !node.isRetired) {
      if ((await this.status(node.nodeId))?.state === 'ready') return true
      await pause(50)
    }
    return false
  }

  async #place(nodeId: string, joining: Joining | undefined): Promise<void> {
    const root = join(this.#options.directory, nodeId)
    mkdirSync(root, { recursive: true })
    const size = `size=${DISK_BYTES}`
    const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', size, 'tmpfs', root])
    const place = await this.network.place(nodeId)
    const node: Running = {
      nodeId,
      address: place.address,
      directory: join(root, 'data'),
      place,
      clockFile: join(this.#options.directory, `${nodeId}.clock`),
      isMounted: mount.status === 0,
      joining,
      isRetired: false,
      process: undefined,
      isWanted: false,
      hadFullDisk: false,
    }
    this.#nodes.push(node)
    this.setClock(nodeId, 0)
  }

  #commandOf({ place, directory, nodeId, joining }: Running): string[] {
    const others = this.addresses.filter(address => address !== place.address)
    const how =
      joining === undefined
        ? ['start', '--join', others.join(',')]
        : ['join', ...joining.through, ...(joining.isLearner ? ['--learner'] : [])]
    const own = ['--data', directory, '--node-id', nodeId, '--listen', place.listen]
    own.push('--advertise', place.address, ...this.#options.options)
    own.push(...(this.#options.servers?.optionsOf(nodeId) ?? []))
    return [...place.wrapper, process.execPath, programPath('main'), ...how, ...own]
  }

  /** Starts a process in which clock and engine go wrong when they are told to. */
  #launch({ clockFile }: Running, program: string, args: readonly string[]): ChildProcess {
    const { clocks, directory } = this.#options
    const imports = [FAULT_HOOK, ...clocks.imports].map(module => `--import ${module}`)
    const child = spawn(program, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: {
        ...process.env,
        ...clocks.environment(clockFile),
        LOCKSTEP_SECRET: this.#secret,
        NODE_OPTIONS: imports.join(' '),
        FAULTS: directory,
      },
    })
    child.on('exit', () => child.pid !== undefined && clocks.ended(child.pid))
    return child
  }

  #spawn(node: Running): void {
    const { nodeId } = node
    const [program = '', ...args] = this.#commandOf(node)
    const child = this.#launch(node, program, args)
    const logFile = join(this.#options.directory, `${nodeId}.log`)
    const output = createWriteStream(logFile, { flags: 'a' })
    let lastWords = ''
    child.stderr?.on('data', (chunk: Buffer) => {
      lastWords = (lastWords + String(chunk)).slice(-2000)
      output.write(chunk)
    })
    child.on('exit', (code, signal) => {
      output.end()
      if (node.process !== child) return
      node.process = undefined
      if (!node.isWanted || this.#isStopping) return
      const how = signal ?? `code ${code}`
      this.deaths.push({ nodeId, how, hadFullDisk: node.hadFullDisk, lastWords })
      // As a service manager would, also while its disk is still full.
      setTimeout(() => node.isWanted && this.start(nodeId), RESTART_MS)
    })
    node.process = child
  }

  #ballast({ directory }: Running): string {
    return join(dirname(directory), 'ballast')
  }

  async #ask(nodeId: string, path: string): Promise<unknown> {
    try {
      const answer = await fetch(`http://${this.#node(nodeId).address}${path}`, {
        signal: AbortSignal.timeout(ASK_MS_MAX),
      })
      return answer.ok ? await answer.json() : undefined
    } catch {
      // It does not run, or can't be reached.
      return undefined
    }
  }

  #node(nodeId: string): Running {
    return must(
      this.#nodes.find(node => node.nodeId === nodeId),
      nodeId,
    )
  }
}
