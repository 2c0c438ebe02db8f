/**
 * Statements that change data, in the forms whose effect a server decides for itself: ids that it
 * makes, rows that meet keys, cascades, clocks and chance. Drawn from a seed.
 */
import type { SimRandom } from '../../sim/sim-random.ts'

export const TABLES: readonly string[] = [
  `CREATE TABLE a (id INT AUTO_INCREMENT PRIMARY KEY, k INT UNIQUE, v INT, s VARCHAR(60),
    t TIMESTAMP(3) DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3))`,
  'CREATE TABLE b (g INT, id INT AUTO_INCREMENT, v INT, PRIMARY KEY (g, id), KEY (id))',
  'CREATE TABLE c (id BIGINT UNSIGNED AUTO_INCREMENT UNIQUE, v VARCHAR(60))',
  'CREATE TABLE p (id INT PRIMARY KEY)',
  `CREATE TABLE ch (id INT AUTO_INCREMENT PRIMARY KEY, p INT,
    FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE ON UPDATE SET NULL)`,
  // Its counter is soon exhausted.
  'CREATE TABLE tiny (id TINYINT AUTO_INCREMENT PRIMARY KEY, v INT)',
  'CREATE VIEW va AS SELECT id, k, v FROM a',
]

type Form = (draw: Draw) => string

/** Small values, so that they meet. */
class Draw {
  readonly #random: SimRandom

  constructor(random: SimRandom) {
    this.#random = random
  }

  upTo(bound: number): number {
    return this.#random.below(bound)
  }

  /** A key. */
  get k(): number {
    return this.upTo(30)
  }

  /** What may stand for a value that counts by itself. */
  get id(): string {
    const given = String(this.upTo(60))
    return this.#random.pick(['NULL', 'DEFAULT', '0', given, given, `-${this.upTo(5)}`])
  }

  get idOrMore(): string {
    return this.id.replace('-', '')
  }
}

const INSERTS: readonly Form[] = [
  d => `INSERT INTO a (k, v) VALUES (${d.k}, ${d.k})`,
  d => `INSERT INTO a (k, v) VALUES (${d.k}, 1), (${d.k}, 2), (${d.k}, 3)`,
  d => `INSERT INTO a (id, k, v) VALUES (${d.id}, ${d.k}, 1), (${d.id}, ${d.k}, 2)`,
  d =>
    `INSERT IGNORE INTO a (id, k) VALUES (${d.id}, ${d.k}), (${d.id}, ${d.k}), (${d.id}, ${d.k})`,
  d => `INSERT INTO a SET k = ${d.k}, v = LAST_INSERT_ID()`,
  d => `INSERT INTO a (k, v) VALUES (${d.k}, (SELECT MAX(id) FROM c))`,
  d => `INSERT INTO a (k, v) VALUES (FLOOR(RAND() * 1000) + ${d.k}, NOW() + 0 MOD 7), (${d.k}, 2)`,
  d => `INSERT INTO a (k, v) SELECT k + ${d.upTo(40)}, v FROM a ORDER BY id LIMIT 3`,
  d => `INSERT IGNORE INTO a (k, v) SELECT k + ${d.upTo(9)}, v FROM a ORDER BY id`,
  d => `INSERT INTO va (k, v) VALUES (${d.k}, 2)`,
  d => `INSERT INTO a (k, v) VALUES (${d.k}, 1), (${d.k}, 2) RETURNING id, k`,
  d => `INSERT IGNORE INTO a (k, v) VALUES (${d.k}, 1), (${d.k}, 1) RETURNING id`,
  d => `INSERT INTO b (g, v) VALUES (${d.upTo(3)}, 1), (${d.upTo(3)}, 2)`,
  d => `INSERT INTO b (g, id, v) VALUES (${d.upTo(3)}, ${d.id}, 1), (${d.upTo(3)}, ${d.id}, 2)`,
  () => 'INSERT INTO c (v) VALUES (UUID()), (NULL)',
  d => `INSERT INTO c (id, v) VALUES (${d.idOrMore}, 'x'), (${d.idOrMore}, RAND())`,
  () => 'INSERT INTO c (v) SELECT s FROM a ORDER BY id',
  d => `INSERT INTO p VALUES (${d.k})`,
  d => `INSERT IGNORE INTO p VALUES (${d.k}), (${d.k})`,
  d => `INSERT INTO ch (p) VALUES (${d.k})`,
  d => `INSERT IGNORE INTO ch (p) VALUES (${d.k}), (${d.k}), (${d.k}), (NULL)`,
  () => 'INSERT INTO ch (p) SELECT id FROM p ORDER BY id',
  () => 'INSERT INTO tiny (v) VALUES (1)',
  d => `INSERT IGNORE INTO tiny (id, v) VALUES (${d.id}, 1), (${d.id}, 2), (126, 3)`,
]

