/** The queues that we and django-stomp declare: with which arguments, and by which names all queues are addressed. */
import type { Headers } from '../stomp/frames.js';

/** RabbitMQ: kept on one node, or on a majority of a cluster's. */
export type QueueType = 'classic' | 'quorum';

/** A queue to bring into being: the headers of a SEND that would declare it. */
export interface Declaration {
  readonly destination: string;
  readonly headers: Headers;
}

/** How the queues that are sent to come into being, as the settings say. */
export interface QueueRules {
  readonly queueType: QueueType;
  /** Beside those that every queue has. */
  readonly queueArguments: Readonly<Headers>;
  /** The only queue that has these; undefined: all have. */
  readonly argumentsOf?: string;
  /** False: each is there, as others declared it, and is used as it is. */
  readonly declare: boolean;
}

/** The arguments django-stomp gives every queue; any other value is `precondition_failed` for one of the two. */
export function deadLetterArguments(deadLetterQueue: string): Headers {
  return { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': deadLetterQueue };
}

/** All arguments of a queue. A classic one is declared without a type, as django-stomp does. */
export function queueArguments(deadLetterQueue: string, queueType: QueueType): Headers {
  return {
    ...deadLetterArguments(deadLetterQueue),
    ...(queueType === 'classic' ? {} : { 'x-queue-type': queueType }),
  };
}

/** The queue of that name, on every broker where names alone tell queues apart. */
export function plainQueue(queue: string): string {
  return `/queue/${queue}`;
}

const EXISTING = '/amq/queue/';

/** RabbitMQ's name for a queue that is neither declared nor compared. A SEND to a missing one is confirmed and lost. */
export function existingQueue(queue: string): string {
  return `${EXISTING}${queue}`;
}

/** The queue that such a name means; undefined for other destinations. */
export function existingQueueOf(destination: string): string | undefined {
  return destination.startsWith(EXISTING) ? destination.slice(EXISTING.length) : undefined;
}
