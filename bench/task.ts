/** What a measured process is asked for and what it answers, and the message that everything is measured with. */
import type { Login } from './raw-client.js';

/** `workers`: ours, with the callback in a worker process. `metered`: ours, with metrics and probes. */
export type Client = 'ours' | 'metered' | 'workers' | 'metered workers' | 'raw' | Peer;

/** Libraries that others use, as they come: the last two speak AMQP. */
export const peers = ['stompit', '@stomp/stompjs', 'amqplib', '@cloudamqp/amqp-client'] as const;
export type Peer = (typeof peers)[number];

/** What the callback does: `consume` acks, `forward` publishes one message and acks, `retry` throws every other time. */
export type CallbackWork = 'consume' | 'nack' | 'retry' | 'forward';

export type Work = CallbackWork | 'move' | 'redrive' | 'publish';

export interface Task {
  readonly client: Client;
  readonly work: Work;
  readonly login: Login;
  /** Of a peer: where it is installed, and where the broker listens for AMQP. */
  readonly peer?: { readonly folder: string; readonly amqpPort: number } | undefined;
  /** The queue that holds exactly the messages of this task, to redrive in its dead-letter queue; published to otherwise. */
  readonly queue: string;
  /** Prefetch, or how many messages may be unconfirmed. */
  readonly window: number;
  /** Messages before the measured ones. */
  readonly warmUp: number;
  readonly messages: number;
  /** Default: 100. */
  readonly bodyBytes?: number | undefined;
  /** Beside those that each message has. */
  readonly moreHeaders?: number | undefined;
  /** Consumers in one process, each with the window. Default: 1. */
  readonly consumers?: number | undefined;
}

export interface Measurement {
  readonly messagesPerSecond: number;
  /** Of all processes of the client. */
  readonly cpuMicrosPerMessage: number;
  /** Of the one that has the connection. */
  readonly consumerCpuMicrosPerMessage: number;
  /** Resident, of the process that measures. */
  readonly mostMib: number;
}

/** Where the messages of a task are before it, and where after it; undefined for nowhere. */
export function queuesOf({ work, queue }: Pick<Task, 'work' | 'queue'>): {
  readonly before: string | undefined;
  readonly after: string | undefined;
} {
  switch (work) {
    case 'consume':
    case 'retry':
      return { before: queue, after: undefined };
    case 'nack':
      return { before: queue, after: `DLQ.${queue}` };
    case 'forward':
    case 'move':
      return { before: queue, after: `${queue}-next` };
    case 'redrive':
      return { before: `DLQ.${queue}`, after: queue };
    case 'publish':
      return { before: undefined, after: queue };
  }
}

/** JSON of so many bytes, 100 at least, whatever the index below 9 million. */
export function makeBody(index: number, bytes = 100): unknown {
  const text = 'The quick brown fox jumps over a lazy dog. 12345678901';
  return { id: 1_000_000 + index, customer: 'c-000001', text: text.padEnd(text.length + bytes - 100, '.') };
}

export function makeHeaders(count: number): Record<string, string> {
  return Object.fromEntries(
    Array.from({ length: count }, (_, index) => [`x-own-${index}`, `value ${index}`]),
  );
}
