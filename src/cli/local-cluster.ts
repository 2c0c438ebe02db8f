/**
 * A cluster of real processes on this machine: for `lockstep dev`, the demonstration, tests and
 * benchmarks. Every node is `lockstep start` in a process of its own, with its own directory.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, mkdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { must } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import { VOTERS_MAX } from './identity.ts'
import { programPath } from './program.ts'

/** Ports that systems don't hand out by themselves, so that a node finds its own again. */
const PORT_MIN = 20_000
const PORT_MAX = 32_000
const READY_MS_MAX = 30_000
const POLL_MS = 25

export interface LocalClusterOptions {
  readonly nodes: number
  /** Each node's files stand in a folder here, named as the node. */
  readonly directory: string
  /** For `lockstep start`, all nodes alike: options as on the command line. */
  readonly options?: readonly string[]
  /** The same for one of them. */
  readonly nodeOptions?: (nodeId: string) => readonly string[]
  /** Variables of the environment of one of them. */
  readonly nodeEnvironment?: (nodeId: string) => Readonly<Record<string, string>>
  /** What the data begin with; such a cluster begins with one node. */
  readonly backup?: string
  /** Ports, one a node; free ones are chosen if they are not given. */
  readonly ports?: readonly number[]
  /** Where others reach each founder, if something stands before it. Goes with `ports`. */
  readonly advertised?: readonly string[]
}

export interface LocalNode {
  readonly nodeId: string
  readonly address: string
  readonly directory: string
}

interface Running extends LocalNode {
  /** Where the other nodes reach it. */
  readonly advertised: string
  process: ChildProcess | undefined
  /** Of `lockstep join`; undefined for a founder. */
  readonly joining?: readonly string[]
  /** Whom it asks; all others if absent. */
  readonly through?: readonly string[] | undefined
}

export interface JoinOptions {
  /** Stay a learner. */
  readonly isLearner?: boolean
  /** An address of this machine; a free one is chosen if it is absent. */
  readonly address?: string
  /** Addresses of the nodes to ask; all others if absent. */
  readonly through?: readonly string[]
}

/** What `GET /nodes` of a node says, as far as it is used here. */
interface Leadership {
  readonly leader: { readonly nodeId: string } | null
}

/** A number of nodes as it stands on the command line. Throws INVALID_REQUEST. */
export function parseNodeCount(text: string): number {
  const count = /^\d{1,4}$/.test(text) ? Number(text) : 0
  if (count >= 1 && count <= VOTERS_MAX) return count
  const message = `--nodes must be a whole number from 1 to ${VOTERS_MAX}, not ${text}`
  throw new DbError('INVALID_REQUEST', message)
}

export class LocalCluster {
  readonly #options: LocalClusterOptions
  readonly #nodes: Running[]
  #secret = ''

