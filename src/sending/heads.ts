/**
 * What the head of a published message says: django-stomp's headers, what the caller adds, and which of these are
 * reserved. All that is the same for every message of a destination is encoded once.
 */
import { randomUUID } from 'node:crypto';
import { correlationId as currentCorrelationId } from '../context.js';
import { PubsubError, reasonOf } from '../errors.js';
import { checkTarget, deadLetterQueueOf } from '../brokers/destinations.js';
import { queueArguments, type QueueType } from '../brokers/queues.js';
import { encodeLines, type Headers } from '../stomp/frames.js';

export interface SendOptions {
  /** Beside the standard headers, which cannot be overridden. Reserved ones are removed. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Default: the `correlation-id` among `headers`, else that of the message being processed, else a new one. */
  readonly correlationId?: string;
  /** Default true: the message survives a restart of the broker. */
  readonly isPersistent?: boolean;
}

/** A message to be sent, encoded: the lines of its SEND (encodeLines) and its body. */
export interface Outgoing {
  readonly lines: string;
  readonly body: string | Uint8Array;
}

/**
 * django-stomp removes the first seven; `receipt` and `ack` would be taken as ours or confuse a consumer; the attempts of
 * a message at one queue are none at another.
 */
const reservedHeaders = new Set([
  ...[
    'message-id',
    'transaction',
    'redelivered',
    'subscription',
    'destination',
    'content-length',
    'content-type',
  ],
  ...['receipt', 'ack', 'x-attempt', 'x-last-error'],
]);

/** Is a header of this name left out when a caller gives it? */
export function isReservedHeader(name: string): boolean {
  return reservedHeaders.has(name);
}

/**
 * Encodes the head of a SEND of this JSON, as Session.transmit takes it. The correlation id is that of the moment when
 * the encoder is made, or one of each message's own. Throws `invalid-destination` and `invalid-header`.
 */
export function headEncoder(
  destination: string,
  queueType: QueueType,
  { headers, correlationId, isPersistent = true }: SendOptions = {},
): (json: string) => string {
  checkTarget(destination);
  const id = correlationId ?? headers?.['correlation-id'] ?? currentCorrelationId();
  const lines = encodeLines('SEND', {
    ...(headers === undefined ? {} : withoutReserved(headers)),
    destination,
    'content-type': 'application/json;charset=utf-8',
    ...(id === undefined ? {} : { 'correlation-id': id }),
    'tshoot-destination': destination,
    // These must match the queue's declaration.
    ...queueArguments(deadLetterQueueOf(destination), queueType),
    // Anything but exactly "true" is not persistent, on RabbitMQ 3.10 and ActiveMQ 5.17.
    ...(isPersistent ? { persistent: 'true' } : {}),
  });
  if (id !== undefined) return (json) => `${lines}content-length:${Buffer.byteLength(json)}\n`;
  return (json) => `${lines}content-length:${Buffer.byteLength(json)}\ncorrelation-id:${randomUUID()}\n`;
}

/** The body as JSON text. Throws `invalid-json`. */
export function stringify(body: unknown): string {
  try {
    const json = JSON.stringify(body) as string | undefined;
    if (json !== undefined) return json;
  } catch (error) {
    throw new PubsubError('invalid-json', `the body is no JSON value: ${reasonOf(error)}`, { cause: error });
  }
  throw new PubsubError('invalid-json', `the body is no JSON value: ${typeof body}`);
}

/** What a caller's headers add to a message. Throws `invalid-header` for what is no header. */
function withoutReserved(headers: Readonly<Record<string, string>>): Headers {
  // Without a prototype any name is a name, __proto__ too.
  const own = Object.create(null) as Headers;
  for (const [name, value] of Object.entries(headers)) {
    if (typeof value !== 'string') {
      throw new PubsubError(
        'invalid-header',
        `header ${JSON.stringify(name)} is of type ${typeof value}; use a string`,
      );
    }
    if (name === '') throw new PubsubError('invalid-header', 'a header has no name');
    if (!isReservedHeader(name)) own[name] = value;
  }
  return own;
}
