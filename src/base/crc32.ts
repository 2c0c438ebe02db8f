/**
 * CRC-32 (the polynomial of zlib, gzip and Ethernet), eight bytes at a time. It is the same
 * function as `zlib.crc32` of Node, which may stand in for it where that is faster; pure folders
 * use this one.
 */

/** Continues `seed`, the checksum of what comes before, over `bytes[start, end)`. */
export type Checksum = (bytes: Uint8Array, start: number, end: number, seed: number) => number

const POLYNOMIAL = 0xedb88320

/** Eight tables of 256 in one array: `TABLES[k * 256 + byte]` carries `byte` k bytes further. */
const TABLES = createTables()

function createTables(): Int32Array {
  const tables = new Int32Array(8 * 256)
  for (let byte = 0; byte < 256; byte++) {
    let value = byte
    for (let bit = 0; bit < 8; bit++)
      value = (value & 1) === 1 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1
    tables[byte] = value
  }
  for (let position = 256; position < tables.length; position++) {
    const value = tables[position - 256] as number
    tables[position] = (value >>> 8) ^ (tables[value & 255] as number)
  }
  return tables
}

/**
 * CRC-32 of `bytes[start, end)`, continued from `seed`. Always a whole number from 0 to 2^32 - 1.
 */
export const crc32: Checksum = (bytes, start, end, seed) => {
  let crc = ~seed
  let position = start
  // Element reads inside the bounds are numbers; `| 0` says so to the compiler and costs nothing.
  for (const stop = end - 7; position < stop; position += 8) {
    const low =
      crc ^
      ((bytes[position] as number) |
        ((bytes[position + 1] as number) << 8) |
        ((bytes[position + 2] as number) << 16) |
        ((bytes[position + 3] as number) << 24))
    crc =
      (TABLES[1792 + (low & 255)] as number) ^
      (TABLES[1536 + ((low >>> 8) & 255)] as number) ^
      (TABLES[1280 + ((low >>> 16) & 255)] as number) ^
      (TABLES[1024 + (low >>> 24)] as number) ^
      (TABLES[768 + (bytes[position + 4] as number)] as number) ^
      (TABLES[512 + (bytes[position + 5] as number)] as number) ^
      (TABLES[256 + (bytes[position + 6] as number)] as number) ^
      (TABLES[bytes[position + 7] as number] as number)
  }
  for (; position < end; position++) {
    crc = (crc >>> 8) ^ (TABLES[(crc ^ (bytes[position] as number)) & 255] as number)
  }
  return ~crc >>> 0
}
