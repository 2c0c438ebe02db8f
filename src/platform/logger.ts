/** Logger output by pino: JSON lines for machines, or one readable line each for people. */
import { destination, pino, type DestinationStream, stdTimeFunctions } from 'pino'
import { DbError } from '../base/errors.ts'
import type { Logger } from '../base/ports.ts'

type LogLevel = 'debug' | 'info' | 'warn' | 'error'
export type LogFormat = 'json' | 'pretty'

export interface LoggerOptions {
  readonly level: LogLevel
  readonly format: LogFormat
  /** Facts that stand in every line, such as the node's id. */
  readonly facts: Readonly<Record<string, unknown>>
  readonly destination: DestinationStream
  /** Escape codes for a terminal; only for the pretty format. */
  readonly hasColors?: boolean
}

/** Names under which nothing is ever printed, whoever hands it in by mistake. */
const SECRET_NAMES = ['secret', 'mac', 'authorization', 'password']

/** Bytes of output that may wait for a slow reader of stderr; what comes then is dropped. */
const WAITING_BYTES_MAX = 8 * 1024 * 1024

/** A Logger that writes to `destination`. */
export function createLogger(options: LoggerOptions): Logger {
  const { level, format, facts, hasColors = false } = options
  const output = options.destination
  const pretty = { write: (line: string) => output.write(formatPretty(line, hasColors)) }
  return pino(
    {
      level,
      base: facts,
      messageKey: 'message',
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
      serializers: { error: describeError },
      redact: { paths: SECRET_NAMES.flatMap(name => [name, `*.${name}`]), censor: '[secret]' },
    },
    format === 'json' ? output : pretty,
  )
}

/**
 * stderr, written in the background so that a slow reader never holds the node up, and written out
 * before the process exits.
 */
export function stderrDestination(): DestinationStream {
  const stderr = destination({ dest: 2, sync: false, maxLength: WAITING_BYTES_MAX })
  // A closed stderr must not end the node: it has nobody to tell, but clients to serve.
  stderr.on('error', () => {})
  return stderr
}

/** The format that suits where stderr goes: readable on a terminal, JSON otherwise. */
export function defaultLogFormat(): LogFormat {
  return process.stderr.isTTY ? 'pretty' : 'json'
}

/** An expected failure says its code and sentence; only a bug shows its stack. */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  const cause = error.cause instanceof Error ? { cause: error.cause.message } : {}
  if (error instanceof DbError) {
    const details = Object.keys(error.details).length > 0 ? { details: error.details } : {}
    return { code: error.code, message: error.message, ...details, ...cause }
  }
  const code = 'code' in error && typeof error.code === 'string' ? { code: error.code } : {}
  return { name: error.name, ...code, message: error.message, stack: error.stack, ...cause }
}

const COLORS: Readonly<Record<string, number>> = { debug: 90, info: 32, warn: 33, error: 31 }

/** `12:34:56.789 INFO  n1 a lane is open peer=n2 lane=data`, from one line of pino's JSON. */
export function formatPretty(line: string, hasColors: boolean): string {
  const { time, level, nodeId, message, ...facts } = JSON.parse(line) as Record<string, unknown>
  const clock = typeof time === 'string' ? time.slice(11, 23) : ''
  const name = typeof level === 'string' ? level : ''
  const paint = (code: number, text: string) => (hasColors ? `\x1b[${code}m${text}\x1b[0m` : text)
  const parts = [
    paint(90, clock),
    paint(COLORS[name] ?? 0, name.toUpperCase().padEnd(5)),
    ...(nodeId === undefined ? [] : [textOf(nodeId)]),
    textOf(message),
    ...Object.entries(facts).map(([key, value]) => `${paint(90, `${key}=`)}${factOf(value)}`),
  ]
  return `${parts.join(' ')}\n`
}

function factOf(value: unknown): string {
  if (typeof value === 'object' && value !== null && 'message' in value) {
    const { code, message, stack } = value as Record<string, unknown>
    if (typeof stack === 'string') return oneLine(stack)
    return code === undefined ? quoted(message) : `${textOf(code)} ${quoted(message)}`
  }
  return typeof value === 'string' && /^[\w.:/@+-]+$/.test(value) ? value : quoted(value)
}

function textOf(value: unknown): string {
  return oneLine(typeof value === 'string' ? value : quoted(value))
}

function quoted(value: unknown): string {
  return oneLine(JSON.stringify(value) ?? 'undefined')
}

/** Control characters could forge a line or steer a terminal. */
function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, ' | ').replace(/\p{Cc}/gu, character => {
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`
  })
}
