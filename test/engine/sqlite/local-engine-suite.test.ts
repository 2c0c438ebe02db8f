/** The engine in this process under the suite of all engines. */
import { join } from 'node:path'
import { LocalEngine } from '../../../src/engine/sqlite/local-engine.ts'
import { testEngine } from '../engine-suite.ts'

testEngine('local engine', directory => {
  const options = { directory: join(directory, 'engine'), later: setImmediate }
  return Promise.resolve(new LocalEngine(options))
})
