/** What a measured process is asked for and what it answers, and the message that everything is measured with. */
import type { Login } from './raw-client.js';

/** `workers`: ours, with the callback in a worker process. */
export type Client = 'ours' | 'workers' | 'raw';

export interface Task {
  readonly client: Client;
  readonly work: 'consume' | 'publish';
  readonly login: Login;
  /** Consuming: holds exactly the messages of this task. */
  readonly queue: string;
  /** Prefetch, or how many messages may be unconfirmed. */
  readonly window: number;
  /** Messages before the measured ones. */
  readonly warmUp: number;
  readonly messages: number;
}

export interface Measurement {
  readonly messagesPerSecond: number;
  /** Of all processes of the client. */
  readonly cpuMicrosPerMessage: number;
  /** Of the one that has the connection. */
  readonly consumerCpuMicrosPerMessage: number;
}

/** 100 bytes of JSON, whatever the index below 9 million. */
export function makeBody(index: number): unknown {
  return {
    id: 1_000_000 + index,
    customer: 'c-000001',
    text: 'The quick brown fox jumps over a lazy dog. 12345678901',
  };
}
