/** The engine behind processes under the suite of all engines. */
import { testEngine } from '../engine-suite.ts'
import { openProcessEngine } from './support.ts'

testEngine('process engine', openProcessEngine)
