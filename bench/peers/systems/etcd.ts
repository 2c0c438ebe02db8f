/** etcd with three nodes and its defaults. It stores bytes under keys: the floor of a log. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { must } from '../../../src/base/assert.ts'
import { freePorts } from '../../../src/cli/local-cluster.ts'
import { until } from '../children.ts'
import { etcdKey } from '../drivers/etcd.ts'
import { findProgram, needDebian } from '../install.ts'
import type { Deployment, Place, System } from '../system.ts'

const NODES = 3

export const ETCD: System = {
  name: 'etcd',
  title: 'etcd',
  nodes: NODES,
  acknowledged: 'raft log flushed on 2 of 3 nodes; bare keys and values, no SQL',
  settings: ['defaults', 'gRPC, up to 32 calls share a connection to the leader'],
  abilities: { workloads: ['put-200', 'put-512'], levels: [] },
  find: async mayInstall => needDebian(mayInstall, ['etcd-server'], { programs: ['etcd'] }),
  start,
}

interface Range {
  readonly kvs?: readonly { readonly key: string }[]
  readonly count?: string
}

async function start({ directory, children }: Place): Promise<Deployment> {
  const program = must(findProgram('etcd'))
  const ports = await freePorts(2 * NODES)
  const nodes = Array.from({ length: NODES }, (_, at) => ({
    name: `n${at + 1}`,
    client: `127.0.0.1:${ports[2 * at]}`,
    peer: `http://127.0.0.1:${ports[2 * at + 1]}`,
  }))
  const log = join(directory, 'etcd.log')
  const pids = nodes.map(({ name, client, peer }) => {
    const args = {
      name,
      'data-dir': join(directory, name),
      'listen-client-urls': `http://${client}`,
      'advertise-client-urls': `http://${client}`,
      'listen-peer-urls': peer,
      'initial-advertise-peer-urls': peer,
      'initial-cluster': nodes.map(node => `${node.name}=${node.peer}`).join(),
    }
    const flags = Object.entries(args).map(([flag, value]) => `--${flag}=${value}`)
    return children.start(program, [...flags, '--logger=zap'], log)
  })
  let leader: (typeof nodes)[number] | undefined
  const findLeader = async (): Promise<boolean> => {
    for (const node of nodes) if (await isLeader(node.client)) leader = node
    return leader !== undefined
  }
  await until('etcd elects a leader', findLeader, { log })
  const first = must(leader)
  const ordered = [first, ...nodes.filter(node => node !== first)]
  const range = async (node: number, from: number, to: number, isCount: boolean): Promise<Range> =>
    post<Range>(must(ordered[node]).client, '/v3/kv/range', {
      key: Buffer.from(etcdKey(from)).toString('base64'),
      range_end: Buffer.from(etcdKey(to)).toString('base64'),
      [isCount ? 'count_only' : 'keys_only']: true,
      serializable: node > 0,
    })
  return {
    version: /etcd Version: (\S+)/.exec(output(program))?.[1] ?? 'unknown',
    target: level => ({ driver: 'etcd', address: first.client, level, user: '', password: '' }),
    pids: () => pids,
    settle: () => Promise.resolve(),
    nodes: NODES,
    ids: async (node, from, to) => {
      const { kvs = [] } = await range(node, from, to, false)
      return kvs.map(({ key }) => Number(Buffer.from(key, 'base64').toString().slice(2)))
    },
    totals: async node => {
      const { count = '0' } = await range(node, 0, 1e11, true)
      return { rows: Number(count), idSum: 0, loadedSum: 0 }
    },
  }
}

async function isLeader(address: string): Promise<boolean> {
  try {
    const status = await post<{ leader?: string; header: { member_id: string } }>(
      address,
      '/v3/maintenance/status',
      {},
    )
    return status.leader === status.header.member_id
  } catch {
    // It doesn't listen yet.
    return false
  }
}

async function post<T>(address: string, path: string, body: object): Promise<T> {
  const answer = await fetch(`http://${address}${path}`, {
    method: 'POST',
    body: JSON.stringify(body),
  })
  if (!answer.ok) throw new Error(`${path}: ${await answer.text()}`)
  return (await answer.json()) as T
}

function output(program: string): string {
  return spawnSync(program, ['--version'], { encoding: 'utf8' }).stdout
}
