/** From the options of the command line to the settings of each part of a node. */
import { readFileSync } from 'node:fs'
import { DbError } from '../base/errors.ts'
import { parseServerAddress, type ServerAddress } from '../engine/mysql/server-address.ts'
import type { LoggerOptions } from '../platform/logger.ts'
import { defaultLogFormat } from '../platform/logger.ts'
import { parseAddress } from '../platform/address.ts'
import type { NodeSettings } from './node-settings.ts'
import { OPTIONS, type OptionRow, type Options } from './options.ts'

/** The version in package.json. */
export function packageVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

/** Throws INVALID_REQUEST if an option that is needed is absent. */
export function nodeSettings(options: Options): NodeSettings {
  const { data: directory, nodeId, listen, tickMs } = options
  requireOption('--data', directory)
  requireOption('--node-id', nodeId)
  const { host, port } = parseAddress(listen)
  const address = options.advertise === '' ? listen : options.advertise
  const advertised = parseAddress(address)
  if (['0.0.0.0', '::'].includes(advertised.host) || advertised.port === 0) {
    const problem = `${address} is no address at which others reach this node`
    throw new DbError('INVALID_REQUEST', `${problem}; give one with --advertise`)
  }
  return {
    directory,
    nodeId,
    address,
    join: options.join,
    secret: options.secret === '' ? undefined : options.secret,
    clusterOptions: clusterOptions(options),
    version: packageVersion(),
    http: { ...options, host, port },
    log: {
      tickMs,
      electionTicks: options.electionTimeoutMs / tickMs,
      heartbeatTicks: options.heartbeatMs / tickMs,
      maxSizePerMessageBytes: options.maxMessageBytes,
      maxInflightMessages: options.maxInflightMessages,
      maxInflightBytes: options.maxInflightBytes,
    },
    wal: {
      segmentSizeBytes: options.segmentSizeBytes,
      cacheSizeBytes: options.logCacheBytes,
      batchSizeBytesMax: options.logBatchBytes,
      fillSizeBytes: options.logFillBytes,
    },
    replica: options,
    maxReaders: options.maxReaders,
    mysql: engineOf(options.engine),
  }
}

/** The server of `--engine`, or of LOCKSTEP_ENGINE without it; undefined for SQLite. */
export function engineOf(flag: string | undefined): ServerAddress | undefined {
  const text = flag ?? process.env['LOCKSTEP_ENGINE'] ?? ''
  return text === '' || text === 'sqlite' ? undefined : parseServerAddress(text)
}

/** The values that nodes compare when they meet; the secret is proved in another way. */
function clusterOptions(options: Options): Record<string, number | string> {
  const rows = Object.entries<OptionRow>(OPTIONS).filter(([, row]) => {
    return row.scope === 'cluster' && !(row.type === 'text' && row.isSecret === true)
  })
  const values: Readonly<Record<string, unknown>> = options
  return Object.fromEntries(rows.map(([name]) => [name, toPlain(values[name])]))
}

function toPlain(value: unknown): number | string {
  return typeof value === 'number' ? value : String(value)
}

/** How the node's logger prints. */
export function loggerSettings(options: Options): Pick<LoggerOptions, 'level' | 'format'> {
  const format = options.logFormat === 'auto' ? defaultLogFormat() : options.logFormat
  return { level: options.logLevel, format }
}

function requireOption(flag: string, value: string): void {
  if (value !== '') return
  throw new DbError('INVALID_REQUEST', `${flag} is needed; see lockstep start --help`)
}
