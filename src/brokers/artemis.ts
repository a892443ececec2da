/**
 * ActiveMQ Artemis, from its documentation and source: not exercised. Its acceptor must map /queue/ and /topic/
 * (`anycastPrefix`, `multicastPrefix`).
 */
import { isOneQueue } from './activemq.js';
import type { Dialect } from './dialect.js';

export const artemis: Dialect = {
  name: 'artemis',
  subscribeHeaders: (source, { durableName }) => ({
    ...(source.kind === 'virtual-topic'
      ? { destination: `/topic/${source.topic}::${source.queue}`, 'subscription-type': 'MULTICAST' }
      : source.kind === 'topic'
        ? { destination: `/topic/${source.topic}`, 'subscription-type': 'MULTICAST' }
        : { destination: `/queue/${source.queue}`, 'subscription-type': 'ANYCAST' }),
    ...(source.kind === 'topic' && durableName !== undefined
      ? { 'durable-subscription-name': durableName }
      : {}),
    // The window is counted in bytes; 0 is one message at a time, the only prefetch that can be expressed.
    'consumer-window-size': '0',
  }),
  declarations: () => [],
  nackHeaders: {},
  // Artemis treats a NACK as an ACK (StompFrameHandlerV11.onNack).
  survivesNack: () => false,
  outlivesItsConnection: ({ kind }, { durableName }) => kind !== 'topic' || durableName !== undefined,
  commitsOneByOne: false,
  keepsMessageIds: true,
  comparesArguments: false,
  swallowsWhenDeleted: false,
  hasTopicQueues: false,
  hasDelayQueues: false,
  canBrowse: false,
  takeHeaders: (queue) => ({
    destination: `/queue/${queue}`,
    'subscription-type': 'ANYCAST',
    'consumer-window-size': '0',
  }),
  isOneQueue,
  mostHeld: 1,
  returnsInOrder: false,
  mostHeaders: Infinity,
  deathHeaders: ['original-destination', 'x-first-death-queue'],
  warnings: () => [],
  delayed: () => undefined,
  delaysByScheduler: false,
  behindOthers: () => undefined,
};
