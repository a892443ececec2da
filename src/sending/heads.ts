/**
 * What the head of a published message says: django-stomp's headers, and what the caller adds. All that is the same for
 * every message of a destination is encoded once.
 */
import { currentContext, type MessageContext } from '../context.js';
import { PubsubError, reasonOf } from '../errors.js';
import { checkTarget, deadLetterQueueOf, queueNameOf } from '../brokers/destinations.js';
import { charsetOf, defaultTypes, kindOf } from '../brokers/content-types.js';
import { isSendable } from '../brokers/headers.js';
import type { Dialect } from '../brokers/dialect.js';
import {
  existingQueue,
  existingQueueOf,
  plainQueue,
  queueArguments,
  type QueueRules,
} from '../brokers/queues.js';
import { log as ownLog, type Logger } from '../log.js';
import { encodeHeaders, encodeLines } from '../stomp/frames.js';
import { createHeaders, type Headers } from '../stomp/headers.js';
import { carrying } from '../trace-context.js';
import { currentTracing, type Failure } from '../tracing.js';
import { newCorrelationId } from './correlation-ids.js';
import { checkSending } from './misuse.js';

export interface SendOptions {
  /**
   * Beside the standard headers, which cannot be overridden. Those that are not a caller's to give are left out. Without a
   * `traceparent` those of the trace of the message being processed are added.
   */
  readonly headers?: Readonly<Record<string, string>>;
  /** Default: the `correlation-id` among `headers`, else that of the message being processed, else a new one. */
  readonly correlationId?: string;
  /** Default true: the message survives a restart of the broker. */
  readonly isPersistent?: boolean;
  /**
   * What the body is, like `text/csv`. Text and bytes then go out as they are, and anything else as JSON, if that is what
   * the type says. Default: every body is sent as JSON, text in quotes.
   */
  readonly contentType?: string | undefined;
  /** How bytes are packed that go out as they are: `gzip`, `deflate`, `br`. Consumers unpack them. */
  readonly contentEncoding?: string | undefined;
}

const none: SendOptions = {};

/** A message to be sent, encoded: the lines of its SEND (encodeLines) and its body. */
export interface Outgoing {
  /** Of a queue that is used as it is: the name by which RabbitMQ does not declare it, whatever the broker. */
  readonly destination: string;
  /** Of a message to such a queue without its destination: see linesFor. */
  readonly lines: string;
  readonly body: string | Uint8Array;
  /** Of the span that sends it: called when it is confirmed, or with why it is not. */
  readonly end?: (failure?: Failure) => void;
}

/** Why a message was not sent, for its span. Never throws: what was thrown may be such that it cannot be looked at. */
export function failureOf(error: unknown): Failure {
  try {
    return { type: error instanceof PubsubError ? error.code : 'unknown', detail: reasonOf(error), error };
  } catch {
    return { type: 'unknown' };
  }
}

/** How large it is for a broker that has limits. */
export function sizeOf({ lines, body }: Outgoing): { readonly bytes: number; readonly headers: number } {
  const ofBody = typeof body === 'string' ? Buffer.byteLength(body) : body.length;
  return { bytes: Buffer.byteLength(lines) + ofBody, headers: lines.split('\n').length - 2 };
}

type Encoder = (body: string | Uint8Array) => Outgoing;

/** As it was last asked for with nothing but these: it is the same for every message. */
let plain:
  { readonly destination: string; readonly queues: QueueRules; readonly encode: Encoder } | undefined;

/**
 * Makes messages of what is to be sent as it stands (contentOf). Their correlation id is that of the moment when the encoder
 * is made, or one of each message's own. Throws `invalid-destination` and `invalid-header`, the encoder `invalid-usage` for
 * what is not as its content type or encoding says.
 */
export function messageEncoder(
  destination: string,
  queues: QueueRules,
  options: SendOptions = none,
  log: Logger = ownLog,
  cause = currentContext(),
): Encoder {
  const isPlain = options === none && cause === undefined && currentTracing() === undefined;
  if (!isPlain) return createEncoder(destination, queues, options, log, cause);
  // A destination that JavaScript gives may be undefined, too.
  if (plain?.queues !== queues || plain.destination !== destination)
    plain = { destination, queues, encode: createEncoder(destination, queues, options, log, cause) };
  return plain.encode;
}

