import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ERRORS } from '../../src/base/errors.ts'
import { COMMON_ERRORS, routeAt, ROUTES } from '../../src/protocol/routes.ts'

test('every path leads to its own route and no other path to any', () => {
  for (const [name, { path, method }] of Object.entries(ROUTES)) {
    assert.equal(routeAt(path, method), name)
  }
  assert.equal(routeAt('/transactions/1.2.3.ab.main/commit', 'POST'), 'commit')
  for (const path of [
    '/transactions/a/b/commit',
    '/transactions//commit',
    '/transactions/a/begin',
  ]) {
    assert.equal(routeAt(path, 'POST'), undefined)
  }
  for (const path of ['/', '', '/executes', '/execute/', '/health', '/__proto__']) {
    assert.equal(routeAt(path, 'GET'), undefined)
  }
})

test('a method that a path does not take leads to a route that says so', () => {
  assert.equal(routeAt('/execute', 'GET'), 'execute')
  assert.equal(routeAt('/members', 'GET'), 'members')
  assert.equal(routeAt('/members', 'POST'), 'changeMembers')
  assert.equal(routeAt('/members', 'HEAD'), 'members')
})

test('every error that a client can meet over HTTP is named by a route', () => {
  const named = new Set<string>([
    ...COMMON_ERRORS,
    ...Object.values(ROUTES).flatMap(route => [...route.errors]),
  ])
  // These end a node before it serves anybody.
  const atStart = ['CORRUPT', 'WRONG_DATA', 'PORT_IN_USE']
  // Of snapshots, whose routes are on their way.
  const later = /^SNAPSHOT_FAILED$/

  assert.deepEqual(
    Object.keys(ERRORS).filter(code => !named.has(code) && !later.test(code)),
    atStart,
  )
})
