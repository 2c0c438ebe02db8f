/**
 * Runs a log through several lives, each but the last ended by a crash at a given operation of the
 * disk, and checks what is found after each against what was acknowledged before.
 */
import assert from 'node:assert/strict'
import { must } from '../../src/base/assert.ts'
import type { DbError } from '../../src/base/errors.ts'
import type { Wal, WalOptions } from '../../src/wal/wal.ts'
import type { Survival } from '../../sim/sim-file.ts'
import { Machine, TINY } from './kit.ts'
import {
  type LogState,
  NEW_LOG,
  applyStep,
  describeState,
  isPromise,
  nextStep,
  readState,
} from './model.ts'

/**
 * How one life ends: the operation, counted from its beginning, and what of it is left. With
 * `flush-fails` that operation, if it is a flush, fails, and the process ends because of that.
 */
export interface Crash {
  readonly operation: number
  readonly end: 'process-crash' | 'flush-fails' | Survival
}

/** What is run. */
export interface LivesSettings {
  readonly seed: number
  readonly crashes: readonly Crash[]
  /** Steps of each life, if it isn't ended before. */
  readonly stepCount: number
  readonly options?: Partial<WalOptions>
}

/** What one life saw, and what of the lives before it may still come back. */
interface Life {
  /** After each step that was asked for, the ones of earlier lives first. */
  readonly states: LogState[]
  /** The last state that was acknowledged. */
  acknowledged: number
  /** The state that must be found at least if the system lives on. */
  kept: number
  /** The state that must be found at least after a power cut. */
  promised: number
  hasCrashed: boolean
}

/** Runs all lives. Returns how many operations of the disk the last one took. */
export function runLives(settings: LivesSettings): number {
  const { seed, crashes, stepCount } = settings
  const machine = new Machine(seed)
  const options = { ...TINY, ...settings.options }
  let life: Life = { states: [NEW_LOG], acknowledged: 0, kept: 0, promised: 0, hasCrashed: false }
  for (const crash of crashes) {
    live(machine, options, life, stepCount, crash)
    if (isPowerCut(crash.end)) machine.disk.powerCut(crash.end)
    else machine.disk.processCrash()
    life = nextLife(machine.open({ options }), life, crash)
  }
  const before = machine.disk.operationCount
  live(machine, options, life, stepCount, undefined)
  const operationCount = machine.disk.operationCount - before
  machine.disk.powerCut('nothing')
  nextLife(machine.open({ options }), life, { operation: operationCount, end: 'nothing' })
  return operationCount
}

function isPowerCut(end: Crash['end']): end is Survival {
  return end !== 'process-crash' && end !== 'flush-fails'
}

/** Opens the log and asks for random steps until the crash, or to the end and closes it. */
function live(
  machine: Machine,
  options: WalOptions,
  life: Life,
  stepCount: number,
  crash: Crash | undefined,
): void {
  const { disk, random } = machine
  const start = disk.operationCount
  disk.onOperation = ({ number, type }) => {
    if (crash === undefined || number !== start + crash.operation) return undefined
    const fails = crash.end === 'flush-fails' && type === 'sync'
    return fails ? { type: 'error', code: 'EIO' } : { type: 'crash' }
  }
  disk.onCrash = () => {
    life.hasCrashed = true
  }
  const onFatal = (error: DbError): void => {
    assert.equal(error.code, 'DISK_FAILED')
    assert.equal(crash?.end, 'flush-fails')
    life.hasCrashed = true
  }
  const wal = machine.open({ options, onFatal })
  checkReads(wal, must(life.states.at(-1)), random.below(1000))
  for (let step = 1; step <= stepCount && !life.hasCrashed; step++) {
    ask(wal, life, machine)
    if (random.chance(0.3)) checkReads(wal, must(life.states.at(-1)), random.below(1000))
    // Now and then nothing happens on the disk between two steps, so that batches gather.
    for (let events = random.below(8); events > 0; events--) machine.scheduler.runNext()
    if (random.chance(0.5) && !life.hasCrashed) wal.tidy()
    if (random.chance(0.3)) machine.scheduler.runNext()
  }
  if (!life.hasCrashed) wal.close(() => undefined)
  while (!life.hasCrashed && machine.scheduler.runNext()) {
    // Runs until the crash or until all is done.
  }
  if (life.hasCrashed) return
  assert.equal(life.acknowledged, life.states.length - 1, 'a step was not acknowledged')
}

function ask(wal: Wal, life: Life, machine: Machine): void {
  const number = life.states.length
  const state = must(life.states.at(-1))
  const step = nextStep(state, machine.random)
  life.states.push(applyStep(state, step))
  const done = (): void => {
    assert(!life.hasCrashed, 'an acknowledgement after the crash')
    // Compactions wait for the removal of files, so they may come after later appends.
    if (step.type !== 'compact') assert(number > life.acknowledged, 'acknowledged out of order')
    life.acknowledged = Math.max(life.acknowledged, number)
    if (!isPromise(state, step)) return
    life.promised = Math.max(life.promised, number)
    life.kept = Math.max(life.kept, number)
  }
  if (step.type === 'append') wal.append(step.append, done)
  else if (step.type === 'compact') wal.compact(step.upTo, step.members, done)
  else wal.flush(done)
}

/** A log shows every step at once, whatever of it is on disk. */
function checkReads(wal: Wal, state: LogState, sizeBytes: number): void {
  assert.equal(describeState(readState(wal)), describeState(state))
  const { base, entries } = state
  assert.equal(wal.term(base.index), base.term)
  const middle = entries[Math.floor(entries.length / 2)]
  if (middle === undefined) return
  assert.equal(wal.term(middle.index), middle.term)
  const some = wal.entries(middle.index, wal.lastIndex() + 1, sizeBytes)
  assert(typeof some !== 'string' && some.length > 0)
  assert.deepEqual(some[0], middle)
}

/**
 * What was found is the state after some step: not before the last one that was promised, and none
 * that was never asked for. The next life begins with it, but until that life has flushed it, a
 * power cut may still bring back an older one.
 */
function nextLife(wal: Wal, life: Life, crash: Crash): Life {
  const oldest = isPowerCut(crash.end) ? life.promised : life.kept
  const description = describeState(readState(wal))
  const found = life.states.findLastIndex(state => describeState(state) === description)
  if (found < oldest) {
    const known = found < 0 ? 'no state that ever was' : `the state after step ${found}`
    assert.fail(
      `found ${known}, expected one of steps ${oldest} to ${life.states.length - 1} ` +
        `(crash ${JSON.stringify(crash)}): ${description}`,
    )
  }
  const states = life.states.slice(life.promised, found + 1)
  const last = states.length - 1
  return { states, acknowledged: last, kept: last, promised: 0, hasCrashed: false }
}
