/** What a network between the nodes of a fault run can be told to do, whatever it is made of. */

/** How one node is reached. */
export interface Place {
  /** Where the node itself listens. */
  readonly listen: string
  /** Where the others and the clients reach it. */
  readonly address: string
  /** What the node's command line is put behind, to run in its place; empty for none. */
  readonly wrapper: readonly string[]
}

/** Slows a way down; a chance of loss makes some bytes come as late as after a retransmission. */
export interface Weather {
  readonly delayMs: number
  readonly jitterMs: number
  /** From 0 to 1. */
  readonly loss: number
}

/** Stands for all clients where a way begins or ends at them. */
export const CLIENTS = 'clients'

export interface ChaosNetwork {
  readonly name: string
  /** Why it can't delay and lose, or undefined if it can. */
  readonly whyNoWeather: string | undefined
  /** Makes a place for one more node. */
  place(nodeId: string): Promise<Place>
  /** Nothing passes from `from` to `to` any more. */
  cut(from: string, to: string): Promise<void>
  /** Undoes {@link cut}. */
  open(from: string, to: string): Promise<void>
  /** What passes from `from` to `to` is slowed down; undefined ends that. */
  slow(from: string, to: string, weather: Weather | undefined): Promise<void>
  /** Opens all ways, as fast as they were. */
  heal(): Promise<void>
  /** Breaks all connections to a node, or says that this network can't. */
  reset(nodeId: string): boolean
  close(): Promise<void>
}
