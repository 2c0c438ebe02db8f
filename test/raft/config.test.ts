/** Options that contradict each other are refused when a node is made. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Options, TestNode, storageWith } from './kit.ts'

function make(options: Options, id = 1): TestNode {
  return new TestNode(id, storageWith({ voters: [1] }), options)
}

test('a node needs a number from 1 as its id', () => {
  for (const id of [0, -1, 1.5, Number.NaN]) assert.throws(() => make({}, id), /id must be/)
})

test('an election must take longer than a heartbeat, and a heartbeat some time', () => {
  assert.throws(() => make({ heartbeatTicks: 0 }), /heartbeatTicks/)
  assert.throws(() => make({ electionTicks: 3, heartbeatTicks: 3 }), /electionTicks \(3\)/)
})

test('limits must leave room for something', () => {
  assert.throws(() => make({ maxInflightMessages: 0 }), /maxInflightMessages/)
  assert.throws(() => make({ maxInflightBytes: 9, maxSizePerMessageBytes: 10 }), /maxInflightBytes/)
  assert.throws(() => make({ maxCommittedSizePerReadyBytes: 0 }), /maxCommittedSizePerReadyBytes/)
  assert.throws(() => make({ maxUncommittedBytes: 0 }), /maxUncommittedBytes/)
  assert.equal(make({ maxSizePerMessageBytes: 0 }).role, 'follower', 'one entry per message')
})

test('a stored membership that contradicts itself stops the node', () => {
  const storage = storageWith({ voters: [1, 2], learners: [2] })
  assert.throws(() => new TestNode(1, storage), /2 is in Learners and Voters/)
})
