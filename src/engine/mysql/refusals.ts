/**
 * What a replicated MySQL database must refuse, each with a sentence that says why and what to use
 * instead: what differs between servers, what a connection remembers, and what takes effect outside
 * of a transaction.
 */

const OF_THE_SERVER = 'it tells of one server, and nodes have different ones'
const OF_THE_CONNECTION =
  'it asks what a connection remembers, and connections are shared; use the answer of the request'
const BY_CHANCE = 'it is not the same on every node; make the value yourself and send it'
const LOCKS = 'locks of one server bind no other node; use a row with a unique key'

/** Functions that no statement may call that is executed on every node. */
export const REFUSED_IN_WRITES: ReadonlyMap<string, string> = new Map([
  ['UUID_SHORT', `${BY_CHANCE}, or use UUID()`],
  ['RANDOM_BYTES', BY_CHANCE],
  ['SYS_GUID', `${BY_CHANCE}, or use UUID()`],
  ['UUID_V4', `${BY_CHANCE}, or use UUID()`],
  ['UUID_V7', `${BY_CHANCE}, or use UUID()`],
  ['ENCRYPT', 'it makes up a salt, another one on every node; use SHA2()'],
  ['DES_ENCRYPT', 'its keys stand in a file of one server; use AES_ENCRYPT()'],
  ['DES_DECRYPT', 'its keys stand in a file of one server; use AES_DECRYPT()'],
  ['FOUND_ROWS', OF_THE_CONNECTION],
  ['ROW_COUNT', OF_THE_CONNECTION],
  ['CONNECTION_ID', OF_THE_CONNECTION],
  ['PS_CURRENT_THREAD_ID', OF_THE_CONNECTION],
  ['PS_THREAD_ID', OF_THE_CONNECTION],
  ['USER', OF_THE_SERVER],
  ['CURRENT_USER', OF_THE_SERVER],
  ['SESSION_USER', OF_THE_SERVER],
  ['SYSTEM_USER', OF_THE_SERVER],
  ['CURRENT_ROLE', OF_THE_SERVER],
  ['VERSION', OF_THE_SERVER],
  ['ROWNUM', 'which rows come first is not the same on every node; use ORDER BY and LIMIT'],
  ['NEXTVAL', 'a sequence counts on, whatever is rolled back; use AUTO_INCREMENT'],
  ['SETVAL', 'a sequence counts on, whatever is rolled back; use AUTO_INCREMENT'],
  ['LASTVAL', OF_THE_CONNECTION],
])

/** Functions that no statement may call at all. */
export const REFUSED_ALWAYS: ReadonlyMap<string, string> = new Map([
  ['LOAD_FILE', 'it reads a file of one server'],
  ['GET_LOCK', LOCKS],
  ['RELEASE_LOCK', LOCKS],
  ['RELEASE_ALL_LOCKS', LOCKS],
  ['IS_FREE_LOCK', LOCKS],
  ['IS_USED_LOCK', LOCKS],
  ['BENCHMARK', 'it only takes time, and others wait for it'],
  ['SLEEP', 'it only takes time, and others wait for it'],
  ['MASTER_POS_WAIT', OF_THE_SERVER],
  ['SOURCE_POS_WAIT', OF_THE_SERVER],
  ['MASTER_GTID_WAIT', OF_THE_SERVER],
  ['WAIT_FOR_EXECUTED_GTID_SET', OF_THE_SERVER],
])

/** Words that need no brackets to be a call. */
export const CALLED_BARE: ReadonlySet<string> = new Set(['CURRENT_USER', 'CURRENT_ROLE'])

/** What a definition must not hold, because it would be evaluated unseen. */
export const REFUSED_IN_SCHEMAS: ReadonlyMap<string, string> = new Map([
  ['UUID', 'a default that is made by chance is not the same on every node; insert UUID() itself'],
  ['RAND', 'a default that is made by chance is not the same on every node; insert RAND() itself'],
  ['LAST_INSERT_ID', OF_THE_CONNECTION],
  ['DATABASE', OF_THE_SERVER],
  ['SCHEMA', OF_THE_SERVER],
])

/** Why a statement can't be what its first words say; the verb stands before. */
export const REFUSED_VERBS: ReadonlyMap<string, string> = new Map([
  ...['BEGIN', 'START', 'COMMIT', 'ROLLBACK', 'SAVEPOINT', 'RELEASE', 'XA'].map(
    verb =>
      [
        verb,
        'a request is a transaction: all its statements take effect or none; leave out BEGIN, ' +
          'COMMIT, ROLLBACK, SAVEPOINT and RELEASE',
      ] as const,
  ),
  ['USE', 'a request names its database; send that with it'],
  ['SET', 'the settings of sessions are the same on every node and fixed; leave out SET'],
  ['LOCK', 'writes run one after another already; leave out LOCK TABLES'],
  ['UNLOCK', 'writes run one after another already; leave out UNLOCK TABLES'],
  ['LOAD', 'it reads a file of one machine; send the rows as INSERT'],
  ['CALL', 'procedures are not replicated; send their statements'],
  ['DO', 'it has no effect that could be replicated'],
  ['GRANT', 'accounts of the servers are the business of each node'],
  ['REVOKE', 'accounts of the servers are the business of each node'],
])

/** What can be created, altered and dropped; the words between are passed over. */
export const SCHEMA_OBJECTS: ReadonlySet<string> = new Set(['TABLE', 'INDEX', 'VIEW'])

/** Words of definitions that reach beyond the table, or to where nothing can be rolled back. */
export const REFUSED_SCHEMA_WORDS: ReadonlyMap<string, string> = new Map([
  ['TEMPORARY', 'a temporary table belongs to a connection, and connections are shared'],
  ['TABLESPACE', 'it speaks of files of one server'],
  ['DIRECTORY', 'it speaks of files of one server'],
  ['SELECT', 'create the table first, and then fill it with INSERT ... SELECT'],
])

/** Databases of the server itself. */
export const SYSTEM_DATABASES: ReadonlySet<string> = new Set([
  'information_schema',
  'mysql',
  'performance_schema',
  'sys',
])
