/** The commands that look at a running cluster and run SQL there: status, sql. */
import Table from 'cli-table3'
import { DbError } from '../base/errors.ts'
import {
  createClient,
  type Consistency,
  type MemberStatus,
  type OutputValue,
  type StatusResponse,
} from '../client/index.ts'

interface NodeReport {
  readonly address: string
  /** What the node says of itself, or why it said nothing. */
  readonly status: StatusResponse | DbError
  /** What the leader says of it. */
  readonly member: MemberStatus | undefined
}

const ASK_MS = 3000
/** No line between rows: a row is one line. */
const COMPACT = { style: { head: [], border: [], compact: true } }

/** `lockstep status`: asks every node of the cluster, those that don't answer too. */
export async function status(nodes: string, isJson: boolean): Promise<void> {
  const reports = await collectReports(nodes)
  if (isJson) {
    const json = reports.map(({ address, status, member }) => ({
      address,
      status: status instanceof DbError ? { error: status.message } : status,
      member: member ?? null,
    }))
    process.stdout.write(`${JSON.stringify(json, undefined, 2)}\n`)
    return
  }
  process.stdout.write(`${statusTable(reports)}\n`)
}

async function collectReports(nodes: string): Promise<NodeReport[]> {
  const given = addressList(nodes)
  const client = createClient({ nodes: given, timeoutMs: ASK_MS })
  const { leader, nodes: seen } = await client.nodes()
  // Only the leader knows how far behind the others are.
  const members = leader === null ? seen : await askLeader(leader.address, seen)
  const addresses = [...new Set([...members.map(member => member.address), ...given])]
  const reports = await Promise.all(
    addresses.map(async (address): Promise<NodeReport> => {
      const member = members.find(member => member.address === address)
      try {
        return { address, member, status: await client.status(address, { timeoutMs: ASK_MS }) }
      } catch (error) {
        if (error instanceof DbError) return { address, member, status: error }
        throw error
      }
    }),
  )
  return reports.filter(({ member, address }) => member !== undefined || !isKnown(reports, address))
}

/** A node may be given by another name than the one it is known by; it is shown once. */
function isKnown(reports: readonly NodeReport[], address: string): boolean {
  const own = reports.find(report => report.address === address)?.status
  if (own === undefined || own instanceof DbError) return false
  return reports.some(report => report.member?.nodeId === own.node)
}

async function askLeader(
  address: string,
  otherwise: readonly MemberStatus[],
): Promise<readonly MemberStatus[]> {
  try {
    return (await createClient({ nodes: [address], timeoutMs: ASK_MS }).nodes(address)).nodes
  } catch (error) {
    // The leader went away a moment ago: what another node knows must do.
    if (error instanceof DbError) return otherwise
    throw error
  }
}

/** The table of `lockstep status`. */
function statusTable(reports: readonly NodeReport[]): string {
  const head = ['node', 'address', 'role', 'state', 'term', 'last', 'commit', 'applied', 'durable']
  const table = new Table({ ...COMPACT, head: [...head, 'lag', 'last error'] })
  for (const { address, status, member } of reports) {
    if (status instanceof DbError) {
      const name = member?.nodeId ?? '?'
      const unknown = ['', '', '', '', '']
      table.push([name, address, '?', 'away', ...unknown, lagText(member), status.message])
      continue
    }
    table.push([
      status.node,
      address,
      // A learner follows as others do, and is no more than that.
      member?.isVoter === false && status.state !== 'removed' ? 'learner' : status.role,
      status.state,
      status.term,
      status.lastIndex,
      status.commitIndex,
      status.appliedIndex,
      status.durableIndex,
      lagText(member),
      errorText(status, member),
    ])
  }
  return table.toString()
}

function lagText(member: MemberStatus | undefined): string {
  return member?.lagEntries === null || member === undefined ? '' : `${member.lagEntries} entries`
}

function errorText(status: StatusResponse, member: MemberStatus | undefined): string {
  if (status.divergence !== null) {
    const { index, sql, database, actual } = status.divergence
    return `diverged at entry ${index}: ${sql || `${actual}${database && ` in ${database}`}`}`
  }
  if (status.dispute?.isTie === true) {
    return `nodes disagree about entry ${status.dispute.index}: see lockstep trust`
  }
  const { snapshot } = status
  if (snapshot !== null && snapshot.step !== 'none') {
    const { step, from, receivedBytes, totalBytes } = snapshot
    const progress = totalBytes === 0 ? '' : `, ${receivedBytes} of ${totalBytes} bytes`
    return `takes the data of ${from ?? 'another node'}: ${step}${progress}`
  }
  if (status.isShortOfRoom) return `short of room: ${status.freeBytes} bytes are free`
  return status.lastError || (member?.lastError ?? '')
}

/** `lockstep sql`: runs one statement and prints rows or what changed. */
export async function runSql(
  statement: string,
  values: readonly string[],
  options: {
    readonly nodes: string
    readonly database: string
    readonly consistency: string
    readonly json: boolean
  },
): Promise<void> {
  const { database, consistency } = options
  if (consistency !== 'linearizable' && consistency !== 'local') {
    throw new DbError('INVALID_REQUEST', '--consistency must be linearizable or local')
  }
  const client = createClient({ nodes: addressList(options.nodes), database })
  const params = values.map(parseWord)
  const result = isRead(statement)
    ? await client.query(statement, params, { consistency: consistency satisfies Consistency })
    : await client.execute(statement, params)
  if (options.json) {
    const text = JSON.stringify(result, (_key, value: unknown) =>
      typeof value === 'bigint' || value instanceof Uint8Array ? shown(value) : value,
    )
    process.stdout.write(`${text}\n`)
    return
  }
  if (result.columns.length > 0) {
    const table = new Table({ ...COMPACT, head: [...result.columns] })
    for (const row of result.rows) {
      table.push(result.columns.map(column => shown(row[column] ?? null)))
    }
    process.stdout.write(`${table.toString()}\n`)
  }
  const changed = result.columns.length > 0 ? result.rows.length : result.rowsAffected
  const what = `${changed} ${changed === 1 ? 'row' : 'rows'}`
  process.stdout.write(`${what}, by ${result.node} at index ${result.index}\n`)
}

/** The addresses of `--nodes`. */
export function addressList(nodes: string): string[] {
  const addresses = nodes.split(',').map(address => address.trim())
  return addresses.filter(address => address !== '')
}

function isRead(statement: string): boolean {
  return /^\s*(?:select|values|explain)\b/i.test(statement)
}

/** A word of the command line as a value: whole numbers and numbers as such, null, else text. */
function parseWord(word: string): bigint | number | string | null {
  if (/^-?\d{1,18}$/.test(word)) return BigInt(word)
  if (/^-?\d+\.\d+$/.test(word)) return Number(word)
  return word === 'null' ? null : word
}

function shown(value: OutputValue): string {
  if (value instanceof Uint8Array) return `x'${Buffer.from(value).toString('hex')}'`
  return String(value)
}
