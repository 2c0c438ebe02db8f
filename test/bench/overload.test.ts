import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseAnswers } from '../../bench/overload/answers.ts'
import type { Answered } from '../../bench/overload/answers.ts'
import { check, FateLedger, FATES } from '../../bench/overload/ledger.ts'
import { driftOf } from '../../bench/overload/slope.ts'
import type { OverloadRun, Step } from '../../bench/overload/steps.ts'
import { Tally } from '../../bench/overload/tally.ts'
import { overloadVerdicts } from '../../bench/overload/verdicts.ts'

const GOOD: Answered = { code: undefined, fate: 'applied' }
const REFUSED: Answered = { code: 'OVERLOADED', fate: 'not-applied' }
const REFUSAL = '{"error":{"code":"OVERLOADED","message":"m","fate":"not-applied","retry":"same"}}'

/** What is handed on however the bytes are torn, and what is left at the end. */
function parsed(door: 'http' | 'stream', text: string, pieceLength: number): Answered[] {
  const answers: Answered[] = []
  let rest = ''
  for (let at = 0; at < text.length; at += pieceLength) {
    rest = parseAnswers(door, rest + text.slice(at, at + pieceLength), one => answers.push(one))
  }
  assert.equal(rest, '')
  return answers
}

function http(status: number, body: string): string {
  return `HTTP/1.1 ${status} X\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`
}

test('pipelined answers are read however they are torn', () => {
  const text = http(200, '{"results":[]}') + http(503, REFUSAL) + http(200, '') + http(500, 'oops')
  for (const length of [1, 7, 100, text.length]) {
    assert.deepEqual(parsed('http', text, length), [
      GOOD,
      REFUSED,
      GOOD,
      { code: 'STRANGE_ANSWER', fate: 'unknown' },
    ])
  }
})

test('lines of a stream are read among head and chunk sizes', () => {
  const head = 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n'
  const text = `${head}1f\r\n{"results":[]}\n${REFUSAL}\n\r\n10\r\n{"results":[]}\n\r\n`
  for (const length of [1, 5, text.length]) {
    assert.deepEqual(parsed('stream', text, length), [GOOD, REFUSED, GOOD])
  }
})

test('a ledger finds acknowledged rows that are missing and refused ones that are there', () => {
  const ledger = new FateLedger(100)
  ledger.note(100, FATES.applied)
  ledger.note(70_000 + 100, FATES.applied)
  ledger.note(101, FATES['not-applied'])
  ledger.note(102, FATES['not-applied'])
  ledger.note(103, FATES.unknown)
  assert.equal(ledger.bytes().length, 70_001)
  const found = check(ledger.bytes(), 100, [100, 102, 103])
  assert.deepEqual(found, { acknowledged: 2, unknown: 1, missing: 1, unwanted: 1 })
})

test('a drift is told from noise, and a fall is none', () => {
  const tolerance = { share: 0.1, floor: 1 }
  assert(driftOf([100, 103, 99, 101, 100], tolerance).isFlat)
  const growing = driftOf([100, 104, 108, 112, 116], tolerance)
  assert.equal(Math.round(growing.drift), 16)
  assert(!growing.isFlat)
  assert(driftOf([116, 112, 108, 104, 100], tolerance).isFlat)
  assert(driftOf([7], tolerance).isFlat)
  assert(driftOf([1, 2], { share: 0, floor: 1 }).isFlat)
})

function step(name: string, factor: number | undefined, found: Partial<Found> = {}): Step {
  const { perSecond = 1000, p99Ms = 50, code = 'OVERLOADED', memory = 1e9, term = '2 n1' } = found
  const tally = new Tally(0)
  for (let at = 0; at < perSecond; at += 1) tally.answered(GOOD)
  if (factor !== undefined && factor > 1) tally.answered({ code, fate: 'not-applied' })
  for (let at = 0; at < 100; at += 1) tally.took(GOOD, p99Ms)
  tally.end(1000)
  const measured = { summary: tally.summary(), nextId: 1, losses: 0, cpuMicros: 0 }
  const processes = [
    { name: 'n1 main', isLeader: true, memoryBytes: memory, memoryBytesMax: memory, handles: 9 },
  ]
  const watched = { terms: [term], statusMsMax: 1, statusFailures: 0, processes, cpuMicros: 9e6 }
  const way = { door: 'http', place: 'leader' } as const
  return { way, name, connections: 64, factor, measured, single: undefined, watched }
}

interface Found {
  readonly perSecond: number
  readonly p99Ms: number
  readonly code: string
  readonly memory: number
  readonly term: string
}

function faultsOf(many: Partial<Found>, again: Partial<Found> = {}): string[] {
  const run: OverloadRun = {
    date: '',
    machine: {},
    options: [],
    seconds: 1,
    steps: [
      step('peak', undefined),
      step('1x', 1),
      step('2x', 2),
      step('2x, many', 2, many),
      step('2x, again', 2, again),
    ],
    peaks: [{ way: { door: 'http', place: 'leader' }, perSecond: 1000 }],
    checked: { acknowledged: 5000, unknown: 0, missing: 0, unwanted: 0 },
    digests: ['d', 'd', 'd'],
  }
  const wrong = overloadVerdicts(run, 1000).filter(({ isRight }) => !isRight)
  return wrong.map(({ text }) => text.split(':')[0] ?? '')
}

test('a run that holds its throughput, latency, refusals, terms and memory is right', () => {
  assert.deepEqual(faultsOf({}), [])
})

test('each promise of overload is looked at by itself', () => {
  const where = 'HTTP at the leader, 2x, many'
  assert.deepEqual(faultsOf({ perSecond: 880 }), [where])
  assert.deepEqual(faultsOf({ p99Ms: 1600 }), [where])
  assert.deepEqual(faultsOf({ code: 'INTERNAL' }), [where])
  assert.deepEqual(faultsOf({ term: '3 n2' }), ['terms and leaders seen'])
  assert.deepEqual(faultsOf({}, { memory: 1.2e9 }), ['HTTP at the leader'])
})
