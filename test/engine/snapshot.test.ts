/** Manifests come from other nodes: nothing in them is taken on trust. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeManifest, encodeManifest, SNAPSHOT_CHUNK_BYTES } from '../../src/engine/snapshot.ts'

const FILE = { name: 'system.sqlite', sizeBytes: 10, sha256: 'a'.repeat(64), chunks: [7] }
const MANIFEST = {
  format: 1,
  id: '0123456789abcdef',
  index: 5,
  nowMs: 6,
  build: 'b',
  context: 'c',
  files: [FILE, { ...FILE, name: 'db-12.sqlite' }],
}

test('a manifest comes back as it was', () => {
  assert.deepEqual(decodeManifest(encodeManifest(MANIFEST)), MANIFEST)
})

test('a newer format is refused with a sentence', () => {
  const newer = JSON.stringify({ ...MANIFEST, format: 2, files: 'of another kind' })
  assert.throws(() => decodeManifest(newer), /of format 2, this release reads up to 1/)
})

test('what is no manifest is refused', () => {
  const files = (change: object): object => ({ ...MANIFEST, files: [FILE, { ...FILE, ...change }] })
  const wrong: readonly unknown[] = [
    undefined,
    null,
    [],
    {},
    { ...MANIFEST, id: '../../etc' },
    { ...MANIFEST, index: -1 },
    { ...MANIFEST, index: 1.5 },
    { ...MANIFEST, files: [] },
    { ...MANIFEST, files: [FILE, FILE] },
    files({ name: '../db-1.sqlite' }),
    files({ name: 'db-0.sqlite' }),
    files({ name: 'db-1.sqlite-wal' }),
    files({ name: 'db-1.sqlite', sizeBytes: SNAPSHOT_CHUNK_BYTES + 1 }),
    files({ name: 'db-1.sqlite', sha256: 'x' }),
    files({ name: 'db-1.sqlite', chunks: ['1'] }),
  ]
  for (const value of wrong) {
    const text = JSON.stringify(value) ?? 'not JSON'
    assert.throws(() => decodeManifest(text), { code: 'SNAPSHOT_FAILED' }, text)
  }
})
