/**
 * What the head of a published message says: django-stomp's headers, and what the caller adds. All that is the same for
 * every message of a destination is encoded once.
 */
import { randomUUID } from 'node:crypto';
import { correlationId as currentCorrelationId } from '../context.js';
import { PubsubError, reasonOf } from '../errors.js';
import { checkTarget, deadLetterQueueOf } from '../brokers/destinations.js';
import { isSendable } from '../brokers/headers.js';
import { queueArguments, type QueueType } from '../brokers/queues.js';
import { log as ownLog, type Logger } from '../log.js';
import { encodeHeaders, encodeLines } from '../stomp/frames.js';
import { createHeaders, type Headers } from '../stomp/headers.js';

export interface SendOptions {
  /** Beside the standard headers, which cannot be overridden. Those that are not a caller's to give are left out. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Default: the `correlation-id` among `headers`, else that of the message being processed, else a new one. */
  readonly correlationId?: string;
  /** Default true: the message survives a restart of the broker. */
  readonly isPersistent?: boolean;
}

/** A message to be sent, encoded: the lines of its SEND (encodeLines) and its body. */
export interface Outgoing {
  readonly destination: string;
  readonly lines: string;
  readonly body: string | Uint8Array;
}

/**
 * Makes messages of JSON text. Their correlation id is that of the moment when the encoder is made, or one of each
 * message's own. Throws `invalid-destination` and `invalid-header`.
 */
export function messageEncoder(
  destination: string,
  queueType: QueueType,
  { headers, correlationId, isPersistent = true }: SendOptions = {},
  log: Logger = ownLog,
): (json: string) => Outgoing {
  const id = correlationId ?? headers?.['correlation-id'] ?? currentCorrelationId();
  const ofId = id === undefined ? {} : { 'correlation-id': id };
  const standard = standardLines(destination, queueType, isPersistent);
  const lines =
    headers === undefined
      ? standard + encodeHeaders(ofId)
      : encodeLines('SEND', {
          ...sendable(headers, log),
          ...standardHeaders(destination, queueType, isPersistent),
          ...ofId,
        });
  return (json) => {
    const ownId = id === undefined ? `correlation-id:${randomUUID()}\n` : '';
    return { destination, lines: `${lines}content-length:${Buffer.byteLength(json)}\n${ownId}`, body: json };
  };
}

function standardHeaders(destination: string, queueType: QueueType, isPersistent: boolean): Headers {
  return {
    destination,
    'content-type': 'application/json;charset=utf-8',
    'tshoot-destination': destination,
    // These must match the queue's declaration.
    ...queueArguments(deadLetterQueueOf(destination), queueType),
    // Anything but exactly "true" is not persistent, on RabbitMQ 3.10 and ActiveMQ 5.17.
    ...(isPersistent ? { persistent: 'true' } : {}),
  };
}

/** As it was last asked for: most programs send one message after the other to one destination. */
let last = { destination: '', queueType: '', isPersistent: true, lines: '' };

/** Throws `invalid-destination`. */
function standardLines(destination: string, queueType: QueueType, isPersistent: boolean): string {
  const isLast =
    destination === last.destination && queueType === last.queueType && isPersistent === last.isPersistent;
  if (!isLast) {
    checkTarget(destination);
    const lines = encodeLines('SEND', standardHeaders(destination, queueType, isPersistent));
    last = { destination, queueType, isPersistent, lines };
  }
  return last.lines;
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

/** What a caller's headers add to a message: passing on what came with another is common. Throws `invalid-header`. */
function sendable(headers: Readonly<Record<string, string>>, log: Logger): Headers {
  // Without a prototype any name is a name, __proto__ too.
  const own = createHeaders();
  const leftOut: string[] = [];
  for (const [name, value] of Object.entries(headers)) {
    if (typeof value !== 'string') {
      throw new PubsubError(
        'invalid-header',
        `header ${JSON.stringify(name)} is of type ${typeof value}; use a string`,
      );
    }
    if (name === '') throw new PubsubError('invalid-header', 'a header has no name');
    if (isSendable(name, value)) own[name] = value;
    else leftOut.push(name);
  }
  if (leftOut.length > 0) log.debug({ headers: leftOut }, "headers that are not a publisher's are left out");
  return own;
}
