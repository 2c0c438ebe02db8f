/**
 * Where a node's MySQL or MariaDB server is, from the URL of the option `engine`:
 * `mysql://user:password@host:port/?prefix=n1_`, or with `socket=/path` in place of a host.
 */
import { DbError } from '../../base/errors.ts'

export interface ServerAddress {
  readonly host: string
  readonly port: number
  /** Path of a socket, in place of host and port. */
  readonly socketPath: string | undefined
  readonly user: string
  readonly password: string
  /** What the names of this node's databases on the server begin with; may be empty. */
  readonly prefix: string
}

const PORT = 3306
/** With the longest name of a database, no longer than a name on the server may be. */
const PREFIX = /^[a-z][a-z0-9_]{0,22}$/

/** Throws INVALID_REQUEST, with a sentence that holds no password. */
export function parseServerAddress(text: string): ServerAddress {
  const url = URL.parse(text)
  if (url === null || url.protocol !== 'mysql:') {
    throw invalid('must be sqlite, or mysql://USER:PASSWORD@HOST:PORT/?prefix=PREFIX')
  }
  if (url.pathname !== '' && url.pathname !== '/') {
    throw invalid('names no database: each of the cluster has one of its own on the server')
  }
  for (const name of url.searchParams.keys()) {
    if (name !== 'prefix' && name !== 'socket') throw invalid(`has no parameter ${name}`)
  }
  const prefix = url.searchParams.get('prefix') ?? ''
  if (prefix !== '' && !PREFIX.test(prefix)) {
    throw invalid('the prefix has 1 to 23 small letters, digits and _, a letter first')
  }
  const socketPath = url.searchParams.get('socket') ?? undefined
  if (url.hostname === '' && socketPath === undefined) throw invalid('names no host')
  if (url.username === '') throw invalid('names no user')
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? PORT : Number(url.port),
    socketPath,
    user: decode(url.username),
    password: decode(url.password),
    prefix,
  }
}

/** URL.parse lets a % stand that begins no escape. */
function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw invalid('has a % in its user or password that is no escape: write it as %25')
  }
}

/** The address for people: without the password. */
export function describeServer({ host, port, socketPath }: ServerAddress): string {
  return socketPath ?? `${host.includes(':') ? `[${host}]` : host}:${port}`
}

function invalid(problem: string): DbError {
  return new DbError('INVALID_REQUEST', `--engine ${problem}`)
}
