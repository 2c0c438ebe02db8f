/**
 * Loaded before a node's program (--import): moves its wall clock by the milliseconds that stand
 * in the file named by CHAOS_CLOCK, as a time server or an operator moves the clock of a machine.
 */
import { readFileSync } from 'node:fs'

const POLL_MS = 50
const path = process.env['CHAOS_CLOCK'] ?? ''
const realNow = Date.now.bind(Date)
const RealDate = Date
let offsetMs = 0

function look(): void {
  try {
    offsetMs = Number(readFileSync(path, 'utf8')) || 0
  } catch {
    // Not written yet: the clock is right.
  }
}

look()
setInterval(look, POLL_MS).unref()
globalThis.Date = new Proxy(RealDate, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [realNow() + offsetMs] : args, newTarget),
  get: (target, name) => {
    if (name === 'now') return () => realNow() + offsetMs
    return Reflect.get(target, name) as unknown
  },
})
