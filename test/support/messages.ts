/**
 * Putting messages into a broker and looking at what is in a queue, for every broker alike. Hides how each declares its
 * queues and how the end of a queue is recognised: by a message of our own behind all others, not by silence.
 */
import { randomUUID } from 'node:crypto';
import type { Frame } from '../../src/stomp/frames.js';
import type { BrokerUnderTest } from './brokers.js';
import type { Ledger } from './ledger.js';
import {
  connectRaw,
  ErrorFrame,
  type RawClient,
  type RawHeaders,
  settlingHeaders,
  withRaw,
} from './raw-client.js';
import { until } from './until.js';

const DRAIN_DEADLINE_MS = 60_000;
const SENTINEL = 'x-test-sentinel';

export interface DrainOptions {
  /** Waits for so many: dead-lettering is not finished when its NACK is confirmed. */
  readonly atLeast?: number;
  readonly deadlineMs?: number;
}

/** `/queue/orders`, `/amq/queue/orders` and `orders` are one queue. */
export function queueNameOf(destination: string): string {
  return destination.replace(/^(?:\/amq)?\/queue\//, '');
}

/** The headers by which a queue is declared like the product declares it; none where queues have no arguments. */
export function declaringHeaders(broker: BrokerUnderTest, destination: string): RawHeaders {
  if (!broker.capabilities.queueArguments || !/^(?:\/queue\/|[^/])/.test(destination)) return {};
  return {
    'x-dead-letter-exchange': '',
    'x-dead-letter-routing-key': `DLQ.${queueNameOf(destination)}`,
  };
}

/**
 * Sends a persistent message, confirmed when this resolves. A queue is declared as the product declares it; `headers`
 * win over all others and undefined leaves one out. A body that is neither text nor bytes is sent as JSON.
 */
export function put(
  broker: BrokerUnderTest,
  destination: string,
  body: unknown,
  headers: RawHeaders = {},
): Promise<void> {
  return putAll(broker, destination, [body], headers);
}

/** Many of them, in this order, on one connection. */
export async function putAll(
  broker: BrokerUnderTest,
  destination: string,
  bodies: readonly unknown[],
  headers: RawHeaders = {},
): Promise<void> {
  const all = { ...declaringHeaders(broker, destination), ...headers };
  const target =
    fullName(broker, queueNameOf(destination)) ??
    (destination.includes('/') ? destination : `/queue/${destination}`);
  await withRaw(broker, async (client) => {
    await Promise.all(bodies.map((body) => client.put(target, body, all)));
  });
}

/**
 * Takes and resolves with all messages that wait in a queue now, oldest first; a queue that does not exist is empty.
 * The end is certain, not a matter of time: after subscribing it sends two messages of its own, one persistent and one
 * not (ActiveMQ orders each kind by itself), and everything that was in the queue comes before these. Nobody else may
 * consume from the queue meanwhile. No arguments of the queue are checked or set.
 */
export async function drainQueue(
  broker: BrokerUnderTest,
  destination: string,
  options: DrainOptions = {},
): Promise<Frame[]> {
  const { atLeast = 0, deadlineMs = DRAIN_DEADLINE_MS } = options;
  const queue = existingQueue(broker, destination);
  const client = await subscribedTo(broker, queue);
  if (client === undefined) {
    if (atLeast === 0) return [];
    throw new Error(`${destination} does not exist; expected are ${atLeast} messages in it`);
  }
  try {
    const run = randomUUID();
    for (const persistent of ['true', undefined]) {
      await client.receipt('SEND', { destination: queue, persistent, [SENTINEL]: run }, 'end');
    }
    const messages: Frame[] = [];
    let ends = 0;
    const takeAll = () => {
      // Acked as they come: a broker sends only so many un-acked ones.
      for (const message of client.takeArrived('MESSAGE')) {
        client.send('ACK', settlingHeaders(message));
        if (message.headers[SENTINEL] === undefined) messages.push(message);
        else if (message.headers[SENTINEL] === run) ends++;
      }
      return ends === 2 && messages.length >= atLeast;
    };
    await until(
      takeAll,
      deadlineMs,
      () => `${atLeast} messages and the end of ${destination}; came: ${messages.length}`,
    );
    await client.disconnect();
    return messages;
  } finally {
    client.destroy();
  }
}

/** Resolves with the first message of a queue, which stays there. */
export function firstIn(broker: BrokerUnderTest, destination: string): Promise<Frame> {
  return withRaw(broker, async (client) => {
    await client.subscribe(existingQueue(broker, destination));
    const message = await client.next('MESSAGE', { reason: `a message in ${destination}` });
    await client.disconnect();
    return message;
  });
}

/** The bodies of the messages that drainQueue takes, as text. */
export async function bodiesIn(broker: BrokerUnderTest, destination: string, atLeast = 0): Promise<string[]> {
  return (await drainQueue(broker, destination, { atLeast })).map(({ body }) => body.toString());
}

/**
 * What a stop leaves of a ledger's messages in these queues, into the ledger: until none is missing and so many are there
 * twice. A broker may give some back a moment after the stop.
 */
export async function takeLeft(
  broker: BrokerUnderTest,
  queues: readonly string[],
  ledger: Ledger,
  repeated = 0,
): Promise<void> {
  const isAllThere = async () => {
    for (const queue of queues)
      for (const body of await bodiesIn(broker, queue)) ledger.count((JSON.parse(body) as { n: number }).n);
    return ledger.lost === 0 && ledger.repeated >= repeated;
  };
  const state = () =>
    `all left in ${queues.join(' and ')}; missing: ${ledger.lost}, repeated: ${ledger.repeated}`;
  await until(isAllThere, DRAIN_DEADLINE_MS, state);
}

/** Does queueDepth know it of this broker? */
export const canCount = ({ ctl, capabilities }: BrokerUnderTest): boolean =>
  ctl !== undefined || capabilities.browsing;

/**
 * How many messages a queue holds, delivered and un-acked ones included, without taking any: by `rabbitmqctl` or by
 * browsing. Throws for a broker that offers neither; a queue that does not exist holds 0.
 */
export async function queueDepth(broker: BrokerUnderTest, destination: string): Promise<number> {
  const name = queueNameOf(destination);
  if (broker.ctl !== undefined) {
    const lines = (await broker.ctl('list_queues', '--no-table-headers', 'name', 'messages')).split('\n');
    return Number(lines.find((line) => line.startsWith(`${name}\t`))?.split('\t')[1] ?? 0);
  }
  if (!broker.capabilities.browsing) throw new Error(`${broker.name} cannot count without taking`);
  return withRaw(broker, async (client) => {
    await client.subscribe(`/queue/${name}`, { browser: 'true' });
    await client.next((frame) => frame.headers.browser === 'end', { reason: 'the end of browsing' });
    return client.frames.filter((frame) => frame.command === 'MESSAGE').length - 1;
  });
}

/** The queue under a name that neither declares it nor compares arguments, where the broker has one. */
function existingQueue(broker: BrokerUnderTest, destination: string): string {
  const name = queueNameOf(destination);
  const full = fullName(broker, name);
  if (full !== undefined) return full;
  return broker.capabilities.queueArguments ? `/amq/queue/${name}` : `/queue/${name}`;
}

/** The only name of a virtual topic's queue, where it has one. */
function fullName(broker: BrokerUnderTest, name: string): string | undefined {
  const topic = /^Consumer\.[^.]+\.(VirtualTopic\..+)$/.exec(name)?.[1];
  return broker.capabilities.fullNames && topic !== undefined ? `/topic/${topic}::${name}` : undefined;
}

/** A connection that is subscribed to a queue; undefined where there is none. */
async function subscribedTo(broker: BrokerUnderTest, queue: string): Promise<RawClient | undefined> {
  for (let tries = 1; ; tries++) {
    const client = await connectRaw(broker);
    try {
      // With thousands open at a time ActiveMQ 5.17.2 now and then stops handing out before the end of a queue.
      // Artemis hands out 10 kB at a time unless it is told that any number of bytes will do.
      await client.subscribe(queue, { 'activemq.prefetchSize': '500', 'consumer-window-size': '-1' });
      return client;
    } catch (error) {
      client.destroy();
      if (error instanceof ErrorFrame && error.frame.headers.message === 'not_found') return undefined;
      // RabbitMQ 4.0.5 leaves one for a quorum queue without an answer once in a long while, when a node has just come back.
      if (error instanceof ErrorFrame || tries === 2) throw error;
    }
  }
}
