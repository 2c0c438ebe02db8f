/** One lane: its limits, its patience, and how it learns that the other side is gone. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'
import type { Clock, Lane, Timer } from '../../src/base/ports.ts'
import { SystemClock } from '../../src/platform/clock.ts'
import { FRAME_BODY_BYTES_MAX } from '../../src/platform/frame.ts'
import { OutgoingLane } from '../../src/platform/outgoing-lane.ts'
import { PEER_LIMITS, type PeerLimits } from '../../src/platform/peer-limits.ts'
import { SystemRandom } from '../../src/platform/random.ts'
import {
  factsOf,
  FAST_LIMITS,
  membersAt,
  memoryLogger,
  PeerNode,
  Port,
  waitFor,
} from './peer-kit.ts'
import { Proxy } from './proxy.ts'

const QUICK_TO_NOTICE: PeerLimits = {
  ...FAST_LIMITS,
  pingMs: 20,
  confirmMs: 10,
  stallMs: 150,
  idleMs: 150,
}

interface Tested {
  readonly lane: OutgoingLane
  readonly peer: PeerNode
  readonly proxy: Proxy
  readonly events: string[]
  readonly lines: readonly { readonly level: string; readonly message: string }[]
}

/** A lane of node 1 to node 2, through a proxy, not started yet. */
async function setUp(t: TestContext, limits: PeerLimits, name: Lane = 'data'): Promise<Tested> {
  const ports = [await Port.open(), await Port.open()] as const
  const proxy = await Proxy.open(ports[1].number)
  const members = membersAt(ports)
  const peer = new PeerNode(ports[1], factsOf(members, 2), limits)
  const events: string[] = []
  const { logger, lines } = memoryLogger()
  const lane = new OutgoingLane({
    facts: { ...factsOf(members, 1), bootId: '0'.repeat(32) },
    peer: { raftId: 2, nodeId: 'n2', address: proxy.address, incarnation: 'disk-2' },
    lane: name,
    limits,
    clock: new SystemClock(),
    random: new SystemRandom(),
    logger,
    onOpen: retries => events.push(`open after ${retries}`),
    onClosed: reason => events.push(`closed: ${reason}`),
    onContact: () => {},
    onAbsent: () => {},
    onRefused: () => {},
  })
  t.after(async () => {
    lane.stop()
    proxy.close()
    for (const port of ports) await port.close()
  })
  return { lane, peer, proxy, events, lines }
}

test('a peer whose machine vanished is noticed, and found when it is back', async t => {
  const { lane, peer, proxy, events } = await setUp(t, QUICK_TO_NOTICE)
  lane.start()
  await waitFor(() => lane.isOpen, 'the lane is open')

  proxy.isBlackHole = true
  await waitFor(() => !lane.isOpen, 'the sender notices')
  assert.equal(events[1], 'closed: nothing was confirmed for 150 ms')
  await waitFor(
    () => peer.lines.some(line => line.text.includes('nothing came for 150 ms')),
    'the receiver notices too',
  )
  proxy.isBlackHole = false
  await waitFor(() => lane.isOpen, 'the lane is open again')

  lane.send(Buffer.from('back'))
  await waitFor(() => peer.recorder.texts('data').includes('back'), 'a frame passes')
})

test('an idle lane stays open for many times the limits, by pings', async t => {
  const { lane, peer, events } = await setUp(t, QUICK_TO_NOTICE)
  lane.start()
  await waitFor(() => lane.isOpen, 'the lane is open')
  const startMs = performance.now()

  await waitFor(() => performance.now() - startMs > 600, 'four times the limit has passed')

  assert.deepEqual(events, ['open after 0'])
  assert.deepEqual(peer.recorder.frames, [])
})

test('a slow lane that makes progress is not taken for a dead one', async t => {
  const { lane, peer, proxy, events } = await setUp(t, {
    ...QUICK_TO_NOTICE,
    stallMs: 3000,
    idleMs: 9000,
  })
  lane.start()
  await waitFor(() => lane.isOpen, 'the lane is open')
  const body = new Uint8Array(2 * 1024 * 1024).fill(1)
  for (let count = 0; count < 20; count++) assert(lane.send(body))

  // Let a little pass every 600 ms, so that all of it takes longer than the limit.
  for (let round = 0; round < 6; round++) {
    const resume = proxy.pause('data')
    const pausedMs = performance.now()
    await waitFor(() => performance.now() - pausedMs > 600, 'a pause has passed')
    resume()
    const before = peer.recorder.frames.length
    await waitFor(() => peer.recorder.frames.length > before || before === 20, 'some came')
  }
  await waitFor(() => peer.recorder.frames.length === 20, 'all came')

  assert.deepEqual(events, ['open after 0'])
})

