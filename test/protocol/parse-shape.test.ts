import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { DbError } from '../../src/base/errors.ts'
import { parseShape } from '../../src/protocol/parse-shape.ts'

const word = z.string().min(1)
const schema = z.strictObject({
  words: z.array(word).min(1).max(2),
  pairs: z.array(z.unknown()).min(2).optional(),
  name: z.string().min(3).max(4).optional(),
  count: z.int().min(2).max(5).optional(),
  order: z.enum(['asc', 'desc']).optional(),
})

function problemsOf(json: unknown, path = ''): unknown {
  try {
    parseShape(schema, json, path)
  } catch (error) {
    assert(error instanceof DbError && error.code === 'INVALID_REQUEST')
    const { problems } = error.details
    assert(Array.isArray(problems) && problems[0] === error.message)
    return problems
  }
  return []
}

test('what fits is given back', () => {
  assert.deepEqual(parseShape(schema, { words: ['a'] }, ''), { words: ['a'] })
})

test('a limit is told in a sentence that names the field', () => {
  const problems: [object, string][] = [
    [{ words: [] }, 'words: must not be empty'],
    [{ words: ['a', ''] }, 'words[1]: must not be empty'],
    [{ words: ['a', 'b', 'c'] }, 'words: must have at most 2 elements'],
    [{ words: ['a'], pairs: [1] }, 'pairs: must have at least 2 elements'],
    [{ words: ['a'], name: 'ab' }, 'name: must have at least 3 characters'],
    [{ words: ['a'], name: 'abcde' }, 'name: must have at most 4 characters'],
    [{ words: ['a'], count: 1 }, 'count: must be at least 2'],
    [{ words: ['a'], count: 6 }, 'count: must be at most 5'],
  ]
  for (const [json, problem] of problems) assert.deepEqual(problemsOf(json), [problem])
})

test('wrong types, words and fields are named, all of them, and where they stand', () => {
  assert.deepEqual(problemsOf({ words: 'a', order: 'up', wrods: 1 }, 'statements[2]'), [
    'statements[2].words: expected array, received string',
    'statements[2].order: expected one of "asc"|"desc"',
    'unknown field "wrods" in statements[2]',
  ])
  assert.deepEqual(problemsOf(7), ['expected object, received number'])
})
