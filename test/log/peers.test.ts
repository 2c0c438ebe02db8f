import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AssertionError, must } from '../../src/base/assert.ts'
import { DbError } from '../../src/base/errors.ts'
import type { Lane, MemberList, PeerHandler } from '../../src/base/ports.ts'
import { type FrameKind, Peers } from '../../src/log/peers.ts'
import { ManualClock, ManualNetwork } from '../replica/doubles.ts'

const GROUP = 0x01_02_03_04
const KINDS: FrameKind[] = ['raft', 'forward', 'forward-reply', 'report']

/** Peers over a transport that a test speaks for. */
class Bench {
  readonly clock = new ManualClock()
  readonly sent: { to: number; lane: Lane; frame: Uint8Array }[] = []
  readonly heard: string[] = []
  readonly lists: MemberList[] = []
  isTaken = true
  handler: PeerHandler | undefined
  readonly peers = new Peers(
    {
      send: (to, lane, frame) => {
        this.sent.push({ to, lane, frame })
        return this.isTaken
      },
      listen: handler => {
        this.handler = handler
      },
      setMembers: list => this.lists.push(list),
    },
    this.clock,
    GROUP,
  )

  constructor() {
    for (const kind of KINDS) {
      this.peers.on(
        kind,
        body => body,
        (from, body) => this.heard.push(`${kind} ${from}: ${body.join()}`),
      )
    }
    this.peers.listen()
  }

  receive(from: number, ...frame: number[]): void {
    must(this.handler).onFrame(from, 'data', new Uint8Array(frame))
  }
}

test('a frame begins with version, group and kind', () => {
  const { peers, sent } = new Bench()
  for (const kind of KINDS) peers.send(2, 'control', kind, new Uint8Array([9, 8]))
  assert.deepEqual(
    sent.map(({ frame }) => [...frame]),
    KINDS.map((_kind, at) => [1, 1, 2, 3, 4, at, 9, 8]),
  )
  assert(sent.every(({ to, lane }) => to === 2 && lane === 'control'))
})

test('what was sent is heard by the one listener of its kind, and from whom', () => {
  const network = new ManualNetwork()
  const clock = new ManualClock()
  const heard: unknown[] = []
  const nodes = [1, 2].map(id => new Peers(network.transportOf(id), clock, GROUP))
  const [first, second] = nodes
  for (const kind of KINDS) {
    second?.on(
      kind,
      body => body,
      (from, body) => heard.push([kind, from, [...body]]),
    )
  }
  second?.listen()
  first?.send(2, 'data', 'forward', new Uint8Array([5]))
  first?.send(2, 'control', 'report', new Uint8Array(0))
  network.deliver()
  assert.deepEqual(heard, [
    ['forward', 1, [5]],
    ['report', 1, []],
  ])
})

test('a frame of another version, group or kind, or half a frame, is refused with a sentence', () => {
  const bench = new Bench()
  const refusals: string[] = []
  bench.peers.onRefused((from, error) => refusals.push(`${from} ${error.code} ${error.message}`))
  for (let times = 0; times < 2; times += 1) {
    bench.receive(3, 2, 1, 2, 3, 4, 0, 7)
    bench.receive(3, 1, 1, 2, 3, 5, 0, 7)
    bench.receive(3, 1, 9, 2, 3, 4, 0, 7)
    bench.receive(3, 1, 1, 2, 3, 4, 200, 7)
    bench.receive(3, 1, 1, 2, 3, 4)
    bench.receive(3)
  }
  assert.deepEqual(bench.heard, [])
  assert.deepEqual(refusals, [
    '3 WRONG_DATA a frame in format 2; this program speaks 1',
    '3 WRONG_DATA a frame for group 16909061',
    '3 WRONG_DATA a frame for group 151126788',
    '3 WRONG_DATA a frame of the unknown kind 200',
    '3 WRONG_DATA a frame of 5 bytes',
    '3 WRONG_DATA a frame of 0 bytes',
  ])

  bench.receive(3, 1, 1, 2, 3, 4, 0, 7)
  assert.deepEqual(bench.heard, ['raft 3: 7'])
})

