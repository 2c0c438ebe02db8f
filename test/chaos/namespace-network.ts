/**
 * A network of real network stacks: each node lives in a namespace of its own, joined to the others
 * by a bridge. A way is cut by giving its sender a dead hardware address for its receiver, so that
 * packets vanish without a word, the acknowledgements of the other direction with them. It needs
 * root, on Linux; delay and loss need a kernel with netem besides.
 */
import { spawnSync } from 'node:child_process'
import { CLIENTS } from './network.ts'
import type { ChaosNetwork, Place, Weather } from './network.ts'

const PORT = 7070
const NODES_MAX = 50
const BRIDGE_MAC = '02:4c:53:00:00:ff'
const DEAD_MAC = '02:4c:53:00:00:fe'

interface Host {
  readonly namespace: string
  readonly device: string
  readonly ip: string
  readonly mac: string
}

export class NamespaceNetwork implements ChaosNetwork {
  readonly name = 'namespaces'
  readonly whyNoWeather: string | undefined
  readonly #bridge: string
  readonly #subnet: string
  readonly #hosts = new Map<string, Host>()
  readonly #prefix: string
  /** All clients are processes beside the bridge. */
  readonly #clients: Host

  /** Why this machine can't have one, or undefined if it can. */
  static whyNot(): string | undefined {
    if (process.platform !== 'linux') return 'network namespaces are a thing of Linux'
    if (process.getuid?.() !== 0) return 'network namespaces need root'
    const name = `ls-probe-${process.pid}`
    if (!isDone('ip', 'netns', 'add', name)) return '`ip netns add` fails'
    const isUsable = isDone('ip', '-n', name, 'link', 'add', 'v0', 'type', 'veth')
    run('ip', 'netns', 'del', name)
    return isUsable ? undefined : 'the kernel has no veth devices'
  }

  constructor() {
    // Interfaces have short names, and other runs may be under way.
    this.#prefix = `ls${process.pid}`.slice(0, 10)
    this.#bridge = `${this.#prefix}b`
    this.#subnet = `10.${213 + (process.pid % 40)}.${(process.pid >> 6) % 250}`
    run('ip', 'link', 'add', this.#bridge, 'type', 'bridge')
    run('ip', 'addr', 'add', `${this.#subnet}.254/24`, 'dev', this.#bridge)
    run('ip', 'link', 'set', this.#bridge, 'address', BRIDGE_MAC, 'up')
    this.#clients = { namespace: '', device: '', ip: `${this.#subnet}.254`, mac: BRIDGE_MAC }
    const queue = ['dev', this.#bridge, 'root']
    const hasNetem = isDone('tc', 'qdisc', 'add', ...queue, 'netem', 'delay', '1ms')
    if (hasNetem) run('tc', 'qdisc', 'del', ...queue)
    this.whyNoWeather = hasNetem
      ? undefined
      : 'the kernel has no netem; the proxies (--network proxies) delay and lose without it'
  }

  async place(nodeId: string): Promise<Place> {
    const number = this.#hosts.size + 1
    if (number > NODES_MAX) throw new Error('there are too many nodes')
    const hex = number.toString(16).padStart(2, '0')
    const host: Host = {
      namespace: `${this.#prefix}n${number}`,
      device: `${this.#prefix}v${number}`,
      ip: `${this.#subnet}.${number}`,
      mac: `02:4c:53:00:00:${hex}`,
    }
    const { namespace, device, ip, mac } = host
    run('ip', 'netns', 'add', namespace)
    this.#hosts.set(nodeId, host)
    run('ip', 'link', 'add', device, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace)
    run('ip', 'link', 'set', device, 'master', this.#bridge, 'up')
    run('ip', '-n', namespace, 'link', 'set', 'lo', 'up')
    run('ip', '-n', namespace, 'link', 'set', 'eth0', 'address', mac, 'up')
    run('ip', '-n', namespace, 'addr', 'add', `${ip}/24`, 'dev', 'eth0')
    for (const other of [...this.#hosts.keys(), CLIENTS]) {
      if (other === nodeId) continue
      await this.open(nodeId, other)
      await this.open(other, nodeId)
    }
    const address = `${ip}:${PORT}`
    return { listen: address, address, wrapper: ['ip', 'netns', 'exec', namespace] }
  }

  async cut(from: string, to: string): Promise<void> {
    this.#pointTo(from, to, DEAD_MAC)
  }

  async open(from: string, to: string): Promise<void> {
    const host = this.#hostOf(to)
    if (host !== undefined) this.#pointTo(from, to, host.mac)
  }

  /** A device has one queue for all its ways, so that `to` is not looked at. */
  async slow(from: string, _to: string, weather: Weather | undefined): Promise<void> {
    const host = this.#hosts.get(from)
    if (host === undefined) return
    const device = ['dev', 'eth0', 'root']
    const tc = ['tc', '-n', host.namespace, 'qdisc']
    if (weather === undefined) isDone(...tc, 'del', ...device)
    else {
      const delay = ['delay', `${weather.delayMs}ms`, `${weather.jitterMs}ms`]
      const loss = ['loss', `${weather.loss * 100}%`]
      run(...tc, 'replace', ...device, 'netem', ...delay, ...loss)
    }
  }

  async heal(): Promise<void> {
    const names = [...this.#hosts.keys(), CLIENTS]
    for (const from of names) {
      if (this.whyNoWeather === undefined) await this.slow(from, '', undefined)
      for (const to of names) if (from !== to) await this.open(from, to)
    }
  }

  reset(): boolean {
    return false
  }

  async close(): Promise<void> {
    for (const { namespace, device } of this.#hosts.values()) {
      isDone('ip', 'link', 'del', device)
      isDone('ip', 'netns', 'del', namespace)
    }
    isDone('ip', 'link', 'del', this.#bridge)
  }

  #hostOf(name: string): Host | undefined {
    return name === CLIENTS ? this.#clients : this.#hosts.get(name)
  }

  #pointTo(from: string, to: string, mac: string): void {
    const source = this.#hosts.get(from)
    const target = this.#hostOf(to)
    if (target === undefined) return
    const at = source === undefined ? [] : ['-n', source.namespace]
    const device = source === undefined ? this.#bridge : 'eth0'
    const neighbour = [target.ip, 'lladdr', mac, 'dev', device, 'nud', 'permanent']
    run('ip', ...at, 'neigh', 'replace', ...neighbour)
  }
}

function isDone(...command: string[]): boolean {
  const [program = '', ...args] = command
  return spawnSync(program, args, { stdio: 'ignore' }).status === 0
}

function run(...command: string[]): void {
  const [program = '', ...args] = command
  const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${command.join(' ')} failed: ${stderr}`)
}
