/** Which version of the HTTP API nodes and clients speak, and by which headers they say so. */

/**
 * Version of the API, raised by a change that clients of before would misread. Nodes understand all
 * up to their own, so that nodes are upgraded before their clients.
 */
export const API_VERSION = 1
/** The header by which a client may say which version it speaks. */
export const API_HEADER = 'lockstep-api'

/** The content type of a stream of requests, and of the answer to it: a line of JSON each. */
export const LINES_TYPE = 'application/x-ndjson'
