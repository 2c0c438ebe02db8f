import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Chance } from '../../src/engine/chance.ts'

function stream(seed: Uint8Array, position: number, statement: number, count = 64): string {
  const chance = new Chance()
  chance.setSeed(seed)
  chance.begin(position, statement)
  return Buffer.from(chance.bytes(count)).toString('hex')
}

test('the stream is ChaCha20 with a key of 128 bits, as its test vector for zeroes says', () => {
  // draft-strombergson-chacha-test-vectors-01, TC1, 20 rounds, both blocks.
  const expected =
    '89670952608364fd00b2f90936f031c8e756e15dba04b8493d00429259b20f46' +
    'cc04f111246b6c2ce066be3bfb32d9aa0fddfbc12123d4b9e44f34dca05a103f' +
    '6cd135c2878c832b5896b134f6142a9d4d8d0d8f1026d20a0a81512cbce6e975' +
    '8a7143d021978022a384141a80cea3062f41f67a752e66ad3411984c787e30ad'

  assert.equal(stream(new Uint8Array(16), 0, 0, 128), expected)
})

test('seed, request and statement each give another stream', () => {
  const seed = new Uint8Array(16).fill(1)
  const other = new Uint8Array(16).fill(1)
  other[15] = 2
  const streams = [stream(seed, 0, 0), stream(other, 0, 0), stream(seed, 1, 0), stream(seed, 0, 1)]

  assert.equal(new Set(streams).size, 4)
})

test('a statement that is run again gets the same chance', () => {
  const chance = new Chance()
  chance.setSeed(new Uint8Array(16).fill(3))
  chance.begin(5, 1)
  const first = [chance.int64(), chance.int64(), chance.bytes(100)]
  chance.begin(9, 0)
  chance.int64()
  chance.begin(5, 1)

  assert.deepEqual([chance.int64(), chance.int64(), chance.bytes(100)], first)
})

test('a seed that is a function is asked only when chance is needed, and once', () => {
  let asked = 0
  const chance = new Chance()
  chance.setSeed(() => {
    asked++
    return new Uint8Array(16)
  })
  chance.begin(0, 0)
  assert.equal(asked, 0)

  chance.bytes(200)

  assert.equal(asked, 1)
})

test('integers cover both signs and all 64 bits', () => {
  const chance = new Chance()
  chance.setSeed(new Uint8Array(16).fill(9))
  chance.begin(0, 0)
  let or = 0n
  let and = -1n
  for (let i = 0; i < 200; i++) {
    const value = chance.int64()
    assert.equal(BigInt.asIntN(64, value), value)
    or |= value
    and &= value
  }
  assert.equal(or, -1n)
  assert.equal(and, 0n)
})
