/** RabbitMQ. Seen on the wire with 3.10.8 unless said otherwise. */
import type { Headers } from '../stomp/frames.js';
import type { Source } from './destinations.js';
import type { Dialect } from './dialect.js';
import { quorumDeliveryLimit } from './delivery-limit.js';
import { existingQueue, plainQueue, queueArguments } from './queues.js';

const sharedTopic = (topic: string): string =>
  topic.startsWith('VirtualTopic.')
    ? `all services on this topic share one queue; consume Consumer.<app>.${topic} to have your own copy`
    : 'all services on this topic share one queue; --queue-name gives this one its own';

/** One subscription declares the queue of a topic and binds it. */
const placeOf = ({ kind, queue, topic }: Source): Headers =>
  kind === 'queue'
    ? { destination: `/queue/${queue}` }
    : // The defaults of /topic/ are a transient queue that goes with its last consumer, so both headers are needed.
      { destination: `/topic/${topic}`, 'x-queue-name': queue, durable: 'true', 'auto-delete': 'false' };

const unseenExchange =
  'dead letters are left to RabbitMQ, which destroys them if the queue has no dead-letter exchange: nobody can see that over STOMP';

/** The way back from a delay queue is the broker's own, which only a policy makes safe: STOMP can neither set nor see it. */
const unsafeRetries =
  'retries come back by RabbitMQ itself, at most once when a node dies; make that at least once: ' +
  `rabbitmqctl set_policy --apply-to queues retries '\\.retry\\.\\d+$' ` +
  `'{"dead-letter-strategy":"at-least-once","overflow":"reject-publish"}'`;

export const rabbitmq: Dialect = {
  name: 'rabbitmq',
  subscribeHeaders: (source, { prefetch, isExclusive, queueType, queueArguments: own }) => ({
    'prefetch-count': String(prefetch),
    ...(source.isExisting
      ? { destination: existingQueue(source.queue) }
      : {
          ...placeOf(source),
          ...(isExclusive ? { exclusive: 'true' } : {}),
          ...queueArguments(source.deadLetterQueue, queueType),
          ...own,
        }),
  }),
  knowsBareNames: true,
  destinationOf: plainQueue,
  // Of the same type: a dead letter must survive what its message survives.
  declarations: ({ deadLetterQueue, isExisting }, queueType) => {
    if (isExisting) return [];
    const named = (queue: string) => ({
      destination: `/queue/${queue}`,
      headers: queueArguments(`DLQ.${queue}`, queueType),
    });
    // A quorum queue drops a message that was delivered too often (20 times on RabbitMQ 4), to its own dead-letter queue.
    return queueType === 'quorum'
      ? [named(deadLetterQueue), named(`DLQ.${deadLetterQueue}`)]
      : [named(deadLetterQueue)];
  },
  // Without requeue:false, or with any other spelling than false or False, RabbitMQ redelivers at once, for ever.
  nackHeaders: { requeue: 'false' },
  subscriptionHeaders: ['x-stream-offset'],
  existing: existingQueue,
  // Nobody can see over STOMP whether a queue of others has a dead-letter exchange. A NACK of a stream's message ends the
  // connection.
  survivesNack: ({ isExisting, keepsRejected }, headers) =>
    !isExisting || (keepsRejected && headers['x-stream-offset'] === undefined),
  outlivesItsConnection: (_source, { isExclusive }) => !isExclusive,
  livesOnAfterError: false,
  commitsOneByOne: true,
  // It names subscription, session and number of the delivery.
  keepsMessageIds: false,
  hasVirtualHosts: true,
  declaresEmptyHanded: true,
  comparesArguments: true,
  swallowsWhenDeleted: true,
  hasTopicQueues: true,
  hasDelayQueues: true,
  canBrowse: false,
  // What is delivered and not acked goes back to its place.
  takeHeaders: (queue, prefetch) => ({
    destination: existingQueue(queue),
    'prefetch-count': String(prefetch),
  }),
  hasQueuePatterns: false,
  isOneQueue: () => true,
  deliveryLimit: quorumDeliveryLimit,
  // The prefetch has 16 bits.
  mostHeld: 65_535,
  returnsInOrder: true,
  mostHeaders: Infinity,
  deathHeaders: ['x-first-death-queue', 'original-destination'],
  warnings: ({ kind, queue, topic, keepsRejected }, { queueType, hasRetries }) => [
    ...(keepsRejected ? [unseenExchange] : []),
    ...(kind === 'topic' && queue === topic ? [sharedTopic(topic)] : []),
    ...(queueType === 'quorum' && hasRetries ? [unsafeRetries] : []),
  ],
  // A queue whose messages die of age back into the source's. The delay is an argument of it, so that each has its own: a
  // message with a limit of its own would wait behind others with a longer one. It is never removed: a SEND to a queue
  // that was deleted after the connection's first SEND to it is confirmed and dropped.
  delayed: ({ queue }, delayMs, queueType) => ({
    destination: `/queue/${queue}.retry.${delayMs}`,
    headers: { ...queueArguments(queue, queueType), 'x-message-ttl': String(delayMs) },
  }),
  // What expires into a stream is dropped.
  comesBack: (headers) => headers['x-stream-offset'] === undefined,
  delaysByScheduler: false,
  behindOthers: ({ queue, deadLetterQueue, isExisting }, queueType, own) =>
    isExisting
      ? { destination: existingQueue(queue), headers: {} }
      : {
          destination: `/queue/${queue}`,
          headers: { ...queueArguments(deadLetterQueue, queueType), ...own },
        },
};

/** 4.3.6 takes 100 headers of a SEND, and closes the connection without a word at more. 4.0.5 takes any number. */
export const rabbitmqWithFewHeaders: Dialect = { ...rabbitmq, mostHeaders: 94 };
