/** The simulated network keeps what the transport promises, and breaks what it doesn't promise. */
import assert from 'node:assert/strict'
import { test } from 'node:test'

import type { Lane, PeerTransport } from '../../src/base/ports.ts'
import { must } from '../../src/base/assert.ts'
import { CALM, SimNetwork, type NetworkOptions } from '../../sim/sim-network.ts'
import { SimProcess } from '../../sim/sim-process.ts'
import { World } from '../../sim/world.ts'

interface Station {
  readonly process: SimProcess
  readonly transport: PeerTransport
  /** `from/lane:first byte`, in the order of arrival. */
  readonly frames: string[]
  /** `+peer/lane` and `-peer/lane`. */
  readonly connections: string[]
  readonly absent: number[]
}

function plugIn(world: World, network: SimNetwork, id: number): Station {
  const process = new SimProcess(world)
  const transport = network.attach(id, process)
  const station: Station = { process, transport, frames: [], connections: [], absent: [] }
  transport.listen({
    onFrame: (from, lane, frame) => station.frames.push(`${from}/${lane}:${frame[0]}`),
    onConnected: (peer, lane) => station.connections.push(`+${peer}/${lane}`),
    onDisconnected: (peer, lane) => station.connections.push(`-${peer}/${lane}`),
    onAbsent: peer => station.absent.push(peer),
  })
  return station
}

function setUp(options: Partial<NetworkOptions> = {}): {
  world: World
  network: SimNetwork
  stations: Station[]
  run: (durationMs: number) => void
} {
  const world = new World(11)
  const network = new SimNetwork(
    world,
    { ...CALM, ...options },
    { mayRepeat: frame => frame[0] === 99, describe: String },
  )
  const stations = [1, 2, 3].map(id => plugIn(world, network, id))
  const run = (durationMs: number): void => {
    world.scheduler.runUntil(world.nowMs + durationMs, () => false)
  }
  run(200)
  return { world, network, stations, run }
}

function sendNumbers(station: Station, to: number, lane: Lane, count: number): number {
  let accepted = 0
  for (let number = 0; number < count; number++) {
    if (station.transport.send(to, lane, Uint8Array.of(number))) accepted++
  }
  return accepted
}

test('every node connects both lanes to every other', () => {
  const { stations } = setUp()

  const expected = ['+2/control', '+2/data', '+3/control', '+3/data']
  assert.deepEqual([...must(stations[0]).connections].sort(), expected)
})

test('frames of a lane arrive complete and in order; lanes overtake each other', () => {
  const { stations, run } = setUp({ delayMsMean: 5, bytesPerMs: 1 })
  const [first, second] = [must(stations[0]), must(stations[1])]

  sendNumbers(first, 2, 'data', 40)
  sendNumbers(first, 2, 'control', 40)
  run(500)

  for (const lane of ['data', 'control']) {
    const arrived = second.frames.filter(frame => frame.startsWith(`1/${lane}`))
    assert.deepEqual(
      arrived,
      Array.from({ length: 40 }, (_, number) => `1/${lane}:${number}`),
    )
  }
  const firstOfControl = second.frames.indexOf('1/control:0')
  assert(firstOfControl < second.frames.indexOf('1/data:39'), 'the lanes are independent')
})

test('a frame is what it was when it was sent', () => {
  const { stations, run } = setUp()
  const buffer = Uint8Array.of(5)

  must(stations[0]).transport.send(2, 'data', buffer)
  buffer[0] = 6
  run(100)

  assert.deepEqual(must(stations[1]).frames, ['1/data:5'])
})

test('a connection that breaks loses a suffix, never a middle, and is opened again', () => {
  const { stations, network, world, run } = setUp({ bytesPerMs: 2 })
  const [first, second] = [must(stations[0]), must(stations[1])]
  first.connections.length = 0

  sendNumbers(first, 2, 'data', 60)
  world.after(20, () => network.reset(1, 2))
  run(300)

  const { frames } = second
  assert(frames.length > 0 && frames.length < 60, `${frames.length} of 60 arrived`)
  assert.deepEqual(
    frames,
    frames.map((_, number) => `1/data:${number}`),
  )
  assert.deepEqual(first.connections.slice(0, 2), ['-2/control', '-2/data'])
  assert.deepEqual(first.connections.slice(2).sort(), ['+2/control', '+2/data'])
})

