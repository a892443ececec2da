/**
 * What a broker product does in its own way, as data and pure functions: the seam between the products, a file each, and
 * everything that sends and consumes.
 */
import type { Headers } from '../stomp/frames.js';
import type { Source } from './destinations.js';
import type { DeliveryLimit } from './delivery-limit.js';
import type { Declaration, QueueType } from './queues.js';

export interface SubscribeOptions {
  /** Messages the broker may deliver before the first is settled; at least 1. */
  readonly prefetch: number;
  /** RabbitMQ: the queue belongs to this connection alone. */
  readonly isExclusive: boolean;
  readonly queueType: QueueType;
  /** RabbitMQ: arguments of the queue, beside those that every queue has. */
  readonly queueArguments: Readonly<Headers>;
  /** ActiveMQ: the name a durable topic subscription is kept under; undefined for none. */
  readonly durableName: string | undefined;
}

export interface Dialect {
  readonly name: 'rabbitmq' | 'activemq' | 'artemis' | 'embedded';
  /** Destination and product-specific headers of the SUBSCRIBE; acknowledgement mode and id are the caller's. */
  subscribeHeaders(source: Source, options: SubscribeOptions): Headers;
  /** Is a name without a kind that of a queue? */
  readonly knowsBareNames: boolean;
  /** Where a SEND goes that is to reach the queue of this name and no other. */
  destinationOf(queue: string): string;
  /** Queues that must exist before a message can be dead-lettered, beyond those the SUBSCRIBE declares. */
  declarations(source: Source, queueType: QueueType): readonly Declaration[];
  /** What a user may say of a subscription, beyond what the settings say: names of headers. */
  readonly subscriptionHeaders: readonly string[];
  /** How a queue is addressed that others declared, so that it is neither declared nor compared. */
  existing(queue: string): string;
  readonly nackHeaders: Headers;
  /** Does this message survive a NACK, in its dead-letter queue? Elsewhere a NACK destroys it. */
  survivesNack(source: Source, headers: Readonly<Headers>): boolean;
  /** Do messages wait for a subscription whose connection is gone? If not, giving up a connection loses some. */
  outlivesItsConnection(source: Source, options: SubscribeOptions): boolean;
  /** Does a connection live on after an ERROR that names the frame it is about? */
  readonly livesOnAfterError: boolean;
  /** Is a transaction carried out frame by frame at COMMIT, up to the first that fails? */
  readonly commitsOneByOne: boolean;
  /** Does a message come with the same message-id on every connection? */
  readonly keepsMessageIds: boolean;
  /** Does a user log in to one of several hosts, by name? Elsewhere the name is ignored. */
  readonly hasVirtualHosts: boolean;
  /** Does a subscription whose prefetch is 0, or `prefetch-count` -1, declare its queue and get nothing? */
  readonly declaresEmptyHanded: boolean;
  /** Are queues declared with arguments, which a SEND or SUBSCRIBE must repeat? */
  readonly comparesArguments: boolean;
  /** Is what is sent to a queue that was deleted after the first SEND of the connection to it confirmed and dropped? */
  readonly swallowsWhenDeleted: boolean;
  /** Does a subscription to a topic have a queue, which one can send to? */
  readonly hasTopicQueues: boolean;
  /** Do messages wait for their next attempt in queues of their own, which must be declared? */
  readonly hasDelayQueues: boolean;
  /** Can a queue be looked at without taking from it? */
  readonly canBrowse: boolean;
  /** Destination and headers by which messages are taken off a queue, or only looked at, without declaring it. */
  takeHeaders(queue: string, prefetch: number, isBrowsing: boolean): Headers;
  /** May a consumer name its queues by a wildcard? Elsewhere such a name is one queue like any other. */
  readonly hasQueuePatterns: boolean;
  /** Does this name of a queue mean one queue, and not a pattern or a list of several? */
  isOneQueue(queue: string): boolean;
  /** Are there queues that drop a message which was delivered too often? A look is a delivery where it cannot browse. */
  readonly deliveryLimit?: DeliveryLimit;
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
  /** What whoever starts a consumer of this source should know. */
  warnings(source: Source, options: { queueType: QueueType; hasRetries: boolean }): readonly string[];
  /**
   * Where to a copy of a message is sent so that it comes to the source's queue after the delay, and by which headers;
   * undefined where it cannot.
   */
  delayed(source: Source, delayMs: number, queueType: QueueType): Declaration | undefined;
  /**
   * Where to a copy of a message is sent so that it is behind the others in the source's queue, which has these arguments
   * beside those that every queue has; undefined where it cannot.
   */
  behindOthers(source: Source, queueType: QueueType, own: Readonly<Headers>): Declaration | undefined;
  /** Does a message with these headers, as delivered, come back after a delay? */
  comesBack(headers: Readonly<Headers>): boolean;
  /** Does a scheduler delay messages, which the broker may lack? Without it a message comes at once, and nobody is told. */
  readonly delaysByScheduler: boolean;
}
