/**
 * Which queue dead letters are in, and which they go back to. A dead-letter queue named after its queue tells that itself;
 * headers are a stranger's word, and decide only where one dead-letter queue serves all.
 */
import type { Headers } from '../stomp/frames.js';
import { isOneQueue, sharedDeadLetterQueue } from './activemq.js';
import { feedingTopicOf } from './destinations.js';

/** The dead-letter queue that is meant by its own name, or by that of the queue it belongs to. */
export function deadLetterQueueMeant(queue: string): string {
  return queue.startsWith('DLQ.') || queue === sharedDeadLetterQueue ? queue : `DLQ.${queue}`;
}

/** The name of the queue, or why none can be told. */
export type Origin = { readonly queue: string } | { readonly problem: string };

/**
 * Where a message of a dead-letter queue came from. `deathHeaders` are those that tell it on this broker where the queue
 * is shared, the surest first.
 */
export function originOf(
  headers: Readonly<Headers>,
  deadLetterQueue: string,
  deathHeaders: readonly string[],
): Origin {
  if (deadLetterQueue === sharedDeadLetterQueue) return originNamed(headers, deathHeaders);
  const queue = deadLetterQueue.replace(/^DLQ\./, '');
  // Of the subscription to a topic of ActiveMQ, which has no queue. That of a virtual topic has: it is the queue's feeder.
  const topic = /^\/topic\/([^]*)$/.exec(headers['original-destination'] ?? '')?.[1];
  return topic === undefined || topic === feedingTopicOf(queue) ? { queue } : byTopic(topic);
}

/** Told by the message: by the broker's word before the publisher's. */
function originNamed(headers: Readonly<Headers>, deathHeaders: readonly string[]): Origin {
  const names = [...deathHeaders, 'tshoot-destination'];
  const named = names.map((name) => headers[name]).filter((value) => value !== undefined);
  const queue = named.map(queueNamed).find((name) => name !== undefined);
  if (queue !== undefined) return { queue };
  const topic = named.map((value) => /^\/topic\/([^]+)$/.exec(value)?.[1]).find((name) => name !== undefined);
  if (topic !== undefined) return byTopic(topic);
  return { problem: `none of ${names.join(', ')} names a queue that it could safely go back to` };
}

const byTopic = (topic: string): Origin => ({
  problem: `it came by the topic ${topic}, where all subscribers would get it again`,
});

/** One queue, that is no shared dead-letter queue. */
function queueNamed(value: string): string | undefined {
  const name = /^(?:\/queue\/|\/amq\/queue\/)?([^/\p{Cc}][^\p{Cc}]*)$/u.exec(value)?.[1];
  if (name === undefined || name === sharedDeadLetterQueue || !isOneQueue(name)) return undefined;
  return name;
}
