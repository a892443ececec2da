/** ActiveMQ Classic. Seen on the wire with 5.17.2. */
import type { Dialect } from './dialect.js';
import { plainQueue } from './queues.js';

/** The dead-letter queue of all queues, unless the broker is configured to have one for each. */
export const sharedDeadLetterQueue = 'ActiveMQ.DLQ';

/**
 * Is it the name of one queue? A comma separates the parts of a composite destination, which may name a kind of their own
 * (`topic://`), and `*` and `>` make a pattern: a SEND to either goes to all that they mean, a SUBSCRIBE takes from all.
 */
export function isOneQueue(name: string): boolean {
  return !/[,*>]|:\/\//.test(name);
}

export const activemq: Dialect = {
  name: 'activemq',
  subscribeHeaders: (source, { prefetch, durableName }) => ({
    destination: source.kind === 'topic' ? `/topic/${source.topic}` : `/queue/${source.queue}`,
    'activemq.prefetchSize': String(prefetch),
    ...(source.kind === 'topic' && durableName !== undefined
      ? { 'activemq.subscriptionName': durableName }
      : {}),
  }),
  knowsBareNames: true,
  destinationOf: plainQueue,
  declarations: () => [],
  subscriptionHeaders: [
    'selector',
    ...['exclusive', 'priority', 'dispatchAsync', 'retroactive', 'noLocal', 'maximumPendingMessageLimit'].map(
      (option) => `activemq.${option}`,
    ),
  ],
  // A queue is made when it is first used, whoever uses it.
  existing: (queue) => `/queue/${queue}`,
  nackHeaders: {},
  // A NACK destroys what is not persistent and what came through a topic subscription: neither reaches a dead-letter
  // queue. Nor does the NACK of a message that is in a dead-letter queue already, nor, but for one, those of the copies
  // that the queues of a virtual topic got: they share one id, which the dead-letter strategy takes for a repetition.
  survivesNack: (source, headers) =>
    source.kind !== 'topic' && headers.persistent === 'true' && !/^(?:DLQ|Consumer)\./.test(source.queue),
  outlivesItsConnection: ({ kind }, { durableName }) => kind !== 'topic' || durableName !== undefined,
  livesOnAfterError: true,
  commitsOneByOne: false,
  keepsMessageIds: true,
  hasVirtualHosts: false,
  declaresEmptyHanded: true,
  comparesArguments: false,
  swallowsWhenDeleted: false,
  hasTopicQueues: false,
  hasDelayQueues: false,
  canBrowse: true,
  takeHeaders: (queue, prefetch, isBrowsing) => ({
    destination: `/queue/${queue}`,
    'activemq.prefetchSize': String(prefetch),
    ...(isBrowsing ? { browser: 'true' } : {}),
  }),
  hasQueuePatterns: true,
  isOneQueue,
  // 200 to 400 of 4,000 with a prefetch of 800 to 5,000. Any number of small subscriptions get them all, in order.
  mostHeld: 200,
  returnsInOrder: false,
  // It refuses more than 1000, and ends the connection.
  mostHeaders: 980,
  deathHeaders: ['original-destination', 'x-first-death-queue'],
  warnings: () => [],
  // A subscription to a topic has no queue that one could send to.
  delayed: ({ kind, queue }, delayMs) =>
    kind === 'topic'
      ? undefined
      : { destination: `/queue/${queue}`, headers: { AMQ_SCHEDULED_DELAY: String(delayMs) } },
  comesBack: () => true,
  delaysByScheduler: true,
  behindOthers: ({ kind, queue }) =>
    kind === 'topic' ? undefined : { destination: `/queue/${queue}`, headers: {} },
};
