/**
 * What differs between broker products, side by side: one object for each product, and what their ERROR frames mean to
 * an operator. Seen on the wire with RabbitMQ 3.10.8 and ActiveMQ Classic 5.17.2. Artemis is built from its
 * documentation and source and has not been exercised.
 */
import type { Source } from './destinations.js';
import type { Headers } from './frames.js';

/** RabbitMQ: kept on one node, or on a majority of a cluster's. */
export type QueueType = 'classic' | 'quorum';

export interface SubscribeOptions {
  /** Messages the broker may deliver before the first is settled; at least 1. */
  readonly prefetch: number;
  /** RabbitMQ: the queue belongs to this connection alone. */
  readonly isExclusive: boolean;
  readonly queueType: QueueType;
  /** ActiveMQ: the name a durable topic subscription is kept under; undefined for none. */
  readonly durableName: string | undefined;
}

/** A queue to bring into being: the headers of a SEND that would declare it. */
export interface Declaration {
  readonly destination: string;
  readonly headers: Headers;
}

export interface Dialect {
  readonly name: 'rabbitmq' | 'activemq' | 'artemis' | 'embedded';
  /** Destination and product-specific headers of the SUBSCRIBE; acknowledgement mode and id are the caller's. */
  subscribeHeaders(source: Source, options: SubscribeOptions): Headers;
  /** Queues that must exist before a message can be dead-lettered, beyond those the SUBSCRIBE declares. */
  declarations(source: Source, queueType: QueueType): readonly Declaration[];
  readonly nackHeaders: Headers;
  /** Does a NACK put this message into the dead-letter queue? If not it must be sent there, then acked. */
  canDeadLetterByNack(source: Source, headers: Readonly<Headers>): boolean;
  /** Do messages wait for a subscription whose connection is gone? If not, giving up a connection loses some. */
  outlivesItsConnection(source: Source, options: SubscribeOptions): boolean;
  /** Is a transaction carried out frame by frame at COMMIT, up to the first that fails? */
  readonly commitsOneByOne: boolean;
  /** Does a message come with the same message-id on every connection? */
  readonly keepsMessageIds: boolean;
  /** Are queues declared with arguments, which a SEND or SUBSCRIBE must repeat? */
  readonly hasQueueArguments: boolean;
  /** Is a SEND confirmed before the queue it declares is there, or refused? */
  readonly declaresLater: boolean;
  /** Can a queue be looked at without taking from it? */
  readonly canBrowse: boolean;
  /** Destination and headers by which messages are taken off a queue, or only looked at, without declaring it. */
  takeHeaders(queue: string, prefetch: number, isBrowsing: boolean): Headers;
  /** Un-acked messages that one subscription gets at most, whatever its prefetch. */
  readonly mostHeld: number;
  /**
   * Do un-acked messages find back to their places when the connection of several subscriptions ends? If not, each
   * subscription must be ended before that, in the order in which they got the messages.
   */
  readonly returnsInOrder: boolean;
  /** So many headers can a SEND have, with some room for what the broker adds when it delivers the message. */
  readonly mostHeaders: number;
  /** Headers by which the broker tells where a dead letter died, the surest first. */
  readonly deathHeaders: readonly string[];
  /** What whoever starts a consumer of this source should know, or undefined. */
  warning(source: Source): string | undefined;
  /**
   * Do an ACK and SENDs in one transaction happen all or none? If not, what is sent must be confirmed before the ACK goes
   * out. A NACK is never part of one: it makes ActiveMQ 5.17 refuse the COMMIT.
   */
  readonly acksJoinTransactions: boolean;
  /**
   * Where to a copy of a message is sent so that it comes to the source's queue after the delay, and by which headers;
   * undefined where it cannot.
   */
  delayed(source: Source, delayMs: number, queueType: QueueType): Declaration | undefined;
  /** Does a scheduler delay messages, which the broker may lack? Without it a message comes at once, and nobody is told. */
  readonly delaysByScheduler: boolean;
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

/** RabbitMQ's name for a queue that is neither declared nor compared. A SEND to a missing one is confirmed and lost. */
export function existingQueue(queue: string): string {
  return `/amq/queue/${queue}`;
}

const rabbitmq: Dialect = {
  name: 'rabbitmq',
  subscribeHeaders: (source, { prefetch, isExclusive, queueType }) => ({
    ...(source.kind === 'queue'
      ? { destination: `/queue/${source.queue}` }
      : {
          // One subscription declares the queue and binds it. The defaults of /topic/ are a transient queue that goes
          // with its last consumer, so both headers are needed.
          destination: `/topic/${source.topic}`,
          'x-queue-name': source.queue,
          durable: 'true',
          'auto-delete': 'false',
        }),
    ...(isExclusive ? { exclusive: 'true' } : {}),
    'prefetch-count': String(prefetch),
    ...queueArguments(source.deadLetterQueue, queueType),
  }),
  // Of the same type: a dead letter must survive what its message survives.
  declarations: ({ deadLetterQueue }, queueType) => [
    {
      destination: `/queue/${deadLetterQueue}`,
      headers: queueArguments(`DLQ.${deadLetterQueue}`, queueType),
    },
  ],
  // Without requeue:false, or with any other spelling than false or False, RabbitMQ redelivers at once, for ever.
  nackHeaders: { requeue: 'false' },
  canDeadLetterByNack: () => true,
  outlivesItsConnection: (_source, { isExclusive }) => !isExclusive,
  commitsOneByOne: true,
  // It names subscription, session and number of the delivery.
  keepsMessageIds: false,
  hasQueueArguments: true,
  declaresLater: true,
  canBrowse: false,
  // What is delivered and not acked goes back to its place.
  takeHeaders: (queue, prefetch) => ({
    destination: existingQueue(queue),
    'prefetch-count': String(prefetch),
  }),
  // The prefetch has 16 bits.
  mostHeld: 65_535,
  returnsInOrder: true,
  mostHeaders: Infinity,
  deathHeaders: ['x-first-death-queue', 'original-destination'],
  warning: ({ kind, queue, topic }) => {
    if (kind !== 'topic' || queue !== topic) return undefined;
    return topic.startsWith('VirtualTopic.')
      ? `all services on this topic share one queue; consume Consumer.<app>.${topic} to have your own copy`
      : 'all services on this topic share one queue; --queue-name gives this one its own';
  },
  // The frames are carried out one by one at COMMIT, and its receipt comes before those of the messages.
  acksJoinTransactions: false,
  // A queue whose messages die of age back into the source's. The delay is an argument of it, so that each has its own: a
  // message with a limit of its own would wait behind others with a longer one. It is never removed: a SEND to a queue
  // that was deleted after the connection's first SEND to it is confirmed and dropped.
  delayed: ({ queue }, delayMs, queueType) => ({
    destination: `/queue/${queue}.retry.${delayMs}`,
    headers: { ...queueArguments(queue, queueType), 'x-message-ttl': String(delayMs) },
  }),
  delaysByScheduler: false,
};

const activemq: Dialect = {
  name: 'activemq',
  subscribeHeaders: (source, { prefetch, durableName }) => ({
    destination: source.kind === 'topic' ? `/topic/${source.topic}` : `/queue/${source.queue}`,
    'activemq.prefetchSize': String(prefetch),
    ...(source.kind === 'topic' && durableName !== undefined
      ? { 'activemq.subscriptionName': durableName }
      : {}),
  }),
  declarations: () => [],
  nackHeaders: {},
  // A NACK destroys what is not persistent and what came through a topic subscription: neither reaches a dead-letter
  // queue. Nor does the NACK of a message that is in a dead-letter queue already.
  canDeadLetterByNack: (source, headers) =>
    source.kind !== 'topic' && headers.persistent === 'true' && !source.queue.startsWith('DLQ.'),
  outlivesItsConnection: ({ kind }, { durableName }) => kind !== 'topic' || durableName !== undefined,
  commitsOneByOne: false,
  keepsMessageIds: true,
  hasQueueArguments: false,
  declaresLater: false,
  canBrowse: true,
  takeHeaders: (queue, prefetch, isBrowsing) => ({
    destination: `/queue/${queue}`,
    'activemq.prefetchSize': String(prefetch),
    ...(isBrowsing ? { browser: 'true' } : {}),
  }),
  // 200 to 400 of 4,000 with a prefetch of 800 to 5,000. Any number of small subscriptions get them all, in order.
  mostHeld: 200,
  returnsInOrder: false,
  // It refuses more than 1000, and ends the connection.
  mostHeaders: 980,
  deathHeaders: ['original-destination', 'x-first-death-queue'],
  warning: () => undefined,
  acksJoinTransactions: true,
  // A subscription to a topic has no queue that one could send to.
  delayed: ({ kind, queue }, delayMs) =>
    kind === 'topic'
      ? undefined
      : { destination: `/queue/${queue}`, headers: { AMQ_SCHEDULED_DELAY: String(delayMs) } },
  delaysByScheduler: true,
};

/** Not exercised. Its acceptor must map /queue/ and /topic/ (`anycastPrefix`, `multicastPrefix`). */
const artemis: Dialect = {
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
  canDeadLetterByNack: () => false,
  outlivesItsConnection: ({ kind }, { durableName }) => kind !== 'topic' || durableName !== undefined,
  commitsOneByOne: false,
  keepsMessageIds: true,
  hasQueueArguments: false,
  declaresLater: false,
  canBrowse: false,
  takeHeaders: (queue) => ({
    destination: `/queue/${queue}`,
    'subscription-type': 'ANYCAST',
    'consumer-window-size': '0',
  }),
  mostHeld: 1,
  returnsInOrder: false,
  mostHeaders: Infinity,
  deathHeaders: ['original-destination', 'x-first-death-queue'],
  warning: () => undefined,
  acksJoinTransactions: false,
  delayed: () => undefined,
  delaysByScheduler: false,
};

const embedded: Dialect = { ...rabbitmq, name: 'embedded', declaresLater: false };

const dialects = { rabbitmq, activemq, artemis, embedded };

/** The dialect of a CONNECTED `server` header, or the one forced; RabbitMQ when the header is hidden or unknown. */
export function detectDialect(
  server: string | undefined,
  override: 'auto' | 'rabbitmq' | 'activemq' | 'artemis',
): Dialect {
  if (override !== 'auto') return dialects[override];
  if (server?.startsWith('ActiveMQ-Artemis') === true) return artemis;
  if (server?.startsWith('ActiveMQ') === true) return activemq;
  if (server?.startsWith('stomp-pubsub') === true) return embedded;
  return rabbitmq;
}

export interface Diagnosis {
  /** Trying again changes nothing until somebody changes a setting or the broker. */
  readonly isConfiguration: boolean;
  readonly advice: string;
}

const diagnoses: readonly [pattern: RegExp, isConfiguration: boolean, advice: string][] = [
  [
    /Access refused for user|User name \[.*\] or password is invalid/,
    true,
    'check STOMP_SERVER_USER and STOMP_SERVER_PASSWORD',
  ],
  [/Virtual host .* access denied/, true, 'check STOMP_SERVER_VHOST and that the user may use it'],
  [
    /delivery acknowledgement on channel \d+ timed out/,
    false,
    "a callback took longer than RabbitMQ's consumer_timeout: make it faster or raise consumer_timeout; its message runs again",
  ],
  [
    // RabbitMQ newer than 3.10.8, which has no limit: 1024 (source).
    /Too many actions in transaction|frames in a transaction/,
    true,
    'send fewer messages in one: publish --lines --transaction-size <number>, at most the limit named',
  ],
  [/unknown delivery tag|Unexpected ACK/, false, 'a message was settled twice or on another connection'],
  [
    /inequivalent arg 'x-queue-type'/,
    true,
    'the queue exists with another type: give all its consumers and publishers the same STOMP_QUEUE_TYPE (--queue-type)',
  ],
  [
    /inequivalent arg/,
    true,
    'the queue exists with other arguments: delete it, or declare it everywhere with the arguments named',
  ],
  [
    /is larger than configured max size|maximum data length was exceeded/,
    true,
    'the message is too large for the broker',
  ],
  [
    /RESOURCE_LOCKED/,
    true,
    'the queue is exclusive to another connection, or was declared with another STOMP_DEFAULT_EXCLUSIVE_QUEUE',
  ],
  [
    /ACCESS_REFUSED|is not authorized/,
    true,
    'give the user the permission named (RabbitMQ: configure, write and read)',
  ],
  [
    /already connected from/,
    // The connection of one that was killed or cut off holds it until the broker misses its heart-beats.
    false,
    'another connection has this STOMP_LISTENER_CLIENT_ID: a lost one lets go of it soon; give each process its own',
  ],
  [
    /is down or inaccessible|on queue .* due to timeout/,
    false,
    'the node that holds the queue is down: a quorum queue (--queue-type quorum) would be held by others too',
  ],
  [/NOT_FOUND/, true, 'create what is missing, or correct the destination'],
  [/not a valid (?:queue )?destination|Unknown destination/, true, 'correct the destination'],
  [/Supported versions are|Invalid Protocol version/, true, 'the broker does not speak STOMP 1.2'],
  [/PRECONDITION_FAILED/, true, 'the broker refuses what was asked: see its text'],
  [/canceled a subscription/, false, 'the queue was deleted: connecting again declares it again'],
  [
    /maximum (?:number of headers|header length)/,
    true,
    'the message has more or longer headers than the broker takes',
  ],
];

/** Does this refusal of a declaration say that there is a queue of that name, only another one? */
export function existsOtherwise(text: string): boolean {
  return /inequivalent arg|RESOURCE_LOCKED/.test(text);
}

/** What an ERROR frame's text means, or undefined for one that is not known. */
export function diagnose(text: string): Diagnosis | undefined {
  const found = diagnoses.find(([pattern]) => pattern.test(text));
  return found && { isConfiguration: found[1], advice: found[2] };
}