function createEncoder(
  destination: string,
  queues: QueueRules,
  options: SendOptions,
  log: Logger,
  cause: MessageContext | undefined,
): Encoder {
  checkSending(destination, options === none ? undefined : options);
  const { correlationId, isPersistent = true, contentType, contentEncoding } = options;
  const tracing = currentTracing();
  const headers =
    tracing === undefined || options.headers === undefined
      ? carrying(options.headers, tracing === undefined ? cause?.trace : undefined)
      : tracing.withoutContext(options.headers);
  const id = correlationId ?? headers?.['correlation-id'] ?? cause?.correlationId;
  const ofId = id === undefined ? {} : { 'correlation-id': id };
  const kind = { destination, queues, isPersistent, contentType, contentEncoding };
  const standard = standardFor(kind);
  const lines =
    headers === undefined
      ? standard.lines + encodeHeaders(ofId)
      : encodeLines('SEND', { ...sendable(headers, log), ...standardHeaders(kind), ...ofId });
  const start = `${lines}content-length:`;
  const charset = contentType === undefined ? 'utf-8' : charsetOf(contentType);
  return (body) => {
    if (typeof body === 'string') checkText(charset, contentEncoding);
    const ownId = id ?? newCorrelationId();
    const bytes = Buffer.byteLength(body);
    const own = id === undefined ? `\ncorrelation-id:${ownId}\n` : '\n';
    const message = { destination: standard.target, lines: `${start}${bytes}${own}`, body };
    const span = tracing?.send({
      ...{ destination, correlationId: ownId, bytes, cause: cause?.trace },
      // What is passed on as it came names no other.
      own: options.headers?.traceparent === cause?.receivedTrace ? undefined : options.headers,
    });
    if (span === undefined) return message;
    return { ...message, lines: message.lines + encodeHeaders(span.headers), end: span.end };
  };
}

/** What the standard headers of a message depend on. */
interface Kind extends Pick<SendOptions, 'contentType' | 'contentEncoding'> {
  readonly destination: string;
  readonly queues: QueueRules;
  readonly isPersistent: boolean;
}

/** The name of a queue that is used as it is; undefined for what its SEND declares, and for topics. */
function existingTarget({ destination, queues }: Kind): string | undefined {
  return queues.declare ? existingQueueOf(destination) : queueNameOf(destination);
}

function standardHeaders(kind: Kind): Headers {
  const { destination, queues, isPersistent, contentType, contentEncoding } = kind;
  const isDeclared = existingTarget(kind) === undefined;
  const queue = queueNameOf(destination);
  return {
    ...(isDeclared ? { destination } : {}),
    'content-type': contentType ?? defaultTypes.json,
    ...(contentEncoding === undefined ? {} : { 'content-encoding': contentEncoding }),
    'tshoot-destination': destination,
    // These must match the queue's declaration.
    ...(isDeclared ? queueArguments(deadLetterQueueOf(destination), queues.queueType) : {}),
    ...(isDeclared && queue === (queues.argumentsOf ?? queue) ? queues.queueArguments : {}),
    // Anything but exactly "true" is not persistent, on RabbitMQ 3.10 and ActiveMQ 5.17.
    ...(isPersistent ? { persistent: 'true' } : {}),
  };
}

/** As it was last asked for: most programs send one message after the other to one destination. */
let last: { readonly kind: Kind; readonly target: string; readonly lines: string } | undefined;

/** Throws `invalid-destination`. */
function standardFor(kind: Kind): { readonly target: string; readonly lines: string } {
  if (last === undefined || !isSame(kind, last.kind)) {
    checkTarget(kind.destination);
    const existing = existingTarget(kind);
    const target = existing === undefined ? kind.destination : existingQueue(existing);
    last = { kind, target, lines: encodeLines('SEND', standardHeaders(kind)) };
  }
  return last;
}

/** The lines of its SEND on this broker: a queue that is used as it is has another name on each. */
export function linesFor({ destination, lines }: Outgoing, dialect: Dialect): string {
  const queue = existingQueueOf(destination);
  if (queue === undefined) return dialect.knowsBareNames ? lines : withKind(lines, destination);
  return `${lines}${encodeHeaders({ destination: dialect.existing(queue) })}`;
}

/** A bare name is that of a queue. */
const withKind = (lines: string, destination: string): string =>
  destination.includes('/') ? lines : lines.replace('\ndestination:', `\ndestination:${plainQueue('')}`);

const isSame = (one: Kind, other: Kind): boolean =>
  one.destination === other.destination &&
  one.queues === other.queues &&
  one.isPersistent === other.isPersistent &&
  one.contentType === other.contentType &&
  one.contentEncoding === other.contentEncoding;

/** Text goes out as UTF-8 and not packed. Throws `invalid-usage` when something else is announced. */
function checkText(charset: string, contentEncoding: string | undefined): void {
  if (charset !== 'utf-8' && charset !== 'us-ascii')
    throw new PubsubError(
      'invalid-usage',
      `text is sent as UTF-8, not ${charset}: send bytes in that charset`,
    );
  if (contentEncoding !== undefined)
    throw new PubsubError('invalid-usage', `text is not packed: send bytes that are ${contentEncoding}`);
}

/** What of this body goes out as it stands. Throws `invalid-json`, and `invalid-usage` for what its type does not allow. */
export function contentOf(body: unknown, options?: SendOptions): string | Uint8Array {
  const contentType = options?.contentType;
  if (contentType === undefined) return stringify(body);
  if (typeof body === 'string' || body instanceof Uint8Array) return body;
  if (kindOf(contentType) === 'json') return stringify(body);
  throw new PubsubError(
    'invalid-usage',
    `a body of the content type ${JSON.stringify(contentType)} must be text or bytes, not of type ${typeof body}`,
  );
}

/** Throws `invalid-json`. */
function stringify(body: unknown): string {
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
