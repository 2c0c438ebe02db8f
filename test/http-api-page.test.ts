/** Runs the examples of docs/reference/http-api.md on a real node, in their order. */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { LocalCluster } from '../src/cli/local-cluster.ts'
import { LINES_TYPE } from '../src/protocol/api-version.ts'

const page = readFileSync(new URL('../docs/reference/http-api.md', import.meta.url), 'utf8')

interface Example {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  readonly answer: unknown
}

function readExamples(): Example[] {
  const blocks = page.matchAll(
    /```http\n(\w+) (\S+)\n((?:[\w-]+: .*\n)*)([^`]*)```\n\n```json\n([^`]*)```/g,
  )
  return [...blocks].map(([, method = '', path = '', head = '', body = '', answer = '']) => ({
    method,
    path,
    headers: Object.fromEntries([...head.matchAll(/^(\S+): (.*)$/gm)].map(([, ...pair]) => pair)),
    body,
    answer: parse(answer, head.includes(LINES_TYPE)),
  }))
}

function parse(text: string, isLines: boolean): unknown {
  if (!isLines) return JSON.parse(text)
  const lines = text.trim().split('\n')
  return lines.map(line => JSON.parse(line) as unknown)
}

/** The answer with `…` wherever the page leaves the value open. */
function masked(answer: unknown, wanted: unknown): unknown {
  if (wanted === '…') return answer === undefined ? undefined : '…'
  if (Array.isArray(answer) && Array.isArray(wanted)) {
    return answer.map((item, at) => masked(item, wanted[at]))
  }
  if (!isObject(answer) || !isObject(wanted)) return answer
  return Object.fromEntries(
    Object.entries(answer).map(([key, value]) => [key, masked(value, wanted[key])]),
  )
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

test('every example of the page about the HTTP API is answered as it says', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-page-'))
  const cluster = await LocalCluster.start({ nodes: 1, directory })
  try {
    let token = ''
    let session = ''
    let transaction = ''
    const filled = (text: string): string =>
      text
        .replace('{token}', token)
        .replace('{session}', session)
        .replace('{transaction}', transaction)
    const examples = readExamples()
    assert.ok(examples.length > 10, 'the page has examples')
    assert.equal(examples.length, page.split('```http').length - 1)
    for (const { method, path, headers, body, answer } of examples) {
      const sent = filled(body)
      const named = Object.entries(headers).map(([name, value]) => [name, filled(value)])
      const response = await fetch(`http://${cluster.addresses[0]}${filled(path)}`, {
        method,
        ...(method === 'POST' ? { body: sent } : {}),
        headers: { 'content-type': 'application/json', ...Object.fromEntries(named) },
      })
      const isLines = response.headers.get('content-type') === LINES_TYPE
      const given = parse(await response.text(), isLines) as Readonly<Record<string, unknown>>
      assert.deepEqual(masked(given, answer), answer, `${method} ${path} ${sent}`)
      if (typeof given['token'] === 'string') token = given['token']
      if (typeof given['session'] === 'string') session = given['session']
      if (typeof given['transaction'] === 'string') transaction = given['transaction']
    }
  } finally {
    await cluster.stop()
    rmSync(directory, { recursive: true, force: true, maxRetries: 20 })
  }
})
