/** HTTP by `fetch`, in Node and in browsers alike. */
import { LINES_TYPE } from '../protocol/api-version.ts'
import {
  connectionError,
  type LineStream,
  type OutgoingRequest,
  readAnswer,
  type Transport,
} from './transport.ts'

/** The transport of every client that is given no other. */
export function fetchTransport(): Transport {
  return {
    // Browsers send no body before it is whole, or none in pieces at all.
    ...('process' in globalThis && { openStream: openFetchStream }),
    async send({ url, body, headers }, signal) {
      let text: string
      try {
        const method = body === undefined ? 'GET' : 'POST'
        const answer = await fetch(url, {
          method,
          headers,
          signal,
          ...(body !== undefined && { body }),
        })
        text = await answer.text()
      } catch (error) {
        throw connectionError(url, error)
      }
      return readAnswer(url, text)
    },
  }
}

/** A POST under way in both directions, as `fetch` of Node can do it. */
async function openFetchStream(
  { url, headers }: Omit<OutgoingRequest, 'body'>,
  signal: AbortSignal,
): Promise<LineStream | undefined> {
  const lines = new TransformStream<string, string>()
  const writer = lines.writable.getWriter()
  // What could not be sent shows in the answer.
  const ignore = (): void => {}
  writer.closed.catch(ignore)
  // A blank line: the head does not leave before something of the body.
  writer.write('\n').catch(ignore)
  const request = { method: 'POST', headers, signal, duplex: 'half' } as const
  const body = lines.readable.pipeThrough(new TextEncoderStream())
  const answer = await fetch(url, { ...request, body })
  const isLines = answer.status === 200 && answer.headers.get('content-type') === LINES_TYPE
  if (!isLines || answer.body === null) {
    await answer.body?.cancel()
    writer.abort().catch(ignore)
    return undefined
  }
  return {
    write: text => void writer.write(text).catch(ignore),
    end: () => void writer.close().catch(ignore),
    answer: answer.body.pipeThrough(new TextDecoderStream()),
  }
}