const REPLACEMENTS: readonly Form[] = [
  d => `REPLACE INTO a (id, k, v) VALUES (${d.id}, ${d.k}, 1), (${d.id}, ${d.k}, 2)`,
  d => `REPLACE INTO a (k, v) VALUES (${d.k}, 1)`,
  d => `REPLACE INTO a (k, v) SELECT k + ${d.upTo(9)}, v FROM a ORDER BY id LIMIT 3`,
  d => `REPLACE INTO a (k, v) VALUES (${d.k}, 1), (${d.k}, 1) RETURNING id, v`,
  d => `INSERT INTO a (k, v) VALUES (${d.k}, 1) ON DUPLICATE KEY UPDATE v = v + 1`,
  d => `INSERT INTO a (k) VALUES (${d.k}), (${d.k}), (${d.k}) ON DUPLICATE KEY UPDATE v = v + 1`,
  d =>
    `INSERT INTO a (id, k) VALUES (${d.id}, ${d.k}), (${d.id}, ${d.k})
    ON DUPLICATE KEY UPDATE v = v + 1, s = LEFT(UUID(), 8)`,
  d =>
    `INSERT INTO a (k, v) VALUES (${d.k}, 1)
    ON DUPLICATE KEY UPDATE id = LAST_INSERT_ID(id), v = v + 1`,
  d =>
    `INSERT INTO a (k, v) SELECT k + ${d.upTo(9)}, v FROM a ORDER BY id LIMIT 4
    ON DUPLICATE KEY UPDATE v = VALUES(v)`,
  d =>
    `INSERT INTO a (k, v) VALUES (${d.k}, 1), (${d.k}, 1)
    ON DUPLICATE KEY UPDATE v = v + 1 RETURNING id, v`,
]

const CHANGES: readonly Form[] = [
  d => `UPDATE a SET v = LAST_INSERT_ID(v + 1) WHERE k = ${d.k}`,
  d => `UPDATE a SET s = UUID(), v = RAND() * 100 WHERE k < ${d.k}`,
  d => `UPDATE a SET s = UUID(), v = RAND() * 100 WHERE k < ${d.k} ORDER BY id`,
  d => `UPDATE a SET v = LAST_INSERT_ID(v + 1) WHERE k > ${d.k}`,
  d => `DELETE FROM a WHERE k > ${d.k} AND RAND() < 0.5`,
  () => 'INSERT INTO c (v) SELECT RAND() FROM a ORDER BY id',
  d => `UPDATE a SET id = id + ${d.upTo(50)} WHERE k = ${d.k}`,
  () => 'UPDATE IGNORE a SET k = k + 1 ORDER BY id',
  d => `UPDATE p SET id = ${d.k} WHERE id = ${d.k}`,
  () => 'UPDATE a JOIN p ON p.id = a.k SET a.v = a.v + 1',
  d => `DELETE FROM a WHERE k = ${d.k}`,
  d => `DELETE FROM a WHERE k > ${d.k} ORDER BY id LIMIT 3`,
  () => 'DELETE FROM a WHERE v = 1 RETURNING id',
  () => 'DELETE a FROM a JOIN b ON a.k = b.v',
  d => `DELETE FROM p WHERE id = ${d.k}`,
  () => 'DELETE FROM tiny WHERE id > 100',
]

const SCHEMA_CHANGES: readonly Form[] = [
  () => 'TRUNCATE tiny',
  d => `ALTER TABLE a AUTO_INCREMENT = ${d.upTo(200)}`,
  d => `ALTER TABLE c ADD COLUMN x${d.upTo(1000)} INT DEFAULT 3`,
]

const DATA = [...INSERTS, ...REPLACEMENTS, ...CHANGES]

export class Forms {
  readonly #random: SimRandom
  readonly #draw: Draw

  constructor(random: SimRandom) {
    this.#random = random
    this.#draw = new Draw(random)
  }

  /** The statements of one request. */
  request(): string[] {
    if (this.#random.chance(0.04)) return [this.#random.pick(SCHEMA_CHANGES)(this.#draw)]
    const count = this.#random.chance(0.6) ? 1 : this.#random.between(2, 4)
    const texts = Array.from({ length: count }, () => this.#random.pick(DATA)(this.#draw))
    // All of the request is undone.
    if (this.#random.chance(0.08)) texts.push('INSERT INTO nowhere VALUES (1)')
    return texts
  }
}
