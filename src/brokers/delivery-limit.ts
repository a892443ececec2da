/**
 * Quorum queues count deliveries and drop a message that has had too many, without a word: into its dead-letter target if
 * there is one, else for good. A message that is only looked at is delivered too. Seen on RabbitMQ 3.10.8, which has no
 * limit of its own; that of RabbitMQ 4 is 20.
 */
import type { Headers } from '../stomp/frames.js';

export interface DeliveryLimit {
  /** Of a queue for which nobody has set another. */
  readonly standard: number;
  /** How often a message was delivered before. */
  readonly deliveriesOf: (headers: Readonly<Headers>) => number;
  /** What to type so that a queue has another limit: `raised`. */
  readonly raised: number;
  readonly remedy: (queue: string) => string;
}

const RAISED = 1_000_000;

export const quorumDeliveryLimit: DeliveryLimit = {
  standard: 20,
  // For ever, so to speak. RabbitMQ 4 takes -1 too, 3.10.8 does not.
  raised: RAISED,
  // Of classic queues, which do not count, the header is the sender's: without the broker's `redelivered` it means nothing.
  deliveriesOf: ({ redelivered, 'x-delivery-count': count = '' }) =>
    redelivered === 'true' && /^\d{1,9}$/.test(count) ? Number(count) : 0,
  remedy: (queue) => {
    const isDeadLetterQueue = queue.startsWith('DLQ.');
    const pattern = isDeadLetterQueue ? '^DLQ\\.' : `^${queue.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')}$`;
    const name = isDeadLetterQueue ? 'dlq-delivery-limit' : 'delivery-limit';
    const quoted = `'${pattern.replaceAll("'", "'\\''")}'`;
    return `rabbitmqctl set_policy --apply-to queues ${name} ${quoted} '{"delivery-limit":${RAISED}}'`;
  },
};