test('a body that can not be read is dropped and told, and what follows it is heard', () => {
  const network = new ManualNetwork()
  const clock = new ManualClock()
  const [first, second] = [1, 2].map(id => new Peers(network.transportOf(id), clock, GROUP))
  const heard: number[] = []
  const refusals: string[] = []
  const decode = (body: Uint8Array): number => {
    if (body[0] === 0) throw new DbError('CORRUPT', 'it makes no sense')
    if (body[0] === 1) throw new AssertionError('a mistake of this program')
    return body.length
  }
  second?.on('report', decode, (_from, length) => heard.push(length))
  second?.onRefused((from, error) => refusals.push(`${from} ${error.message}`))
  second?.listen()
  for (const body of [[0], [0, 0], [2]]) first?.send(2, 'data', 'report', new Uint8Array(body))
  network.deliver()
  assert.deepEqual([heard, refusals], [[1], ['1 it makes no sense']])
  first?.send(2, 'data', 'report', new Uint8Array([1]))
  assert.throws(() => network.deliver(), AssertionError)
})

test('a frame of a kind that nobody listens for is dropped', () => {
  const network = new ManualNetwork()
  const clock = new ManualClock()
  const [first, second] = [1, 2].map(id => new Peers(network.transportOf(id), clock, GROUP))
  second?.listen()
  first?.send(2, 'data', 'forward', new Uint8Array([5]))
  network.deliver()
  assert.equal(second?.contact(1).lastFrameMs, clock.monotonicMs())
})

test('a frame that the transport does not take surely did not leave', () => {
  const bench = new Bench()
  assert.equal(bench.peers.send(2, 'data', 'raft', new Uint8Array(1)), true)
  bench.isTaken = false
  assert.equal(bench.peers.send(2, 'data', 'raft', new Uint8Array(1)), false)
})

test('a peer is connected while both lanes are', () => {
  const bench = new Bench()
  const handler = must(bench.handler)
  const isConnected = (): boolean => bench.peers.contact(2).isConnected
  assert(!isConnected())
  handler.onConnected(2, 'control', 4)
  assert(!isConnected())
  handler.onConnected(2, 'data', 3)
  assert(isConnected())
  assert.equal(bench.peers.contact(2).retries, 3)
  assert(!bench.peers.contact(3).isConnected, 'another peer is another')

  handler.onDisconnected(2, 'control', 'reset')
  assert(!isConnected())
  handler.onConnected(2, 'control', 0)
  assert(isConnected())
})

test('each link that opens or breaks is told to all who ask', () => {
  const bench = new Bench()
  const heard: string[] = []
  for (const name of ['a', 'b']) {
    bench.peers.onLink((peer, lane, isUp) => heard.push(`${name} ${peer} ${lane} ${isUp}`))
  }
  must(bench.handler).onConnected(2, 'data', 0)
  must(bench.handler).onDisconnected(2, 'data', 'reset')
  assert.deepEqual(heard, ['a 2 data true', 'b 2 data true', 'a 2 data false', 'b 2 data false'])
})

test('the last contact is the time of the last frame, whatever it was', () => {
  const bench = new Bench()
  assert.equal(bench.peers.contact(2).lastFrameMs, undefined)
  bench.clock.pass(10)
  bench.receive(2, 1, 1, 2, 3, 4, 0)
  const firstMs = bench.clock.monotonicMs()
  assert.equal(bench.peers.contact(2).lastFrameMs, firstMs)
  bench.clock.pass(10)
  assert.equal(bench.peers.contact(2).lastFrameMs, firstMs)
  // A peer that speaks another version is alive all the same.
  bench.receive(2, 99)
  assert.equal(bench.peers.contact(2).lastFrameMs, firstMs + 10)
})
