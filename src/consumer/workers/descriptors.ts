/** By which descriptors a worker process and the consumer reach each other. */

/** Descriptors of a worker beside the usual three, of which stdin is empty. */
export const descriptors = {
  /** Frames to the worker. */
  inbox: 3,
  /** Frames from the worker, which blocks while they are not taken: the consumer always reads them. */
  outbox: 4,
  /** Lines of the log, read at a bounded rate. */
  log: 5,
  /** Of the thread that watches: questions and answers, and its end is the consumer's. */
  watch: 6,
} as const;
