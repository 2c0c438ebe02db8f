/** node.json and the secret: what is read, what is refused, what is written. */
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  checkNodeId,
  checkSecret,
  type Identity,
  makeDataDirectory,
  readIdentity,
  readSecret,
  writeIdentity,
  writeSecret,
} from '../../src/cli/identity.ts'
import { PowerCutFiles } from '../platform/power-cut-files.ts'
import { temporaryDirectory } from './founding-kit.ts'

const CLUSTER = { clusterId: 'c1', historyId: 'h1', groupId: 1 }
const HEAD = { format: 2, nodeId: 'n1', incarnation: 'disk-1' } as const
const MEMBERS = [
  { raftId: 1, nodeId: 'n1', address: '127.0.0.1:1', incarnation: 'disk-1' },
  { raftId: 2, nodeId: 'n2', address: '127.0.0.1:2', incarnation: 'disk-2' },
]
const MEMBER = {
  ...HEAD,
  ...CLUSTER,
  type: 'member',
  raftId: 1,
  founders: MEMBERS,
  known: { index: 0, members: MEMBERS, nextRaftId: 3 },
  hasLog: false,
  isPromotionDue: false,
  starts: 0,
} satisfies Identity

const IDENTITIES: readonly Identity[] = [
  { ...HEAD, type: 'joining', as: 'learner', addresses: ['127.0.0.1:1'] },
  { ...HEAD, ...CLUSTER, type: 'founding', voters: 3 },
  MEMBER,
  { ...HEAD, ...CLUSTER, type: 'removed', raftId: 1, reason: 'by entry 7 of the log' },
]

test('every identity is read as it was written', t => {
  const directory = temporaryDirectory(t)
  for (const identity of IDENTITIES) {
    writeIdentity(directory, identity)

    assert.deepEqual(readIdentity(directory), identity)
  }
})

test('what the first release wrote is read in the words of this one', t => {
  const directory = temporaryDirectory(t)
  const former = { ...HEAD, ...CLUSTER, format: 1 }
  const write = (content: object): void =>
    writeFileSync(join(directory, 'node.json'), JSON.stringify(content))

  write({ ...former, type: 'member', raftId: 1, members: MEMBERS, hasLog: true })
  assert.deepEqual(readIdentity(directory), { ...MEMBER, hasLog: true })
  write({ ...former, type: 'founding', voters: 3 })
  assert.deepEqual(readIdentity(directory), IDENTITIES[1])
  write({ nodeId: 'n1', incarnation: 'disk-1', format: 1, type: 'joining' })
  assert.deepEqual(readIdentity(directory), { ...IDENTITIES[0], as: 'founder', addresses: [] })
  write({ ...former, type: 'member', raftId: 1, hasLog: true })
  assert.throws(() => readIdentity(directory), { code: 'CORRUPT' })
})

test('an empty directory and none at all belong to nobody', t => {
  const directory = temporaryDirectory(t)
  writeFileSync(join(directory, 'lock'), '')

  assert.equal(readIdentity(directory), undefined)
  assert.equal(readIdentity(join(directory, 'none')), undefined)
})

test('data without a node.json is not taken for an empty directory', t => {
  const directory = temporaryDirectory(t)
  mkdirSync(join(directory, 'group-1'))

  assert.throws(() => readIdentity(directory), {
    code: 'WRONG_DATA',
    message: /holds group-1, but not node\.json; restore it/,
  })
})

test('a directory of a newer version is refused, whatever else stands in it', t => {
  const directory = temporaryDirectory(t)
  writeFileSync(join(directory, 'node.json'), '{"format":3,"type":"something-new"}')

  assert.throws(() => readIdentity(directory), {
    code: 'WRONG_DATA',
    message: /written by a newer version \(format 3, this one reads up to 2\)/,
  })
})