test('a lane takes frames up to its limit and counts what waits', async t => {
  const limits = { ...FAST_LIMITS, laneBytesMax: { control: 1000, data: 1000 } }
  const { lane, peer } = await setUp(t, limits, 'control')
  assert.equal(lane.send(Buffer.from('too early')), false)
  lane.start()
  await waitFor(() => lane.isOpen, 'the lane is open')

  const taken = [492, 492, 1].map(size => lane.send(new Uint8Array(size)))
  const queuedBytes = lane.queuedBytes
  await waitFor(() => peer.recorder.frames.length === 2, 'what was taken came')

  assert.deepEqual(taken, [true, true, false])
  assert.equal(queuedBytes, 1000)
  await waitFor(() => lane.queuedBytes === 0, 'nothing waits any more')
  assert(lane.send(new Uint8Array(992)))
})

test('a frame over the limit is dropped with a line in the logger output', async t => {
  const { lane, lines } = await setUp(t, FAST_LIMITS)
  lane.start()
  await waitFor(() => lane.isOpen, 'the lane is open')

  assert.equal(lane.send(new Uint8Array(FRAME_BODY_BYTES_MAX + 1)), false)

  assert.deepEqual(
    lines.filter(line => line.level === 'error').map(line => line.message),
    ['a frame is larger than any may be and was dropped'],
  )
})

/** Remembers the pauses that are asked for, and lets those of a redial pass at once. */
class ImpatientClock implements Clock {
  readonly pausesMs: number[] = []
  readonly #real = new SystemClock()

  wallMs(): number {
    return this.#real.wallMs()
  }

  monotonicMs(): number {
    return this.#real.monotonicMs()
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const isDeadline = delayMs > 4000 && delayMs <= PEER_LIMITS.handshakeTimeoutMs
    if (isDeadline) return this.#real.setTimer(delayMs, callback)
    this.pausesMs.push(delayMs)
    return this.#real.setTimer(0, callback)
  }
}

/** The pauses between attempts to reach an address, as far as the first `count`. */
async function pausesTo(t: TestContext, address: string, count: number): Promise<number[]> {
  const clock = new ImpatientClock()
  const members = [1, 2].map(id => {
    return { raftId: id, nodeId: `n${id}`, address, incarnation: `disk-${id}` }
  })
  const [, peer] = members
  assert(peer !== undefined)
  const lane = new OutgoingLane({
    facts: { ...factsOf(members, 1), bootId: '0'.repeat(32) },
    peer,
    lane: 'data',
    limits: PEER_LIMITS,
    clock,
    random: new SystemRandom(),
    logger: memoryLogger().logger,
    onOpen: () => {},
    onClosed: () => {},
    onContact: () => {},
    onAbsent: () => {},
    onRefused: () => {},
  })
  t.after(() => lane.stop())
  lane.start()
  await waitFor(() => clock.pausesMs.length >= count, `${count} attempts`)
  lane.stop()
  return clock.pausesMs.slice(0, count)
}

test('pauses between attempts double from 50 ms to 2 s, less up to a half by chance', async t => {
  const closed = await Port.open()
  await closed.close()

  const pausesMs = await pausesTo(t, closed.address, 10)

  const full = [50, 100, 200, 400, 800, 1600, 2000, 2000, 2000, 2000]
  for (const [index, pauseMs] of pausesMs.entries()) {
    const most = full[index] ?? 0
    assert(pauseMs >= most / 2 && pauseMs <= most, `pause ${index} took ${pauseMs} ms`)
  }
  assert(new Set(pausesMs.slice(6)).size > 1, 'chance has a say')
})

test('a refusal that does not pass by itself is retried slowly', async t => {
  const [port, ...rest] = [await Port.open(), await Port.open()]
  assert(port !== undefined)
  t.after(() => Promise.all([port, ...rest].map(port => port.close())))
  const members = membersAt([port, ...rest])
  const facts = { ...factsOf(members, 1), clusterId: 'another' }
  port.transport = new PeerNode(port, facts).transport

  const pausesMs = await pausesTo(t, port.address, 3)

  assert(pausesMs.every(pauseMs => pauseMs >= 5000 && pauseMs <= 10_000))
})

test('an address where something else answers is named as such', async t => {
  const { lane, events } = await setUp(t, FAST_LIMITS)
  const server = createServer((_request, response) => response.writeHead(404).end())
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  const { port } = server.address() as AddressInfo
  const members = membersAt([])
  const other = new OutgoingLane({
    facts: { ...factsOf([...members, ownMember], 1), bootId: '0'.repeat(32) },
    peer: { raftId: 2, nodeId: 'n2', address: `127.0.0.1:${port}`, incarnation: 'disk-2' },
    lane: 'data',
    limits: FAST_LIMITS,
    clock: new SystemClock(),
    random: new SystemRandom(),
    logger: memoryLogger().logger,
    onOpen: () => events.push('open'),
    onClosed: () => {},
    onContact: () => {},
    onAbsent: () => {},
    onRefused: () => {},
  })
  t.after(() => other.stop())
  other.start()

  await waitFor(() => other.lastError !== undefined, 'the attempt failed')

  assert.match(other.lastError?.message ?? '', /answers with HTTP status 404/)
  assert.deepEqual(events, [])
  assert.equal(lane.isOpen, false)
})

const ownMember = { raftId: 1, nodeId: 'n1', address: '127.0.0.1:1', incarnation: 'disk-1' }
