import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findProblem } from '../../../src/engine/mysql/server-check.ts'

const FIT = {
  log_bin: 'ON',
  binlog_format: 'ROW',
  read_only: 'OFF',
  max_allowed_packet: '16777216',
}

function problem(version: string, variables: Readonly<Record<string, string>> = {}): string {
  return findProblem(version, new Map(Object.entries({ ...FIT, ...variables }))) ?? ''
}

test('servers that are new enough are let be', () => {
  for (const version of [
    '10.11.19-MariaDB-0+deb12u1',
    '10.6.0-MariaDB',
    '11.4.2-MariaDB',
    '8.0.36',
    '9.1.0',
  ]) {
    assert.equal(problem(version), '', version)
  }
})

test('old servers, and settings that would lose or change something, are named', () => {
  assert.match(problem('10.5.12-MariaDB'), /10\.5\.12.*needs MariaDB 10\.6/)
  assert.match(problem('5.7.44'), /needs .*MySQL 8\.0/)
  assert.match(problem('8.0.36', { read_only: 'ON' }), /read-only/)
  assert.match(problem('8.0.36', { binlog_format: 'STATEMENT' }), /binlog_format=ROW/)
  assert.equal(problem('8.0.36', { log_bin: 'OFF', binlog_format: 'STATEMENT' }), '')
  assert.match(problem('8.0.36', { max_allowed_packet: '4194304' }), /max_allowed_packet/)
  assert.match(problem('10.11.0-MariaDB', { secure_timestamp: 'YES' }), /secure_timestamp/)
})
