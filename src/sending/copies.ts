/**
 * Which headers of a message go on with a copy of it: all that its sender gave it, none that belong to its way here or
 * that would tell the next broker what to do. A copy is made to keep a message, so it has no time limit. What tells of a
 * death (where a dead letter came from) goes on only from one dead-letter queue to another: elsewhere it would hide the
 * next death, because RabbitMQ 3.10 keeps the first and ActiveMQ 5.17 lets the sender's `original-destination` win.
 */
import type { Frame, Headers } from '../stomp/frames.js';

const notCopied = new Set([
  // Of this delivery. A message-id on SEND is an error on RabbitMQ.
  ...['message-id', 'subscription', 'ack', 'destination', 'redelivered', 'receipt', 'transaction', 'browser'],
  // Set anew when the body needs it.
  'content-length',
  ...['expires', 'expiration', 'originalExpiration'],
  // Brokers count and schedule for themselves.
  ...['scheduledJobId', 'x-delivery-count', 'x-stream-offset'],
  ...['AMQ_SCHEDULED_DELAY', 'AMQ_SCHEDULED_PERIOD', 'AMQ_SCHEDULED_REPEAT', 'AMQ_SCHEDULED_CRON'],
  // Of the attempts of one consumer (retries.ts): whoever gets a copy begins anew.
  ...['x-attempt', 'x-last-error'],
  // RabbitMQ reads from a SEND how the queue is to be declared, and refuses a user-id that is not the login.
  ...['durable', 'auto-delete', 'exclusive', 'user-id'],
  ...['x-dead-letter-exchange', 'x-dead-letter-routing-key', 'x-expires', 'x-message-ttl', 'x-queue-type'],
  ...['x-max-length', 'x-max-length-bytes', 'x-max-priority', 'x-overflow', 'x-delivery-limit'],
]);

const essential = ['correlation-id', 'content-type'];

const ofDeath = /^(?:x-(?:first|last)-death-.*|original-destination|dlqDeliveryFailureCause)$/;

export interface CopyOptions {
  /** The copy goes to a dead-letter queue and says where the message came from. */
  readonly keepsDeath?: boolean;
  /** How many headers it may have beside `content-length`; `correlation-id` and `content-type` stay in any case. */
  readonly most?: number;
}

/**
 * The headers of a copy but for its destination. A `content-length` is among them only if the message had one or its body
 * needs it: on ActiveMQ it makes the difference between a message of text and one of bytes.
 */
export function copyHeaders(
  { headers, body }: Frame,
  { keepsDeath = false, most = Infinity }: CopyOptions = {},
): Headers {
  const kept = Object.create(null) as Headers;
  let room = most - essential.length;
  for (const [name, value] of Object.entries(headers)) {
    if (notCopied.has(name) || (!keepsDeath && ofDeath.test(name))) continue;
    // A NUL byte, which other protocols allow in a header, cannot be sent; the message is worth more than that header.
    if (name.includes('\0') || value.includes('\0')) continue;
    if (essential.includes(name) || room-- > 0) kept[name] = value;
  }
  if (headers['content-length'] !== undefined || body.includes(0))
    kept['content-length'] = String(body.length);
  return kept;
}
