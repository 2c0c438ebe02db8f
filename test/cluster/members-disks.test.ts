/** Disks that were wiped or copied are kept out, and told what to do. */
import assert from 'node:assert/strict'
import { cpSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { lockstep, makeDirectory, post, rolesOf, startCluster } from './kit.ts'
import { CREATE, TABLE, namesOf, run, untilRoles } from './members-kit.ts'

test('a wiped disk is refused under its old id, and joins under a new one', async t => {
  const cluster = await startCluster(t)
  const { leader, leaderId } = await rolesOf(cluster)
  await post(leader, '/execute', CREATE)
  const [lost] = cluster.nodes.filter(({ nodeId }) => nodeId !== leaderId)
  assert(lost !== undefined)
  await cluster.kill(lost.nodeId)
  rmSync(lost.directory, { recursive: true })
  const own = ['--data', lost.directory, '--node-id', lost.nodeId, '--listen', lost.address]

  const says = /lockstep remove n\d.*under a new id/s
  const survivor = cluster.nodes.find(({ nodeId }) => nodeId === leaderId)
  const secret = readFileSync(join(survivor?.directory ?? '', 'secret'), 'utf8').trim()
  const env = { LOCKSTEP_SECRET: secret }
  for (const words of [
    ['join', leader, ...own],
    ['start', '--join', leader, ...own],
  ]) {
    rmSync(lost.directory, { recursive: true, force: true })
    const { code, output } = await lockstep(words, env)
    assert.deepEqual([code, says.test(output)], [1, true], output)
  }

  await cluster.join('n7')
  await run('remove', lost.nodeId, '--nodes', leader)
  const others = cluster.nodes.filter(({ nodeId }) => nodeId !== lost.nodeId)
  await untilRoles(leader, namesOf(...others.map(({ nodeId }) => nodeId)))
  rmSync(lost.directory, { recursive: true, force: true })
  const again = await lockstep(['join', leader, ...own], env)
  assert.equal(again.code, 1)
  assert.match(again.output, /was a member before and was removed; ids are not used again/)
})

test('a copy of a data directory is kept out while the original runs', async t => {
  const cluster = await startCluster(t)
  const { leader, leaderId } = await rolesOf(cluster)
  const [original] = cluster.nodes.filter(({ nodeId }) => nodeId !== leaderId)
  assert(original !== undefined)
  await cluster.kill(original.nodeId)
  const copy = join(makeDirectory(t), 'copy')
  cpSync(original.directory, copy, { recursive: true })
  cluster.restart(original.nodeId)
  await cluster.ready()
  await post(leader, '/execute', CREATE)
  const own = ['--data', copy, '--node-id', original.nodeId, '--listen', '127.0.0.1:19999']
  const { output } = await lockstep(['start', ...own], {}, 3000)

  assert.match(output, /came with an older copy of its data directory/)
  assert.equal((await post(original.address, '/execute', TABLE)).status, 200)
})
