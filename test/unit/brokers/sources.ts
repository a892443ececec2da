/** What the tests of the products consume from, and how. */
import { parseSource } from '../../../src/brokers/destinations.js';

export const options = {
  prefetch: 3,
  isExclusive: false,
  durableName: undefined,
  queueType: 'classic',
  queueArguments: {},
} as const;
export const classic = { queueType: 'classic', queueArguments: {}, declare: true } as const;
export const queue = parseSource('/queue/orders');
export const topic = parseSource('/topic/prices', 'shop');
export const virtualTopic = parseSource('Consumer.shop.VirtualTopic.prices');
export const persistent = { persistent: 'true' };
