/**
 * Trying a message again, later and by way of the broker: which attempt one is, how long the next waits, and what the copy
 * looks like that is sent in its place. The number of the attempt is told by a header of our own; no broker counts attempts
 * so that a STOMP client sees it.
 */
import type { Source } from '../brokers/destinations.js';
import type { Dialect } from '../brokers/dialect.js';
import { ATTEMPT } from '../brokers/headers.js';
import type { Declaration, QueueType } from '../brokers/queues.js';
import { PubsubError } from '../errors.js';
import { copyOf } from '../sending/copies.js';
import type { Outgoing } from '../sending/heads.js';
import type { Settings } from '../settings.js';
import { parseDelays } from '../settings/kinds.js';
import type { Frame, Headers } from '../stomp/frames.js';

/** With jitter a delay is one of so many: on RabbitMQ each has a queue of its own. */
const JITTER_STEPS = 5;

export interface Retries {
  readonly source: Source;
  /** Attempts in all, the first included. */
  readonly attempts: number;
  /** Before the second attempt, the third, and so on, the last repeats: the delays that one is chosen from at random. */
  readonly delaysMs: readonly (readonly number[])[];
  readonly queueType: QueueType;
}

export function retriesOf(
  source: Source,
  { retries, retryDelay, retryJitter, queueType }: Settings,
): Retries {
  const delaysMs = parseDelays(retryDelay).map((delayMs) => spread(delayMs, retryJitter));
  return { source, attempts: retries + 1, delaysMs, queueType };
}

/** Evenly from `1 - jitter` to `1 + jitter` times the delay, so that what failed together does not come back together. */
function spread(delayMs: number, jitter: number): number[] {
  if (jitter === 0) return [delayMs];
  const steps = Array.from({ length: JITTER_STEPS }, (_step, index) => (2 * index) / (JITTER_STEPS - 1) - 1);
  return [...new Set(steps.map((step) => Math.max(1, Math.round(delayMs * (1 + jitter * step)))))];
}

/** 1 for a message that has not been retried. */
export function attemptOf(headers: Readonly<Headers>): number {
  const text = headers[ATTEMPT];
  return text !== undefined && /^[1-9]\d{0,8}$/.test(text) ? Number(text) : 1;
}

/** Queues to declare before the first retry. Throws `broker-refused` when the broker cannot delay a message of the source. */
export function delayQueues(retries: Retries, dialect: Dialect): readonly Declaration[] {
  if (retries.attempts === 1) return [];
  const targets = [...new Set(retries.delaysMs.flat())].map((delayMs) => targetOf(retries, dialect, delayMs));
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

/** The copy that comes for the next attempt, which tells of this one by headers of the caller's, and after how long. */
export function retryCopy(
  retries: Retries,
  dialect: Dialect,
  frame: Frame,
  history: Headers,
): { readonly copy: Outgoing; readonly delayMs: number } {
  const { delaysMs } = retries;
  const attempt = attemptOf(frame.headers);
  const choice = delaysMs[Math.min(attempt, delaysMs.length) - 1] ?? [];
  const delayMs = choice[Math.floor(Math.random() * choice.length)] ?? 0;
  const { destination, headers } = targetOf(retries, dialect, delayMs);
  const own = { ...headers, ...history, [ATTEMPT]: String(attempt + 1) };
  return { copy: copyOf(frame, destination, own, dialect.mostHeaders), delayMs };
}
