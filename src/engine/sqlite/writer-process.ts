/** The writer of an engine in a process of its own. */
import type { Writer, WriterHandler, WriterMessage } from '../engine.ts'
import { EngineChild, type EngineChildOptions } from './engine-child.ts'
import { decodeWriterReply, encodeWriterMessage } from './writer-codec.ts'

export class WriterProcess implements Writer {
  readonly #child: EngineChild

  constructor(options: Omit<EngineChildOptions, 'kind'>, handler: WriterHandler) {
    this.#child = new EngineChild(
      { ...options, kind: 'writer' },
      {
        onFrame: body => handler.onReply(decodeWriterReply(body)),
        onExit: reason => handler.onExit(reason),
      },
    )
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  send(message: WriterMessage): void {
    this.#child.send(encodeWriterMessage(message))
  }

  kill(): void {
    this.#child.kill()
  }
}