test('a cut that heals soon only delays; the other direction goes on', () => {
  const { stations, network, run } = setUp()
  const [first, second] = [must(stations[0]), must(stations[1])]

  network.cut(1, 2)
  sendNumbers(first, 2, 'control', 3)
  sendNumbers(second, 1, 'control', 3)
  run(100)
  assert.deepEqual(second.frames, [])
  assert.equal(first.frames.length, 3)

  network.heal(1, 2)
  run(100)
  assert.deepEqual(second.frames, ['1/control:0', '1/control:1', '1/control:2'])
})

test('a cut that lasts breaks both directions, and nothing connects until it heals', () => {
  const { stations, network, run } = setUp()
  const first = must(stations[0])

  network.cut(1, 2)
  run(2000)
  assert.equal(sendNumbers(first, 2, 'data', 1), 0)
  assert.equal(sendNumbers(must(stations[1]), 1, 'data', 1), 0)
  assert.equal(sendNumbers(first, 3, 'data', 1), 1)

  network.heal(1, 2)
  run(1000)
  assert.equal(sendNumbers(first, 2, 'data', 1), 1)
})

test('what was on its way to a crashed process never reaches its next life', () => {
  const { world, stations, network, run } = setUp({ delayMsMin: 20 })
  const [first, second] = [must(stations[0]), must(stations[1])]

  sendNumbers(first, 2, 'data', 5)
  second.process.kill()
  network.detach(2)
  const reborn = plugIn(world, network, 2)
  run(500)

  assert.deepEqual([...second.frames, ...reborn.frames], [])
  assert.deepEqual([...reborn.connections].sort(), [
    '+1/control',
    '+1/data',
    '+3/control',
    '+3/data',
  ])
  assert.equal(sendNumbers(first, 2, 'data', 1), 1)
})

test('single frames are dropped, and only those that may are repeated', () => {
  const { stations, run } = setUp({ dropProbability: 0.2, repeatProbability: 0.3 })
  const [first, second] = [must(stations[0]), must(stations[1])]

  for (let round = 0; round < 200; round++) {
    first.transport.send(2, 'data', Uint8Array.of(round % 2 === 0 ? 99 : 1))
  }
  run(500)

  const repeatable = second.frames.filter(frame => frame.endsWith(':99')).length
  const others = second.frames.filter(frame => frame.endsWith(':1')).length
  assert(others < 95, `${others} of 100 arrived; some should be dropped`)
  assert(repeatable > others + 5, `${repeatable} against ${others}: some should be repeated`)
})

test('a full lane refuses, a paused process gets its frames later', () => {
  const { stations, run } = setUp({ queueBytesMax: 10 })
  const [first, second] = [must(stations[0]), must(stations[1])]
  second.process.pause(100)

  assert.equal(sendNumbers(first, 2, 'data', 20), 10)
  run(50)
  assert.deepEqual(second.frames, [])
  run(100)
  assert.equal(second.frames.length, 10)
})

test('a process that ended is told of when it is dialled, a machine without power is not', () => {
  const { network, stations, run } = setUp()
  const [first] = stations
  network.detach(2)
  network.detach(3, true)
  run(1000)
  assert.deepEqual([...new Set(must(first).absent)], [2])
})

test('the end of a connection is told before the next one begins, however fast the peer is back', () => {
  const { world, network, stations, run } = setUp({ connectMsMean: 0.01 })
  for (let time = 0; time < 20; time++) {
    network.detach(2, false)
    plugIn(world, network, 2)
    run(50)
  }
  for (const lane of ['control', 'data']) {
    const told = must(stations[0]).connections.filter(each => each.endsWith(`2/${lane}`))
    assert.equal(told.length, 41)
    for (const [at, each] of told.entries()) assert.equal(each[0], at % 2 === 0 ? '+' : '-')
  }
})