  private constructor(options: LocalClusterOptions, ports: readonly number[]) {
    this.#options = options
    this.#nodes = ports.map((port, at) => ({
      nodeId: `n${at + 1}`,
      address: `127.0.0.1:${port}`,
      advertised: options.advertised?.[at] ?? `127.0.0.1:${port}`,
      directory: join(options.directory, `n${at + 1}`),
      process: undefined,
    }))
  }

  /** Founds the cluster and starts every node; resolves when one leads and all follow. */
  static async start(options: LocalClusterOptions): Promise<LocalCluster> {
    const ports = options.ports ?? (await freePorts(options.nodes))
    const cluster = new LocalCluster(options, ports)
    try {
      mkdirSync(options.directory, { recursive: true })
      const first = must(cluster.#nodes[0])
      const voters = String(options.nodes)
      const node = ['--data', first.directory, '--node-id', first.nodeId]
      const { backup } = options
      if (backup === undefined) await run('init', ...node, '--voters', voters)
      else await run('restore', backup, ...node, ...engineIn(options.nodeOptions?.(first.nodeId)))
      // The others are given what init made for the first, as an operator would copy it.
      cluster.#secret = readFileSync(join(first.directory, 'secret'), 'utf8').trim()
      for (const node of cluster.#nodes) cluster.#spawn(node)
      await cluster.ready()
    } catch (error) {
      await cluster.stop('SIGKILL')
      throw error
    }
    return cluster
  }

  get nodes(): readonly LocalNode[] {
    return this.#nodes
  }

  get addresses(): readonly string[] {
    return this.#nodes.map(({ address }) => address)
  }

  /** Process id of a node, undefined while it doesn't run. */
  pid(nodeId: string): number | undefined {
    return this.#node(nodeId).process?.pid
  }

  isRunning(nodeId: string): boolean {
    return this.#node(nodeId).process !== undefined
  }

  /** Waits until all running nodes are ready and agree on a leader; tells its id. */
  async ready(): Promise<string> {
    const deadline = performance.now() + READY_MS_MAX
    for (;;) {
      const leaders = await Promise.all(
        this.#nodes.filter(({ process }) => process !== undefined).map(readyLeaderOf),
      )
      const [leader] = leaders
      if (leader !== undefined && leaders.every(other => other === leader)) return leader
      const dead = this.#nodes.find(({ process }) => hasEnded(process))
      if (dead !== undefined || performance.now() > deadline) {
        const what = dead === undefined ? 'did not get ready in time' : `${dead.nodeId} ended`
        const where = join(this.#options.directory, '*.log')
        throw new DbError('NOT_READY', `the local cluster ${what}; its output is in ${where}`)
      }
      await pause(POLL_MS)
    }
  }

  /** The leader as the first node that answers knows it. */
  async leader(): Promise<string | undefined> {
    for (const node of this.#nodes) {
      if (node.process === undefined) continue
      const leader = await leaderOf(node)
      if (leader !== undefined) return leader
    }
    return undefined
  }

  /** Sends a signal and, unless it only pauses the process, waits for its end. */
  async kill(nodeId: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const node = this.#node(nodeId)
    const child = node.process
    if (child === undefined) return
    child.kill(signal)
    if (signal === 'SIGSTOP' || signal === 'SIGCONT') return
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    node.process = undefined
  }

  /** Starts a node again that was killed. */
  restart(nodeId: string): void {
    const node = this.#node(nodeId)
    if (node.process === undefined) this.#spawn(node)
  }

  /** Starts `lockstep join` for a new node; nothing waits until it is a member. */
  async join(nodeId: string, options: JoinOptions = {}): Promise<LocalNode> {
    const address = options.address ?? `127.0.0.1:${must((await freePorts(1))[0])}`
    const directory = join(this.#options.directory, nodeId)
    const joining = options.isLearner === true ? ['--learner'] : []
    const { through } = options
    const node: Running = {
      nodeId,
      address,
      advertised: address,
      directory,
      process: undefined,
      joining,
      through,
    }
    this.#nodes.push(node)
    this.#spawn(node)
    return node
  }

  /** The node is listed no more; its process must have ended. */
  forget(nodeId: string): void {
    const node = this.#node(nodeId)
    this.#nodes.splice(this.#nodes.indexOf(node), 1)
  }

  /** Starts a node that was killed at another address. */
  async move(nodeId: string): Promise<LocalNode> {
    const { joining: _joining, ...node } = this.#node(nodeId)
    const address = `127.0.0.1:${must((await freePorts(1))[0])}`
    const moved: Running = { ...node, address, advertised: address }
    this.#nodes.splice(this.#nodes.indexOf(this.#node(nodeId)), 1, moved)
    this.#spawn(moved)
    return moved
  }

  /** Ends all nodes. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await Promise.all(this.#nodes.map(({ nodeId }) => this.kill(nodeId, signal)))
  }

  #node(nodeId: string): Running {
    return must(
      this.#nodes.find(node => node.nodeId === nodeId),
      `node ${nodeId}`,
    )
  }

  #spawn(node: Running): void {
    const others = this.#nodes.filter(other => other !== node).map(({ advertised }) => advertised)
    const isFollowing = others.length > 0 && node !== this.#nodes[0]
    const own = ['--data', node.directory, '--node-id', node.nodeId, '--listen', node.address]
    if (node.advertised !== node.address) own.push('--advertise', node.advertised)
    const args =
      node.joining === undefined
        ? ['start', ...own, ...(isFollowing ? ['--join', others.join(',')] : [])]
        : ['join', ...(node.through ?? others), ...own, ...node.joining]
    const { options = [], nodeOptions, nodeEnvironment } = this.#options
    args.push(...options, ...(nodeOptions?.(node.nodeId) ?? []))
    const child = spawn(process.execPath, [programPath('main'), ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, LOCKSTEP_SECRET: this.#secret, ...nodeEnvironment?.(node.nodeId) },
    })
    const output = createWriteStream(join(this.#options.directory, `${node.nodeId}.log`), {
      flags: 'a',
    })
    child.stderr.pipe(output)
    node.process = child
  }
}

/** Runs one command of this program to its end. */
/** The option that names an engine, and its value. */
function engineIn(options: readonly string[] = []): readonly string[] {
  const at = options.indexOf('--engine')
  return at < 0 ? [] : options.slice(at, at + 2)
}

async function run(...args: string[]): Promise<void> {
  const child = spawn(process.execPath, [programPath('main'), ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let output = ''
  child.stderr.on('data', chunk => (output += String(chunk)))
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) throw new DbError('NOT_READY', `lockstep ${args.join(' ')} failed: ${output}`)
}

/** Undefined unless the node is ready and knows a leader. */
async function readyLeaderOf(node: LocalNode): Promise<string | undefined> {
  try {
    const ready = await fetch(`http://${node.address}/health/ready`)
    await ready.body?.cancel()
    return ready.ok ? await leaderOf(node) : undefined
  } catch {
    // Not listening yet.
    return undefined
  }
}

async function leaderOf(node: LocalNode): Promise<string | undefined> {
  try {
    const answer = await fetch(`http://${node.address}/nodes`, {
      signal: AbortSignal.timeout(2000),
    })
    if (!answer.ok) return undefined
    return ((await answer.json()) as Leadership).leader?.nodeId
  } catch {
    return undefined
  }
}

/** Ports of this machine on which nobody listens now. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = []
  while (ports.length < count) {
    const port = PORT_MIN + Math.floor(Math.random() * (PORT_MAX - PORT_MIN))
    if (!ports.includes(port) && (await isFree(port))) ports.push(port)
  }
  return ports
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer()
  return new Promise(resolve => {
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}

function hasEnded(child: ChildProcess | undefined): boolean {
  return child !== undefined && (child.exitCode !== null || child.signalCode !== null)
}
