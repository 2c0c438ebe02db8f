import assert from 'node:assert/strict'
import { test } from 'node:test'
import { whyNoMariaDb } from '../fixtures/mariadb-server.ts'
import { runForms } from './forms-run.ts'

const skip = whyNoMariaDb()

test(
  'statements of many forms leave the same on servers whose settings differ',
  skip === undefined ? {} : { skip },
  async () => {
    const { succeeded, complaint } = await runForms({ seed: 1, requests: 150, log: () => {} })
    assert.equal(complaint, undefined)
    assert(succeeded > 60, `only ${succeeded} succeeded`)
  },
)
