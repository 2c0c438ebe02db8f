import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isForeignKeysPragma, isRebuild, isSolo } from '../../../src/engine/sqlite/solo.ts'
import { createDatabase, dropDatabase, request } from './replica.ts'

test('a request is a rebuild if it begins by switching foreign keys off', () => {
  const rebuilds = [
    'PRAGMA foreign_keys = OFF',
    'pragma foreign_keys=0;',
    '-- first\n PRAGMA main.foreign_keys(false) ;',
    'PRAGMA foreign_keys=no; CREATE TABLE t (a)',
  ]
  for (const sql of rebuilds) assert(isRebuild(request(sql)), sql)
  const others = [
    'PRAGMA foreign_keys',
    'PRAGMA foreign_keys = ON',
    'PRAGMA foreign_keys = OFF AND ON',
    'PRAGMA foreign_key_list(t)',
    "SELECT 'PRAGMA foreign_keys = OFF'",
    'SELECT 1; PRAGMA foreign_keys = OFF',
    'PRAGMA temp.foreign_keys = OFF',
    '',
  ]
  for (const sql of others) assert(!isRebuild(request(sql)), sql)
  assert(!isRebuild(request('SELECT 1', 'PRAGMA foreign_keys = OFF')))
  assert(!isRebuild(request()))
})

test('creating and dropping a database must be alone as well', () => {
  assert(isSolo(createDatabase('d')))
  assert(isSolo(dropDatabase('d')))
  assert(!isSolo(request('CREATE TABLE t (a)')))
})

test('the statement after the pragma begins where the pragma ends', () => {
  const sql = 'PRAGMA foreign_keys = ON ; /* so */ SELECT 1'
  assert.equal(sql.slice(isForeignKeysPragma(sql, 0)), 'SELECT 1')
  assert.equal(isForeignKeysPragma('SELECT 1', 0), undefined)
})
