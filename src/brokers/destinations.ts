/**
 * Names, pure: what a destination given by a user means, and the names of the queues that go with it. They are
 * django-stomp's, so that both can serve one queue: `DLQ.<name>` for dead letters, and `Consumer.<app>.VirtualTopic.<n>`
 * for an application's own copy of what is sent to `/topic/VirtualTopic.<n>`.
 */
import { PubsubError } from '../errors.js';

/** What a consumer subscribes to. `queue` is the queue its messages wait in, on brokers where a topic needs one. */
export interface Source {
  readonly kind: 'queue' | 'topic' | 'virtual-topic';
  /** As the user wrote it. */
  readonly destination: string;
  readonly queue: string;
  /** Name of the topic, without `/topic/`. Equals `queue` for a plain queue. */
  readonly topic: string;
  readonly deadLetterQueue: string;
  /** Others declared the queue: it is used as it is. */
  readonly isExisting: boolean;
  /** The user vouches that the broker itself keeps what is rejected, in a queue of its own choice. */
  readonly keepsRejected: boolean;
}

const hint = 'use /queue/<name>, /topic/<name> or Consumer.<app>.VirtualTopic.<topic>';

function refuse(destination: string, problem: string, remedy = hint): never {
  throw new PubsubError(
    'invalid-destination',
    `cannot consume from ${JSON.stringify(destination)}: ${problem}; ${remedy}`,
  );
}

/**
 * Reads a destination to consume from: `/queue/x`, bare `x`, `/amq/queue/x` for one that others declared, `/topic/x`,
 * `Consumer.<app>.VirtualTopic.<n>` with or without `/queue/`. `queueName` is a service's own queue on a topic. Throws
 * `invalid-destination`.
 */
