/**
 * For tests of callbacks: a broker in this process and one message through one callback, without Docker. The broker
 * speaks STOMP on a socket like a real one and keeps everything in memory.
 */
import { pino } from 'pino';
import { consume } from './consume.js';
import type { DeadLetterReason } from './consumer/events.js';
import type { Callback, Payload } from './consumer/payload.js';
import type { Schema } from './consumer/schema.js';
import {
  startEmbeddedBroker,
  type BrokerLimits,
  type QueueState,
  type StoredMessage,
} from './embedded/broker.js';
import { providePino } from './late-pino.js';
import type { Logger } from './log.js';
import type { Settings } from './settings.js';
import { deadLetterQueueOf } from './brokers/destinations.js';
import { deadLetterArguments } from './brokers/queues.js';

export type { BrokerLimits, QueueState } from './embedded/broker.js';

providePino(pino);

export interface TestBrokerOptions {
  /** Default: a port that is free. */
  readonly port?: number;
  /** Both or none. */
  readonly user?: string;
  readonly password?: string;
  readonly limits?: Partial<BrokerLimits>;
}

export interface TestMessage {
  readonly headers: Readonly<Record<string, string>>;
  /** Parsed where it is JSON, else text. */
  readonly body: unknown;
  readonly raw: Uint8Array;
}

export interface TestBroker extends AsyncDisposable {
  /** `stomp://127.0.0.1:<port>` */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** The variables by which `pubsub`, `publish` and this library find the broker. */
  readonly env: Readonly<Record<string, string>>;
  /** Messages in a queue, those being processed included; 0 when there is no such queue. */
  depth(destination: string): number;
  /** The messages waiting in a queue, the next one first. */
  messages(destination: string): TestMessage[];
  queues(): QueueState[];
  /** Puts a message into a queue, or to a topic, as a publisher would. Anything but text and bytes is sent as JSON. */
  publish(destination: string, body: unknown, headers?: Readonly<Record<string, string>>): void;
  /** Breaks every connection, as a network does; unsettled messages go back. */
  dropConnections(): void;
  /** Resolves when the broker listens no more. */
  close(): Promise<void>;
}

/** Starts a broker on 127.0.0.1. Rejects when the port is taken. */
export async function startBroker(options: TestBrokerOptions = {}): Promise<TestBroker> {
  const embedded = await startEmbeddedBroker(options);
  const { host, port } = embedded;
  const close = () => embedded.close();
  return {
    url: `stomp://${host}:${port}`,
    host,
    port,
    env: {
      // One of who runs the test would name another broker.
      STOMP_URL: '',
      STOMP_SERVER_HOST: host,
      STOMP_SERVER_PORT: String(port),
      ...(options.user === undefined ? {} : { STOMP_SERVER_USER: options.user }),
      ...(options.password === undefined ? {} : { STOMP_SERVER_PASSWORD: options.password }),
    },
    depth: (destination) => embedded.depth(destination),
    messages: (destination) => embedded.messages(destination).map(asTestMessage),
    queues: () => embedded.queues(),
    publish: (destination, body, headers = {}) => {
      const isEncoded = typeof body === 'string' || body instanceof Uint8Array;
      // A queue must be declared with the arguments that publishers and consumers give it.
      const standard = deadLetterArguments(deadLetterQueueOf(destination));
      embedded.publish(destination, isEncoded ? body : JSON.stringify(body), { ...standard, ...headers });
    },
    dropConnections: () => embedded.dropConnections(),
    close,
    [Symbol.asyncDispose]: close,
  };
}

export interface OneMessage<Body = unknown> {
  /** Sent as JSON; text and bytes as they are. */
  readonly body: unknown;
  /** Default: a `correlation-id`. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly settings?: Partial<Settings>;
  /** What stands beside the callback in its module as `schema`. */
  readonly schema?: Schema<Body> | undefined;
}

export interface OneOutcome {
  readonly outcome: 'acked' | 'dead-lettered';
  readonly reason?: DeadLetterReason;
  /** What the callback threw, the last time. */
  readonly error?: unknown;
  /** What payload.publish sent with the ack, in its order; absent when there is nothing. */
  readonly published?: readonly PublishedMessage[];
}

export interface PublishedMessage {
  readonly destination: string;
  /** As a consumer gets it. */
  readonly body: unknown;
  /** As given, not those that every message has. */
  readonly headers: Readonly<Record<string, string>>;
}

const QUEUE = 'consume-once';

const ignore = () => undefined;
const silent: Logger = {
  debug: ignore,
  info: ignore,
  warn: ignore,
  error: ignore,
  isLevelEnabled: () => false,
};

/**
 * Runs the callback against one message, through a broker and a connection as in production, and resolves with what
 * became of the message. Rejects as `consume` does.
 */
export async function consumeOnce<Body = unknown>(
  callback: Callback<Body>,
  message: OneMessage<Body>,
): Promise<OneOutcome> {
  const broker = await startBroker();
  const stop = new AbortController();
  let published: PublishedMessage[] = [];
  /** The callback, whose publishing is seen and not changed. */
  const watched = (payload: Payload<Body>): unknown => {
    published = [];
    const publish: Payload['publish'] = (destination, body, options) => {
      payload.publish(destination, body, options);
      const isSentAsIs =
        options?.contentType !== undefined && (typeof body === 'string' || body instanceof Uint8Array);
      const received: unknown = isSentAsIs ? body : JSON.parse(JSON.stringify(body));
      published.push({ destination, body: received, headers: options?.headers ?? {} });
    };
    return (callback as Callback)(
      Object.create(payload, {
        publish: { value: publish },
        signal: { get: () => payload.signal },
      }) as Payload,
    );
  };
  let conclude: (outcome: OneOutcome) => void = () => undefined;
  const concluded = new Promise<OneOutcome>((resolve) => (conclude = resolve));
  try {
    const { host, port } = broker;
    const consuming = consume({
      useSsl: false,
      broker: 'auto',
      ...message.settings,
      host,
      port,
      destination: `/queue/${QUEUE}`,
      callback: watched,
      schema: message.schema,
      signal: stop.signal,
      log: silent,
      onSettled: ({ outcome, reason, error }) => {
        if (outcome === 'retried' || outcome === 'released') return;
        conclude({
          outcome,
          ...(reason === undefined ? {} : { reason: reason as DeadLetterReason }),
          ...(error === undefined ? {} : { error }),
          ...(outcome === 'dead-lettered' || published.length === 0 ? {} : { published }),
        });
        stop.abort();
      },
    });
    broker.publish(`/queue/${QUEUE}`, message.body, message.headers ?? { 'correlation-id': QUEUE });
    await consuming;
    return await concluded;
  } finally {
    await broker.close();
  }
}

function asTestMessage({ headers, body }: StoredMessage): TestMessage {
  const text = body.toString('utf8');
  try {
    return { headers, body: JSON.parse(text) as unknown, raw: body };
  } catch {
    return { headers, body: text, raw: body };
  }
}
