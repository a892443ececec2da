/**
 * What bounds the broker's memory, as one table. Every limit is met with an ERROR frame that names it and the end of
 * that connection; none is met by forgetting a message that was confirmed.
 */
import { getHeapStatistics } from 'node:v8';

export interface BrokerLimits {
  readonly connections: number;
  /** From the TCP connect to the CONNECT frame, in milliseconds. RabbitMQ 3.10.8: 10 s. */
  readonly connectMs: number;
  /** Connections that are not logged in; of one more, the one that has waited longest is closed without a word. */
  readonly connectionsBeforeLogin: number;
  /** What one of them may send: a CONNECT and little more. */
  readonly bodyBytesBeforeLogin: number;
  readonly headerBytesBeforeLogin: number;
  readonly errorsBeforeLogin: number;
  /** Frames in a row that are answered with an ERROR. */
  readonly errorsInARow: number;
  /** Of one frame: its body, its whole head, one header line, the number of headers. */
  readonly bodyBytes: number;
  readonly headerBytes: number;
  readonly headerLineBytes: number;
  readonly headers: number;
  readonly subscriptionsPerConnection: number;
  readonly transactionsPerConnection: number;
  readonly framesPerTransaction: number;
  readonly queues: number;
  readonly bindings: number;
  readonly messagesPerQueue: number;
  /** Bytes count bodies, headers and what the broker spends on a message, settled ones excepted. */
  readonly bytesPerQueue: number;
  readonly totalBytes: number;
}

const KIB = 1024;
const MIB = 1024 * KIB;

/** Most messages live in the JavaScript heap, so all of them together may take half of what it may grow to. */
const MESSAGE_BYTES = Math.min(1024 * MIB, Math.floor(getHeapStatistics().heap_size_limit / 2));

export const defaultLimits: BrokerLimits = {
  connections: 5000,
  connectMs: 10_000,
  connectionsBeforeLogin: 1000,
  bodyBytesBeforeLogin: KIB,
  headerBytesBeforeLogin: 8 * KIB,
  errorsBeforeLogin: 10,
  errorsInARow: 100,
  bodyBytes: 16 * MIB,
  headerBytes: 256 * KIB,
  headerLineBytes: 100 * KIB,
  headers: 5000,
  subscriptionsPerConnection: 1000,
  transactionsPerConnection: 64,
  framesPerTransaction: 100_000,
  queues: 10_000,
  bindings: 10_000,
  messagesPerQueue: 2_000_000,
  bytesPerQueue: MESSAGE_BYTES,
  totalBytes: MESSAGE_BYTES,
};