export function parseSource(destination: string, queueName?: string): Source {
  const [, prefix = '/queue/', name = ''] =
    /^(\/queue\/|\/amq\/queue\/|\/topic\/)?([^]*)$/.exec(destination) ?? [];
  const isTopic = prefix === '/topic/';
  if (name.trim() === '') refuse(destination, 'the name is empty');

  if (/[\r\n\0]/.test(name)) refuse(destination, 'the name contains a line break or a NUL byte');
  if (lacksSlash(destination)) refuse(destination, 'the first slash is missing', `write /${destination}`);
  if (name.startsWith('/')) refuse(destination, `${name.split('/', 2).join('/')}/ is no kind of source`);
  if (/^\.{1,2}\/|#/.test(name) && name.includes('/'))
    refuse(
      destination,
      'it looks like a callback',
      'the destination comes first: /queue/orders ./orders#onOrder',
    );
  if (name.includes('/')) refuse(destination, 'a name with "/" is ambiguous', 'RabbitMQ takes %2F instead');

  if (isTopic) {
    if (/^Consumer\..*\.VirtualTopic\./.test(name)) {
      refuse(destination, 'this is the queue of a virtual topic', `leave /topic/ away: ${name}`);
    }
    const queue = queueName ?? name;
    return { kind: 'topic', destination, topic: name, ...named(queue) };
  }
  if (queueName !== undefined)
    refuse(destination, '--queue-name is for /topic/ destinations', 'leave it away');
  if (prefix === '/amq/queue/')
    return { kind: 'queue', destination, topic: name, ...named(name), isExisting: true };
  if (/(?:^|\.)#(?:\.|$)/.test(name))
    refuse(destination, 'a queue cannot be named by a wildcard', 'name one queue, or consume a /topic/');
  if (/(?:^|,)[*>](?:[.,]|$)/.test(name))
    refuse(destination, 'this wildcard means dead-letter queues, too', 'begin with a word');
  if (/^Consumer\.|\.VirtualTopic(?:\.|$)/.test(name) && name.includes('VirtualTopic')) {
    const topic = feedingTopicOf(name);
    if (topic === undefined || name.includes('..')) {
      refuse(destination, 'app or topic is missing', 'the form is Consumer.<app>.VirtualTopic.<topic>');
    }
    return { kind: 'virtual-topic', destination, topic, ...named(name) };
  }
  return { kind: 'queue', destination, topic: name, ...named(name) };
}

/** Is it a pattern of queues, on the brokers that have such? */
export function hasWildcard(queue: string): boolean {
  return /(?:^|[.,])[*>](?:[.,]|$)/.test(queue);
}

/**
 * What one message of a source that means several queues, or topics, came from: told by its `destination`. Its dead letters
 * and retries belong to that one.
 */
export function sourceOfMessage(source: Source, destination = ''): Source {
  const [, kind, name] = /^\/(queue|topic)\/([^]+)$/.exec(destination) ?? [];
  if (name === undefined || (kind === 'topic') !== (source.kind === 'topic')) return source;
  // Unless the user has named one for all.
  const isOwn = source.deadLetterQueue === deadLetterQueueOf(kind === 'topic' ? source.topic : source.queue);
  return {
    ...source,
    queue: name,
    topic: name,
    deadLetterQueue: isOwn ? deadLetterQueueOf(name) : source.deadLetterQueue,
  };
}

const named = (queue: string) => ({
  queue,
  deadLetterQueue: deadLetterQueueOf(queue),
  isExisting: false,
  keepsRejected: false,
});

/** The virtual topic whose messages come to this queue, by its name. */
export function feedingTopicOf(queue: string): string | undefined {
  return /^Consumer\..+?\.(VirtualTopic\..+)$/.exec(queue)?.[1];
}

/**
 * The name of the queue an operator means: `/queue/x`, `/amq/queue/x` or bare `x`, whatever `x` is, since there may be a
 * queue of any name. Throws `invalid-destination`, also for a topic: that holds no messages.
 */
export function parseQueue(destination: string): string {
  const [, prefix = '', name = ''] = /^(\/queue\/|\/amq\/queue\/|\/[^/]*\/?)?([^]*)$/.exec(destination) ?? [];
  if (prefix === '/topic/')
    refuse(destination, 'a topic holds no messages', 'name the queue in which its messages wait');
  if (!['', '/queue/', '/amq/queue/'].includes(prefix)) refuse(destination, `${prefix} is no kind of source`);
  if (lacksSlash(destination)) refuse(destination, 'the first slash is missing', `write /${destination}`);
  if (name.trim() === '') refuse(destination, 'the name is empty');
  if (/[\r\n\0]/.test(name)) refuse(destination, 'the name contains a line break or a NUL byte');
  return name;
}

/** The name of the queue that a SEND to this destination goes to, or undefined for a topic and other kinds. */
export function queueNameOf(destination: string): string | undefined {
  return /^(?:\/queue\/|\/amq\/queue\/|(?!\/))([^]+)$/.exec(destination)?.[1];
}

/** Is it a queue whose messages have died elsewhere, by its name? */
export function isDeadLetterQueue(destination: string): boolean {
  return queueNameOf(destination)?.startsWith('DLQ.') === true;
}

/** `DLQ.` and the part after the last slash, as django-stomp names it for every destination it sends to. */
export function deadLetterQueueOf(destination: string): string {
  const slash = destination.lastIndexOf('/');
  return `DLQ.${slash > 0 ? destination.slice(slash + 1) : destination}`;
}

/** `queue/x` is a slip of the pen for `/queue/x`. */
const lacksSlash = (destination: string): boolean => /^(?:queue|topic)\//.test(destination);

/** Checks a destination to send to; it goes to the broker as it stands. Throws `invalid-destination`. */
export function checkTarget(destination: string): void {
  const name = destination.replace(/^(?:\/amq\/queue\/|\/[^/]*\/)/, '');
  const refuse = (problem: string) => {
    const message = `cannot publish to ${JSON.stringify(destination)}: ${problem}`;
    throw new PubsubError('invalid-destination', message);
  };
  if (name.trim() === '' || name === '/') refuse('the name is empty; use /queue/<name> or /topic/<name>');
  if (lacksSlash(destination)) refuse(`the first slash is missing; write /${destination}`);
  if (/^\/(?:queue|topic)\//.test(destination) && /(?:^|\.)[*#>](?:\.|$)/.test(name))
    refuse('wildcards are for consumers; name one queue or topic');
}
