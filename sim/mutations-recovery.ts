/** Bugs in what an operator does when a majority is lost for good. */
import type { Mutation } from './mutation.ts'

const RECOVER = 'src/cli/recover.ts'
const CHECKS = 'src/cli/recover-checks.ts'
const RECOVERY = 'src/cli/recovery.ts'

export const RECOVERY_MUTATIONS: readonly Mutation[] = [
  {
    name: 'a recovery is decided before the engine was looked at',
    mode: 'scripted',
    file: RECOVER,
    find: '    await checkEngine(options, identity, log, isForgiven)\n',
    replace: '',
  },
  {
    name: 'a recovery looks once for the other members',
    mode: 'scripted',
    file: CHECKS,
    find: 'const LOOKS = 5',
    replace: 'const LOOKS = 1',
  },
  {
    name: 'a majority without a leader is recovered',
    mode: 'scripted',
    file: CHECKS,
    find: 'if (hasMajority(voters, isThere) && hasMajority(votersOutgoing, isThere)) {',
    replace: 'if (others.length < 0) {',
  },
  {
    name: 'a node whose data lack what its log has lost is recovered',
    mode: 'scripted',
    file: CHECKS,
    find: 'if (appliedIndex + 1 < log.firstIndex && !(await isStaged(place, identity, log))) {',
    replace: 'if (appliedIndex < 0 && !(await isStaged(place, identity, log))) {',
  },
  {
    name: 'a node whose data were found wrong is recovered like any other',
    mode: 'scripted',
    file: CHECKS,
    find: 'if (condemned !== undefined && !isPardoned) {',
    replace: 'if (condemned !== undefined && isPardoned) {',
  },
  {
    name: 'a recovery says that it is done before the log is rewritten',
    mode: 'scripted',
    file: RECOVERY,
    find: 'const decided = { ...identity, historyId, recovering: { isPardoned } }',
    replace: 'const decided = { ...identity, historyId }',
  },
  {
    name: 'a recovery that was cut short takes another history when it is repeated',
    mode: 'scripted',
    file: RECOVER,
    find: 'decidedBefore !== undefined && decidedBefore.isPardoned === isForgiven',
    replace: 'decidedBefore !== undefined && isPardoned',
  },
]
