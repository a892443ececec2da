/** What brokers allow, as far as it is known without asking: by product and version, where nobody sets another limit. */
import type { Dialect } from './dialect.js';
import { existingQueue } from './queues.js';

/** A queue of our own, for messages that nobody else is to see. */
export const CHECK_QUEUE = 'stomp-pubsub.check';

/** Where to a SEND in a transaction that is aborted declares nothing (RabbitMQ 3.10.8, ActiveMQ 5.17.2); undefined if unknown. */
export function harmlessDestination({ name }: Dialect): string | undefined {
  if (name === 'activemq') return `/temp-queue/${CHECK_QUEUE}`;
  return name === 'artemis' ? undefined : existingQueue(CHECK_QUEUE);
}

export interface ConsumerTimeout {
  readonly seconds: number;
  /** Other queues have no such limit. */
  readonly isOfQuorumQueues: boolean;
}

/**
 * How long a message may stay un-acked before RabbitMQ takes it away (`consumer_timeout`); undefined where there is no such
 * limit. 3.8.15 began with 15 minutes, since 3.8.17 it is 30. Since 4.3.0 it is a matter of the queue, and 4.3.6 has none in
 * classic queues.
 */
export function consumerTimeoutOf(server: string | undefined): ConsumerTimeout | undefined {
  const [, major, minor, patch] = /^RabbitMQ\/(\d+)\.(\d+)\.(\d+)/.exec(server ?? '') ?? [];
  if (major === undefined) return undefined;
  const version = Number(major) * 1_000_000 + Number(minor) * 1000 + Number(patch);
  if (version < 3_008_015) return undefined;
  return { seconds: version < 3_008_017 ? 900 : 1800, isOfQuorumQueues: version >= 4_003_000 };
}
