/** A thread that runs the recipes it is sent, one after another, and sends back what came of them. */
import { parentPort } from 'node:worker_threads'

import { must } from '../src/base/assert.ts'
import type { Recipe } from './options.ts'
import { runSeed } from './run-seed.ts'
import { QUIET } from './world.ts'

// Errors are made by the thousand here, as answers to clients, and nobody looks at their stacks: a run
// that fails is done again where somebody does.
Error.stackTraceLimit = 0

const port = must(parentPort, 'parent port')
port.on('message', (recipes: readonly Recipe[]) => {
  for (const recipe of recipes) port.postMessage(runSeed(recipe, QUIET))
})
