/** The commands about members of a running cluster: members, remove, promote, demote and others. */
import Table from 'cli-table3'
import { unreachable } from '../base/assert.ts'
import { DbError } from '../base/errors.ts'
import {
  type Client,
  createClient,
  type MembersRequest,
  type MembersResponse,
} from '../client/index.ts'
import { addressList } from './client-commands.ts'

const ASK_MS = 3000
/** How long a change may take that waits for another one, or for a node to catch up. */
const CHANGE_MS = 30_000

/** `lockstep members`: the members, as the leader knows them if there is one. */
export async function members(nodes: string, isJson: boolean): Promise<void> {
  const client = createClient({ nodes: addressList(nodes), timeoutMs: ASK_MS })
  const seen = await client.members()
  const answer = seen.leader === null ? seen : await askLeader(client, seen)
  process.stdout.write(isJson ? `${JSON.stringify(answer, undefined, 2)}\n` : text(answer))
}

/** What a command changes, as its arguments say. */
export type Change = Exclude<MembersRequest, { action: 'set-address' }>

/** Makes one change and shows the members after it. Waits while another change is under way. */
export async function changeMembers(change: Change, nodes: string): Promise<void> {
  const client = createClient({ nodes: addressList(nodes), timeoutMs: CHANGE_MS })
  const answer = await client.changeMembers(change)
  process.stdout.write(`${done(change, answer)}\n${text(answer)}`)
}

/** `lockstep trust`: ends a dispute that no majority can end. */
export async function trust(node: string, nodes: string): Promise<void> {
  const client = createClient({ nodes: addressList(nodes), timeoutMs: ASK_MS })
  const answer = await client.trust(node)
  process.stdout.write(
    `${answer.node} tells all members that ${node} is right; ` +
      'nodes that computed something else take the data of one that agrees with it\n',
  )
}

function done(change: Change, { leader }: MembersResponse): string {
  switch (change.action) {
    case 'remove':
      return `${change.node} is removed; it serves nothing any more, and its id is not used again`
    case 'promote':
      return `${change.node} is a voter`
    case 'demote':
      return `${change.node} is a learner`
    case 'replace':
      return `${change.promote} votes in the place of ${change.remove}, which is removed`
    case 'transfer':
      return `${leader?.nodeId ?? 'nobody'} leads`
    default:
      return unreachable(change)
  }
}

async function askLeader(client: Client, seen: MembersResponse): Promise<MembersResponse> {
  try {
    return await client.members(seen.leader?.address)
  } catch (error) {
    // It went away a moment ago: what another node knows must do.
    if (error instanceof DbError) return seen
    throw error
  }
}

function text({ node, index, members: list, removed }: MembersResponse): string {
  const style = { head: [], border: [], compact: true }
  const table = new Table({ style, head: ['node', 'role', 'address', 'raft id', ''] })
  for (const { nodeId, role, address, raftId, isLeader } of list) {
    table.push([nodeId, role, address, raftId, isLeader ? 'leads' : ''])
  }
  const gone = removed.length === 0 ? '' : `, removed before: ${removed.join(', ')}`
  return `${table.toString()}\nas of entry ${index}, says ${node}${gone}\n`
}
