import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  envName,
  flagName,
  OPTIONS,
  readOptions,
  type OptionRow,
  type Options,
} from '../../src/cli/options.ts'

type Texts = Readonly<Record<string, string>>

const read = (flags: Texts, env: Texts = {}, file?: string): Options =>
  readOptions({ flags, env, file })

function refused(call: () => unknown, message: RegExp): void {
  assert.throws(call, { code: 'INVALID_REQUEST', message })
}

/** Runs with a file that holds `content`. */
function withFile(content: string, run: (path: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-options-'))
  try {
    const path = join(directory, 'options.json')
    writeFileSync(path, content)
    run(path)
  } finally {
    rmSync(directory, { recursive: true })
  }
}

test('without any source every option has its default', () => {
  const options = read({})

  for (const [name, row] of Object.entries(OPTIONS)) {
    assert.deepEqual(options[name as keyof Options], row.default, name)
  }
})

test('every default lies within its own bounds', () => {
  for (const [name, row] of Object.entries<OptionRow>(OPTIONS)) {
    if (row.type === 'whole') assert.ok(row.default >= row.min && row.default <= row.max, name)
    if (row.type === 'choice') assert.ok(row.choices.includes(row.default), name)
  }
})

test('the command line wins over the environment, and both over the file', () => {
  withFile('{"tickMs": 10, "nodeId": "file", "join": ["a:1", "b:2"], "forward": "none"}', path => {
    const env = { LOCKSTEP_NODE_ID: 'env', LOCKSTEP_FORWARD: 'data', LOCKSTEP_CONFIG: path }
    const options = read({ nodeId: 'flag' }, env)

    assert.deepEqual(
      [options.nodeId, options.forward, options.tickMs, options.join],
      ['flag', 'data', 10, ['a:1', 'b:2']],
    )
  })
})

test('names are written as each source writes them', () => {
  assert.equal(flagName('electionTimeoutMs'), '--election-timeout-ms')
  assert.equal(envName('electionTimeoutMs'), 'LOCKSTEP_ELECTION_TIMEOUT_MS')
  assert.deepEqual(read({ join: ' a:1, ,b:2 ' }).join, ['a:1', 'b:2'])
})

test('names that are no option are refused wherever they stand', () => {
  refused(() => read({}, { LOCKSTEP_TICKMS: '5' }), /the environment holds LOCKSTEP_TICKMS/)
  withFile('{"tickms": 5}', path => refused(() => read({}, {}, path), /tickms is no option/))
  const kubernetes = { LOCKSTEP_SERVICE_HOST: '10.0.0.1', LOCKSTEP_PORT_7070_TCP: 'tcp://x' }
  assert.equal(read({}, { ...kubernetes, LOCKSTEP_PORT: 'tcp://x', OTHER: '1' }).tickMs, 50)
})

test('values of a wrong kind or out of bounds are refused with their place', () => {
  refused(() => read({ tickMs: 'fast' }), /^--tick-ms must be a whole number of ms, not fast/)
  refused(() => read({ tickMs: '5.5' }), /^--tick-ms must be a whole number/)
  refused(() => read({ tickMs: '-5' }), /^--tick-ms must be a whole number/)
  refused(() => read({}, { LOCKSTEP_TICK_MS: '' }), /^LOCKSTEP_TICK_MS must be a whole/)
  refused(() => read({ tickMs: '1' }), /^--tick-ms must be between 5 and 1000, not 1/)
  refused(() => read({ forward: 'some' }), /^--forward must be one of all, data, none, not some/)
  withFile('{"tickMs": "5"}', path => assert.equal(read({}, {}, path).tickMs, 5))
  withFile('{"nodeId": 5}', path => refused(() => read({}, {}, path), /nodeId must be text/))
})

test('a file that can not be read is told in a sentence', () => {
  refused(() => read({}, {}, '/nowhere/x.json'), /^the options file \/nowhere\/x.json can not/)
  withFile('{', path => refused(() => read({}, {}, path), /can not be read: /))
  withFile('[]', path => refused(() => read({}, {}, path), /must hold a JSON object/))
})

test('options that contradict each other are refused together', () => {
  refused(() => read({ tickMs: '40' }), /^--heartbeat-ms \(100\) must be a multiple of --tick-ms/)
  refused(() => read({ electionTimeoutMs: '760' }), /^--election-timeout-ms \(760\) must be a mult/)
  refused(() => read({ electionTimeoutMs: '200' }), /at least three times --heartbeat-ms/)
  refused(
    () => read({ maxQueuedBytes: String(2 ** 21) }),
    /^--max-queued-bytes must be at least --max-body-bytes/,
  )
  refused(() => read({ maxReceivingBytes: String(2 ** 21) }), /^--max-receiving-bytes must be/)
})