test('a node.json that is damaged or contradicts itself is refused', t => {
  const directory = temporaryDirectory(t)
  const [own, other] = MEMBERS
  const known = (members: readonly unknown[]): object => ({ ...MEMBER.known, members })
  const damaged: readonly unknown[] = [
    '',
    null,
    {},
    { ...MEMBER, known: known([]) },
    { ...MEMBER, raftId: 2 },
    { ...MEMBER, incarnation: 'disk-2' },
    { ...MEMBER, known: known([own, { ...other, raftId: 1 }]) },
    { ...MEMBER, known: known([own, { ...other, nodeId: 'n1' }]) },
    { ...MEMBER, clusterId: undefined },
    { ...MEMBER, surprise: true },
    { ...HEAD, type: 'voting' },
  ]
  for (const content of damaged) {
    writeFileSync(join(directory, 'node.json'), content === '' ? '' : JSON.stringify(content))

    assert.throws(() => readIdentity(directory), { code: 'CORRUPT' }, JSON.stringify(content))
  }
})

test('a power cut while an identity is written leaves the old or the new one', t => {
  const directory = temporaryDirectory(t)
  const [old] = IDENTITIES
  assert(old !== undefined)
  for (let failAt = 0; failAt < 6; failAt++) {
    writeIdentity(directory, old)
    const files = new PowerCutFiles(failAt)

    assert.throws(() => writeIdentity(directory, MEMBER, files), /the power went/)
    files.cutPower(failAt % 2 === 0)

    const type = readIdentity(directory)?.type
    assert(type === 'joining' || type === 'member')
  }
})

test('a full disk and a directory that can not be written are told by their code', t => {
  const directory = temporaryDirectory(t)
  const failing = (code: string) => {
    const files = new PowerCutFiles()
    files.write = () => {
      throw Object.assign(new Error(`${code}: it does not go`), { code })
    }
    return files
  }

  assert.throws(() => writeIdentity(directory, MEMBER, failing('ENOSPC')), {
    code: 'DISK_FULL',
    message: /node\.json can not be written: ENOSPC/,
  })
  assert.throws(() => writeIdentity(directory, MEMBER, failing('EROFS')), { code: 'WRONG_DATA' })
})

test('a secret is for the eyes of its owner, also if it was copied by hand', t => {
  const directory = temporaryDirectory(t)
  const path = join(directory, 'secret')
  const rights = (): number => statSync(path).mode & 0o777

  assert.equal(readSecret(directory), '')
  writeSecret(directory, 'a-secret-long-enough')
  assert.equal(rights(), 0o600)
  assert.equal(readFileSync(path, 'utf8'), 'a-secret-long-enough\n')
  chmodSync(path, 0o644)
  assert.equal(readSecret(directory), 'a-secret-long-enough')
  assert.equal(rights(), 0o600)
})

test('a secret that is short, or could not be typed, is refused without being repeated', () => {
  for (const secret of [
    '',
    'too-short',
    'with a space in the middle',
    'mit-ümläuten-darin',
    'x'.repeat(15),
  ]) {
    assert.throws(
      () => checkSecret(secret),
      (error: Error) => error.message.includes('at least 16') && !error.message.includes('ümläut'),
    )
  }
})

test('a node id is a short name that files, URLs and logs can carry', () => {
  for (const nodeId of ['n1', 'db-1.eu_west', 'N'.repeat(64)]) checkNodeId(nodeId)
  for (const nodeId of ['', 'a b', 'n/1', 'ñ', 'n\n', 'N'.repeat(65)]) {
    assert.throws(() => checkNodeId(nodeId), { code: 'INVALID_REQUEST' })
  }
})

test('a data directory is made with those above it, each name durable', t => {
  const directory = join(temporaryDirectory(t), 'a', 'b')
  const files = new PowerCutFiles()

  makeDataDirectory(directory, files)
  makeDataDirectory(directory, files)

  assert(statSync(directory).isDirectory())
  assert.equal(files.callCount, 6, 'twice: mkdir, open and sync of the directory above')
})
