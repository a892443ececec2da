/**
 * ActiveMQ Artemis. Seen on the wire with 2.40.0. Its acceptor must map /queue/ and /topic/ (`anycastPrefix`,
 * `multicastPrefix`). An address has queues; one of a virtual topic is named with its address, or Artemis takes its name for
 * that of another address, and refuses a second queue of that name.
 */
import { isOneQueue } from './activemq.js';
import { feedingTopicOf } from './destinations.js';
import type { Dialect } from './dialect.js';
import { plainQueue } from './queues.js';

/** The queue by its full name. */
function destinationOf(queue: string): string {
  const topic = feedingTopicOf(queue);
  return topic === undefined ? plainQueue(queue) : `/topic/${topic}::${queue}`;
}

/** The window is counted in bytes; 0 is one message at a time, the only number of them that can be expressed. */
const oneByOne = { 'consumer-window-size': '0' };

export const artemis: Dialect = {
  name: 'artemis',
  subscribeHeaders: (source, { durableName }) => ({
    destination: source.kind === 'topic' ? `/topic/${source.topic}` : destinationOf(source.queue),
    ...(source.kind === 'topic' && durableName !== undefined
      ? { 'durable-subscription-name': durableName }
      : {}),
    ...oneByOne,
  }),
  // It takes one for a topic, and drops what is sent there.
  knowsBareNames: false,
  destinationOf,
  declarations: () => [],
  subscriptionHeaders: ['selector'],
  existing: destinationOf,
  nackHeaders: {},
  // A NACK is an ACK: the message is gone.
  survivesNack: () => false,
  outlivesItsConnection: ({ kind }, { durableName }) => kind !== 'topic' || durableName !== undefined,
  // Each frame behind it gets an ERROR of its own: that the connection is not valid.
  livesOnAfterError: false,
  commitsOneByOne: false,
  keepsMessageIds: false,
  hasVirtualHosts: false,
  declaresEmptyHanded: false,
  comparesArguments: false,
  swallowsWhenDeleted: false,
  hasTopicQueues: false,
  hasDelayQueues: false,
  canBrowse: false,
  takeHeaders: (queue) => ({ destination: destinationOf(queue), ...oneByOne }),
  hasQueuePatterns: false,
  isOneQueue,
  mostHeld: 1,
  returnsInOrder: true,
  mostHeaders: Infinity,
  deathHeaders: ['_AMQ_ORIG_QUEUE', 'original-destination'],
  warnings: () => [],
  // A subscription to a topic has no queue that one could send to.
  delayed: ({ kind, queue }, delayMs) =>
    kind === 'topic'
      ? undefined
      : { destination: destinationOf(queue), headers: { AMQ_SCHEDULED_DELAY: String(delayMs) } },
  behindOthers: ({ kind, queue }) =>
    kind === 'topic' ? undefined : { destination: destinationOf(queue), headers: {} },
  comesBack: () => true,
  // It always has one.
  delaysByScheduler: false,
};
