/**
 * How the broker is told to behave other than RabbitMQ 3.10.8 does by default, for tests of clients that meet such
 * brokers: one table of options, each off when absent.
 */

export interface Behaviour {
  /**
   * A SEND in a transaction waits for COMMIT whole: until then nothing of it is looked at, its queue is not declared, and
   * ABORT erases it. The STOMP of RabbitMQ's main branch (2026) does so; 3.10.8 to 4.3.6 declare the queue at the SEND.
   */
  readonly defersTransactions?: boolean | undefined;
  /** A longer frame ends its connection without a word, in a transaction too. RabbitMQ 4.0.5 and 4.3.6: 4 MB. */
  readonly maxFrameBytes?: number | undefined;
  /**
   * Of a queue's name, how many messages may wait in it: as RabbitMQ's `max-length` with `overflow: reject-publish`, by a
   * policy. A SEND of one more ends its connection without a word (3.10.8 to 4.3.6), a dead letter is lost. Looked up each
   * time, so what the map says may be changed while the broker runs.
   */
  readonly rejectPublishAt?: ReadonlyMap<string, number> | undefined;
}
