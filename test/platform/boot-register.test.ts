import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BootRegister } from '../../src/platform/boot-register.ts'

const PEER = { raftId: 2, nodeId: 'n2', address: '127.0.0.1:1', incarnation: 'disk-2' }
const OTHER = { ...PEER, raftId: 3, nodeId: 'n3' }
const run = (bootId: string, starts: number) => ({ bootId, starts })

test('a run that was followed by another is refused, the present one and a new one are not', () => {
  const register = new BootRegister()
  register.admit(PEER, run('first', 1))
  register.admit(PEER, run('second', 2))

  register.check(PEER, run('second', 2), true)
  register.check(PEER, run('third', 3), false)
  assert.throws(() => register.check(PEER, run('first', 1), false), {
    code: 'FORBIDDEN',
    message: /two processes run as node n2 on copies of one data directory/,
  })
})

test('while a run is connected no other one is let in, and it may ask again', () => {
  const register = new BootRegister()
  register.admit(PEER, run('first', 1))

  assert.throws(() => register.check(PEER, run('second', 2), true), {
    code: 'NOT_READY',
    message: /another process runs as node n2 and is connected/,
  })
  register.check(PEER, run('second', 2), false)
})

test('a directory from before a start that was seen is refused', () => {
  const register = new BootRegister()
  register.admit(PEER, run('fifth', 5))

  for (const starts of [1, 4, 5]) {
    assert.throws(() => register.check(PEER, run('restored', starts), false), {
      code: 'FORBIDDEN',
      message: /n2 came with an older copy of its data directory.*lockstep remove n2/,
    })
  }
  register.check(PEER, run('sixth', 6), false)
})

test('runs of different peers have nothing to do with each other', () => {
  const register = new BootRegister()
  register.admit(PEER, run('first', 1))
  register.admit(OTHER, run('second', 1))

  register.check(PEER, run('first', 1), true)
  register.check(OTHER, run('second', 1), true)
})

test('lanes of the present run are let in again and again', () => {
  const register = new BootRegister()
  for (let lane = 0; lane < 5; lane++) {
    register.check(PEER, run('first', 1), true)
    register.admit(PEER, run('first', 1))
  }
})
