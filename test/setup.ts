/**
 * `npm run setup`: installs what tests and demonstrations need beside npm's packages, with Debian's
 * own package manager where this is root, and says what to do where it is not. What is there already
 * is left alone.
 */
import { MARIADB_PROGRAMS } from '../src/cli/mariadb-server.ts'
import { findProgram } from '../src/platform/programs.ts'
import { installDebian } from '../bench/peers/install.ts'
import { findWallClocks } from './chaos/wall-clocks.ts'

interface Need {
  readonly package: string
  readonly what: string
  /** Programs or libraries that are not there. */
  readonly missing: () => readonly string[]
  /** What happens without it, if all is tested all the same. */
  readonly otherwise?: string
}

const NEEDS: readonly Need[] = [
  {
    package: 'mariadb-server',
    what: 'tests of the MySQL engine, and npm start -- --engine mysql',
    missing: () =>
      [...MARIADB_PROGRAMS, 'mariadb', 'mariadb-dump'].filter(
        name => findProgram(name) === undefined,
      ),
  },
  {
    package: 'libfaketime',
    what: 'clocks that jump, in the chaos suite',
    missing: () => (findWallClocks()[0].name === 'libfaketime' ? [] : ['libfaketimeMT.so.1']),
    otherwise: 'the chaos suite moves the clocks of its nodes in another way',
  },
]

const due = NEEDS.filter(({ missing }) => missing().length > 0)
const failure = due.length === 0 ? undefined : install(due.map(need => need.package))
for (const need of NEEDS) report(need)
if (failure !== undefined) console.log(failure)

function install(packages: readonly string[]): string | undefined {
  const byHand = `apt-get install --no-install-recommends ${packages.join(' ')}`
  if (findProgram('apt-get') === undefined) {
    return 'This is no Debian: install MariaDB 10.6 or newer so that mariadbd is in the PATH.'
  }
  if (process.getuid?.() !== 0) return `Only root installs packages. Run: sudo ${byHand}`
  console.log(`installing ${packages.join(', ')}`)
  const reason = installDebian(packages)
  return reason === undefined ? undefined : `${reason}\nRun it by hand: ${byHand}`
}

function report(need: Need): void {
  const missing = need.missing()
  if (missing.length === 0) {
    console.log(`${need.package}: ${due.includes(need) ? 'installed' : 'is there'} (${need.what})`)
    return
  }
  const { otherwise } = need
  const effect = otherwise ?? 'these are skipped; with CI=true that is a failure'
  console.log(`${need.package}: MISSING ${missing.join(', ')} (${need.what}): ${effect}`)
  if (otherwise === undefined) process.exitCode = 1
}
