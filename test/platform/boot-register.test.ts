import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BootRegister } from '../../src/platform/boot-register.ts'

const PEER = { raftId: 2, nodeId: 'n2', address: '127.0.0.1:1', incarnation: 'disk-2' }
const OTHER = { ...PEER, raftId: 3, nodeId: 'n3' }

test('a run that was followed by another is refused, the present one and a new one are not', () => {
  const register = new BootRegister()
  register.admit(PEER, 'first')
  register.admit(PEER, 'second')

  register.check(PEER, 'second')
  register.check(PEER, 'third')
  assert.throws(() => register.check(PEER, 'first'), {
    code: 'FORBIDDEN',
    message: /two processes run as node n2 on copies of one data directory/,
  })
})

test('runs of different peers have nothing to do with each other', () => {
  const register = new BootRegister()
  register.admit(PEER, 'first')
  register.admit(OTHER, 'second')

  register.check(PEER, 'first')
  register.check(OTHER, 'second')
})

test('lanes of the present run are let in again and again', () => {
  const register = new BootRegister()
  for (let lane = 0; lane < 40; lane++) {
    register.check(PEER, 'only')
    register.admit(PEER, 'only')
  }

  register.check(PEER, 'only')
})

test('after many restarts the latest runs are still remembered', () => {
  const register = new BootRegister()
  for (let run = 0; run < 1000; run++) register.admit(PEER, `run ${run}`)

  register.check(PEER, 'run 999')
  assert.throws(() => register.check(PEER, 'run 998'), { code: 'FORBIDDEN' })
  assert.throws(() => register.check(PEER, 'run 990'), { code: 'FORBIDDEN' })
})
