/**
 * The one table of header names: what a caller may send, and what goes on with a copy of a message. Pure data and
 * questions to it.
 */
import { PubsubError } from '../errors.js';
import { createHeaders, type Headers } from '../stomp/headers.js';
import type { Dialect } from './dialect.js';

/** Of one delivery. A `message-id` on SEND is an error on RabbitMQ. */
const ofDelivery = [
  ...['message-id', 'subscription', 'ack', 'destination', 'redelivered', 'receipt', 'transaction'],
  ...['browser', 'content-length', 'x-delivery-count', 'scheduledJobId'],
  // Of Artemis: it would decide how the copy is routed.
  'destination-type',
];

/** What Artemis notes of a message for itself. A copy that had the id by which it finds repetitions would be dropped as one. */
const ofArtemis = '_AMQ_';

/**
 * RabbitMQ reads from a SEND how its queue is to be declared, and refuses a `user-id` that is not the login: each of these
 * may end a connection, with what others send over it, or change a queue that is declared by it.
 */
const ofQueue = [
  ...['durable', 'auto-delete', 'exclusive', 'user-id', 'x-expires', 'x-message-ttl', 'x-overflow'],
  ...['x-dead-letter-exchange', 'x-dead-letter-routing-key', 'x-dead-letter-strategy'],
  ...['x-delivery-limit', 'x-single-active-consumer', 'x-max-length', 'x-max-length-bytes', 'x-max-priority'],
  ...[
    'x-max-age',
    'x-max-in-memory-length',
    'x-max-in-memory-bytes',
    'x-queue-type',
    'x-queue-mode',
    'x-queue-name',
  ],
  ...['x-queue-version', 'x-queue-leader-locator', 'x-queue-master-locator', 'x-quorum-initial-group-size'],
  ...['x-stream-offset', 'x-stream-max-segment-size-bytes', 'x-initial-cluster-size'],
];

/** Of the attempts of a message at one queue, and of how they ended: set by the consumer alone. */
export const ATTEMPT = 'x-attempt';
/** How often it was delivered there and never settled, and whether it is to run alone. */
export const DELIVERIES = 'x-deliveries';
/** What 0.1 wrote beside `x-attempt`. */
const LAST_ERROR = 'x-last-error';
const ofFailure = 'x-failure-';

/**
 * Where a dead letter came from, as brokers and we tell it. Elsewhere than in a dead-letter queue it would hide the next
 * death: RabbitMQ 3.10 keeps the first and ActiveMQ 5.17 lets the sender's `original-destination` win.
 */
const ofDeath = /^(?:x-(?:first|last)-death-.*|original-destination|dlqDeliveryFailureCause)$/;

/** A copy is made to keep a message, at once: it has no limit in time, and no delay but its own. */
const ofTime = [
  ...['expires', 'expiration', 'originalExpiration'],
  ...['AMQ_SCHEDULED_DELAY', 'AMQ_SCHEDULED_PERIOD', 'AMQ_SCHEDULED_REPEAT', 'AMQ_SCHEDULED_CRON'],
];

const ofAttempts = [ATTEMPT, DELIVERIES, LAST_ERROR];
const reserved: ReadonlySet<string> = new Set([
  ...ofDelivery,
  ...ofQueue,
  ...ofAttempts,
  // These are the sender's own on a copy, and ours on what we publish.
  ...['id', 'content-type', 'content-encoding'],
]);
const notCopied: ReadonlySet<string> = new Set([...ofDelivery, ...ofQueue, ...ofTime, ...ofAttempts]);

/** Is it of the delivery alone, and not of the message? */
export function isOfDelivery(name: string): boolean {
  return ofDelivery.includes(name) && name !== 'message-id';
}

/** May a caller give this header to a message that it publishes? */
export function isSendable(name: string, value: string): boolean {
  if (reserved.has(name) || name.startsWith(ofFailure)) return false;
  // It would make the answer a subscription of the connection that sends (RabbitMQ).
  return !(name === 'reply-to' && value.startsWith('/temp-queue/'));
}

/** Does this header go on with a copy? `keepsDeath`: to a dead-letter queue, with where it came from and why. */
export function isCopied(name: string, value: string, keepsDeath: boolean): boolean {
  if (notCopied.has(name) || name.startsWith(ofArtemis)) return false;
  if (!keepsDeath && (ofDeath.test(name) || name.startsWith(ofFailure))) return false;
  // Other protocols allow a NUL byte in a header; it cannot be sent, and the message is worth more than that header.
  return !name.includes('\0') && !value.includes('\0');
}

/** Headers as a callback sees them: those by which a delayed message came back are no longer true. */
export function withoutDelay(headers: Readonly<Headers>): Readonly<Headers> {
  if (headers[ATTEMPT] === undefined) return headers;
  const own = createHeaders();
  for (const name in headers) {
    if (name !== 'x-message-ttl' && name !== 'scheduledJobId') own[name] = headers[name] ?? '';
  }
  return own;
}

/** Throws `invalid-setting` for a header of a subscription that this broker has not, and would take no notice of. */
export function checkSubscriptionHeaders(
  given: Readonly<Headers>,
  { name, subscriptionHeaders }: Dialect,
): void {
  const unknown = Object.keys(given).find((header) => !subscriptionHeaders.includes(header));
  if (unknown === undefined) return;
  const known = subscriptionHeaders.length === 0 ? 'none' : subscriptionHeaders.join(', ');
  throw new PubsubError('invalid-setting', `--subscribe-header: ${name} has no ${unknown}; it has ${known}`);
}
