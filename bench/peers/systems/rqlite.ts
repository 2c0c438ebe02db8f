/** rqlite 10 with three nodes and its defaults: SQLite behind Raft, in Go. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { must } from '../../../src/base/assert.ts'
import { freePorts } from '../../../src/cli/local-cluster.ts'
import { until } from '../children.ts'
import { findProgram, needGo } from '../install.ts'
import { idsBy, schema, totalsBy } from '../sql.ts'
import type { Query } from '../sql.ts'
import type { Deployment, Place, System } from '../system.ts'

const NODES = 3
const SOURCE = 'github.com/rqlite/rqlite/v10/cmd/rqlited@latest'

export const RQLITE: System = {
  name: 'rqlite',
  title: 'rqlite',
  nodes: NODES,
  acknowledged: 'raft log flushed on 2 of 3 nodes, executed on the leader',
  settings: ['defaults', 'HTTP, one request a write, not queued'],
  abilities: {
    // It has no interactive transactions.
    workloads: ['insert', 'update', 'bulk', 'point-read', 'range-read', 'mixed'],
    levels: ['weak', 'linearizable', 'none'],
  },
  find: async mayInstall => needGo(mayInstall, 'rqlited', SOURCE),
  start,
}

interface Node {
  readonly id: string
  readonly http: string
  readonly raft: string
}

interface StatementResult {
  readonly error?: string
  readonly values?: readonly (readonly number[])[]
}

async function start({ directory, children }: Place): Promise<Deployment> {
  const program = must(findProgram('rqlited'))
  const ports = await freePorts(2 * NODES)
  const nodes = Array.from({ length: NODES }, (_, at) => ({
    id: `n${at + 1}`,
    http: `127.0.0.1:${ports[2 * at]}`,
    raft: `127.0.0.1:${ports[2 * at + 1]}`,
  }))
  const log = join(directory, 'rqlite.log')
  const all = nodes.map(({ raft }) => raft).join()
  const pids = nodes.map(({ id, http, raft }) => {
    const cluster = ['-bootstrap-expect', String(NODES), '-join', all]
    const own = ['-node-id', id, '-http-addr', http, '-raft-addr', raft]
    return children.start(program, [...own, ...cluster, join(directory, id)], log)
  })
  let leader: Node | undefined
  const findLeader = async (): Promise<boolean> => {
    leader = await leaderOf(nodes)
    return leader !== undefined
  }
  await until('rqlite elects a leader', findLeader, { log })
  const first = must(leader)
  const ordered = [first, ...nodes.filter(node => node !== first)]
  for (const sql of schema('INTEGER', 'TEXT')) await post(first, '/db/execute', sql)
  const queryOf = (node: number): Query => {
    const level = node === 0 ? 'linearizable' : 'none'
    return async sql => {
      const result = await post(must(ordered[node]), `/db/query?level=${level}`, sql)
      return result.values ?? []
    }
  }
  return {
    version: /^rqlited (\S+)/.exec(output(program))?.[1] ?? 'unknown',
    target: level => ({ driver: 'rqlite', address: first.http, level, user: '', password: '' }),
    pids: () => pids,
    settle: () => Promise.resolve(),
    nodes: NODES,
    ids: (node, from, to) => idsBy(queryOf(node), from, to),
    totals: node => totalsBy(queryOf(node)),
  }
}

/** Undefined until all have joined and one leads. */
async function leaderOf(nodes: readonly Node[]): Promise<Node | undefined> {
  try {
    const answer = await fetch(`http://${nodes[0]?.http}/nodes?ver=2`)
    const { nodes: known } = (await answer.json()) as {
      nodes: { id: string; leader: boolean; reachable: boolean }[]
    }
    if (known.filter(({ reachable }) => reachable).length < nodes.length) return undefined
    return nodes.find(({ id }) => known.some(node => node.leader && node.id === id))
  } catch {
    // It doesn't listen yet.
    return undefined
  }
}

async function post({ http }: Node, path: string, sql: string): Promise<StatementResult> {
  const answer = await fetch(`http://${http}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify([sql]),
  })
  const text = await answer.text()
  if (!answer.ok) throw new Error(`${path}: ${text}`)
  const { results = [] } = JSON.parse(text) as { results?: StatementResult[] }
  const failed = results.find(({ error }) => error !== undefined)
  if (failed !== undefined) throw new Error(`${path}: ${failed.error}`)
  return results[0] ?? {}
}

function output(program: string): string {
  return spawnSync(program, ['-version'], { encoding: 'utf8' }).stdout
}
