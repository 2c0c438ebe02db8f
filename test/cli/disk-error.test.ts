import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { DbError } from '../../src/base/errors.ts'
import { orDiskError, toDiskError } from '../../src/cli/disk-error.ts'

function systemError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code, syscall: 'write' })
}

test('what the system refuses is told with its place and with what is left', t => {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-disk-error-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const file = join(directory, 'file')
  writeFileSync(file, '')
  const inFile = join(file, 'below')
  assert.throws(
    () => orDiskError('/backups/x', () => writeFileSync(inFile, ''), 'nothing is left'),
    {
      code: 'WRONG_DATA',
      message: `/backups/x can not be written: ENOTDIR: not a directory, open '${inFile}'; nothing is left`,
    },
  )
  assert.equal(
    orDiskError('/backups/x', () => 7),
    7,
  )
  for (const code of ['ENOSPC', 'EDQUOT']) {
    const full = toDiskError('x', systemError(code, 'no room'))
    assert(full instanceof DbError)
    assert.deepEqual([full.code, full.message], ['DISK_FULL', 'x can not be written: no room'])
  }
})

test('a disk that SQLite finds full, and one that filled up during a transfer, is told alike', () => {
  const database = new DatabaseSync(':memory:')
  database.exec('PRAGMA max_page_count = 2')
  const fill = (): void => database.exec('CREATE TABLE a (b); CREATE TABLE c (d)')
  assert.throws(() => orDiskError('x', fill), {
    code: 'DISK_FULL',
    message: 'x can not be written: database or disk is full',
  })
  database.close()
  const cause = systemError('ENOSPC', 'no room, write')
  const carried = toDiskError('x', new DbError('DISK_FULL', cause.message, { cause }))
  assert(carried instanceof DbError)
  assert.deepEqual(
    [carried.code, carried.message],
    ['DISK_FULL', 'x can not be written: no room, write'],
  )
})

test('bugs, refusals and the full disk of another node stay as they are', () => {
  const others = [
    new TypeError('bug'),
    Object.assign(new Error('argument'), { code: 'ERR_INVALID_ARG_TYPE' }),
    Object.assign(new Error('no such table'), { code: 'ERR_SQLITE_ERROR', errcode: 1 }),
    new DbError('CORRUPT', 'garbled'),
    new DbError('DISK_FULL', 'the disk of the giver is full'),
  ]
  for (const error of others) assert.equal(toDiskError('x', error), error)
})
