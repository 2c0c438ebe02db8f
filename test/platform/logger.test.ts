import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DbError } from '../../src/base/errors.ts'
import type { Logger } from '../../src/base/ports.ts'
import { createLogger, formatPretty, type LogFormat } from '../../src/platform/logger.ts'

function setUp(format: LogFormat): { logger: Logger; lines: string[] } {
  const lines: string[] = []
  const destination = { write: (line: string) => void lines.push(line) }
  const facts = { nodeId: 'n1' }
  return { logger: createLogger({ level: 'info', format, facts, destination }), lines }
}

const parse = (line: string | undefined): Record<string, unknown> =>
  JSON.parse(line ?? '') as Record<string, unknown>

test('a JSON line carries time, level, node, message and facts', () => {
  const { logger, lines } = setUp('json')

  logger.info({ peer: 'n2', retries: 3, index: 5n }, 'a lane is open')

  const { time, ...rest } = parse(lines[0])
  assert.match(String(time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  const message = 'a lane is open'
  assert.deepEqual(rest, { level: 'info', nodeId: 'n1', peer: 'n2', retries: 3, index: 5, message })
})

test('a line below the level is not written', () => {
  const { logger, lines } = setUp('json')

  logger.debug({}, 'details')
  logger.warn({}, 'a warning')

  assert.deepEqual(
    lines.map(line => parse(line)['message']),
    ['a warning'],
  )
})

test('an expected failure says code, sentence and cause; a bug shows its stack', () => {
  const { logger, lines } = setUp('json')
  const cause = new Error('connect ECONNREFUSED')

  logger.warn({ error: new DbError('NOT_READY', 'not yet', { cause }) }, 'expected')
  logger.error({ error: new RangeError('a bug') }, 'unexpected')

  assert.deepEqual(parse(lines[0])['error'], {
    code: 'NOT_READY',
    message: 'not yet',
    cause: 'connect ECONNREFUSED',
  })
  assert.match((parse(lines[1])['error'] as { stack: string }).stack, /RangeError: a bug\n/)
})

test('what is named a secret is never written, at the top or one level down', () => {
  for (const format of ['json', 'pretty'] as const) {
    const { logger, lines } = setUp(format)

    logger.error({ secret: 'hush', facts: { secret: 'hush', mac: 'hush' } }, 'a slip')

    assert(!lines.join('').includes('hush'))
    assert.match(lines.join(''), /\[secret\]/)
  }
})

test('a pretty line is one readable line', () => {
  const { logger, lines } = setUp('pretty')
  const error = new DbError('NOT_READY', 'no answer within 5000 ms')

  logger.info({ peer: 'n2', address: '127.0.0.1:7071', retries: 0, error }, 'a lane is lost')

  assert.equal(lines.length, 1)
  assert.match(
    lines[0] ?? '',
    /^[\d:.]{12} INFO {2}n1 a lane is lost peer=n2 .*=0 error=NOT_READY "no answer .* ms"\n$/,
  )
})

test('a fact can not forge a line or steer the terminal', () => {
  const { logger, lines } = setUp('pretty')

  logger.warn({ said: 'x\n12:00:00.000 ERROR forged \u001b[2J' }, 'a caller\nwas \u009b2J refused')

  const line = lines.join('')
  assert.equal(line.indexOf('\n'), line.length - 1)
  assert(!/\p{Cc}/u.test(line.slice(0, -1)), JSON.stringify(line))
})

test('colours are only there when asked for', () => {
  const line = JSON.stringify({
    time: '2026-01-01T00:00:00.000Z',
    level: 'warn',
    message: 'm',
    a: 1,
  })

  assert.equal(formatPretty(line, false), '00:00:00.000 WARN  m a=1\n')
  assert(formatPretty(line, true).includes('\u001b[33mWARN \u001b[0m m'))
})
