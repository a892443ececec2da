/**
 * Trying a message again, later and by way of the broker: which attempt one is, how long the next waits, and what the
 * copies look like that are sent in its place. What the message has been through is told by two headers of our own; no
 * broker counts attempts so that a STOMP client sees it.
 */
import { PubsubError, reasonOf } from '../errors.js';
import type { Settings } from '../settings.js';
import { parseDelays } from '../settings/kinds.js';
import { copyHeaders } from '../sending/copies.js';
import type { Source } from '../brokers/destinations.js';
import type { Dialect } from '../brokers/dialect.js';
import { queueArguments, type Declaration, type QueueType } from '../brokers/queues.js';
import { encodeLines, type Frame, type Headers } from '../stomp/frames.js';
import type { Outgoing } from '../sending/heads.js';

/** The number of the attempt that the message comes for; on a dead letter, of the last one. */
const ATTEMPT = 'x-attempt';
/** What the last attempt threw, on one line. */
const LAST_ERROR = 'x-last-error';
/** ActiveMQ 5.17 takes header lines of 10 KB. */
const MAX_ERROR_LENGTH = 1000;
/** What a delayed message has beside what its sender gave it; sent on, it would declare or delay things. */
const ofDelay = ['x-message-ttl', 'scheduledJobId'];

export interface Retries {
  readonly source: Source;
  /** Attempts in all, the first included. */
  readonly attempts: number;
  /** Before the second attempt, the third, and so on; the last repeats. */
  readonly delaysMs: readonly number[];
  readonly queueType: QueueType;
}

export function retriesOf(source: Source, { retries, retryDelay, queueType }: Settings): Retries {
  return { source, attempts: retries + 1, delaysMs: parseDelays(retryDelay), queueType };
}

/** 1 for a message that has not been retried. */
export function attemptOf(headers: Readonly<Headers>): number {
  const text = headers[ATTEMPT];
  return text !== undefined && /^[1-9]\d{0,8}$/.test(text) ? Number(text) : 1;
}

/** Headers as a callback sees them. */
export function withoutDelay(headers: Readonly<Headers>): Readonly<Headers> {
  if (headers[ATTEMPT] === undefined) return headers;
  const own = Object.create(null) as Headers;
  for (const [name, value] of Object.entries(headers)) if (!ofDelay.includes(name)) own[name] = value;
  return own;
}

/** Queues to declare before the first retry. Throws `broker-refused` when the broker cannot delay a message of the source. */
export function delayQueues(retries: Retries, dialect: Dialect): readonly Declaration[] {
  if (retries.attempts === 1) return [];
  const delays = [...new Set(retries.delaysMs)];
  const targets = delays.map((delayMs) => targetOf(retries, dialect, delayMs));
  return dialect.hasDelayQueues ? targets : [];
}

function targetOf({ source, queueType }: Retries, dialect: Dialect, delayMs: number): Declaration {
  const target = dialect.delayed(source, delayMs, queueType);
  if (target !== undefined) return target;
  throw new PubsubError(
    'broker-refused',
    `messages of ${source.destination} cannot be retried on ${dialect.name}: ` +
      'a copy cannot come back to this subscription alone; set STOMP_RETRIES=0',
  );
}

/** The copy that comes for the next attempt, and after how long. */
export function retryCopy(
  retries: Retries,
  dialect: Dialect,
  frame: Frame,
  err: unknown,
): { readonly copy: Outgoing; readonly delayMs: number } {
  const { delaysMs } = retries;
  const attempt = attemptOf(frame.headers);
  const delayMs = delaysMs[Math.min(attempt, delaysMs.length) - 1] ?? 0;
  const { destination, headers } = targetOf(retries, dialect, delayMs);
  const copy = copyOf(frame, dialect, destination, { ...headers, ...history(attempt + 1, err) });
  return { copy, delayMs };
}

/** The copy for the dead-letter queue; after the last attempt it tells of that. */
export function deadLetterCopy(
  { source, queueType }: Retries,
  dialect: Dialect,
  frame: Frame,
  last?: { readonly err: unknown },
): Outgoing {
  const { deadLetterQueue, destination } = source;
  return copyOf(frame, dialect, `/queue/${deadLetterQueue}`, {
    ...queueArguments(`DLQ.${deadLetterQueue}`, queueType),
    'original-destination': frame.headers.destination ?? destination,
    ...(last === undefined ? {} : history(attemptOf(frame.headers), last.err)),
  });
}

function history(attempt: number, err: unknown): Headers {
  const name = err instanceof Error ? `${err.name}: ` : '';
  // eslint-disable-next-line no-control-regex -- a line break or a NUL byte cannot be in a header, or is escaped there
  const text = `${name}${reasonOf(err)}`.replace(/[\x00-\x1f\x7f\s]+/g, ' ').slice(0, MAX_ERROR_LENGTH);
  return { [ATTEMPT]: String(attempt), [LAST_ERROR]: text.trim() };
}

/** The message is worth more than its last headers, where the broker takes fewer than it delivers. */
function copyOf(frame: Frame, { mostHeaders }: Dialect, destination: string, own: Headers): Outgoing {
  const room = mostHeaders - Object.keys(own).length;
  const lines = encodeLines('SEND', {
    ...copyHeaders(frame, { most: room }),
    destination,
    ...own,
    persistent: 'true',
  });
  return { lines, body: frame.body };
}
