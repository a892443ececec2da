/** What a dead letter says of its death: the same headers on every broker, which tell why without a look at any log. */
import type { Source } from '../brokers/destinations.js';
import type { Dialect } from '../brokers/dialect.js';
import { existingQueue, queueArguments, type QueueType } from '../brokers/queues.js';
import { nameOf, reasonOf } from '../errors.js';
import { copyOf } from '../sending/copies.js';
import type { Outgoing } from '../sending/heads.js';
import type { Frame, Headers } from '../stomp/frames.js';
import type { DeadLetterReason } from './events.js';
import { attemptOf } from './retries.js';
import { tame } from './thrown.js';

/** Why a message failed: what the log tells, and its dead letter. */
export interface Failure {
  readonly reason: DeadLetterReason;
  readonly detail?: string;
  readonly err?: unknown;
  /** With retries: the number of the attempt, and of how many. */
  readonly attempt?: number;
  readonly of?: number;
}

/** As the log tells it. */
export const told = (failure: Failure): Failure =>
  'err' in failure ? { ...failure, err: tame(failure.err) } : failure;

export interface DeadLetterOptions {
  readonly source: Source;
  readonly queueType: QueueType;
  /** `module#export`, or the name of a function; empty for one without a name. */
  readonly callback: string;
  /** May the class and the message of an error leave this process? */
  readonly tellsError: boolean;
}

/** Far below every broker's limit for a header: ActiveMQ 5.17 takes lines of 10 KB. */
const MAX_MESSAGE_LENGTH = 1000;

/** The copy of a message for its dead-letter queue. */
export function deadLetterCopy(
  frame: Frame,
  failure: Failure,
  options: DeadLetterOptions,
  { mostHeaders, hasTopicQueues }: Dialect,
): Outgoing {
  const { source, queueType } = options;
  const { deadLetterQueue, kind, queue, topic, isExisting } = source;
  const own = {
    ...(isExisting ? {} : queueArguments(`DLQ.${deadLetterQueue}`, queueType)),
    'original-destination': kind === 'topic' && !hasTopicQueues ? `/topic/${topic}` : `/queue/${queue}`,
    ...failureHeaders(frame, failure, options),
  };
  const target = isExisting ? existingQueue(deadLetterQueue) : `/queue/${deadLetterQueue}`;
  return copyOf(frame, target, own, mostHeaders);
}

/** What was thrown, or is wrong with the message otherwise, where that may be told. */
export function errorHeaders(failure: Pick<Failure, 'err' | 'detail'>, tellsError: boolean): Headers {
  if (!tellsError) return {};
  const isThrown = 'err' in failure;
  const name = isThrown ? nameOf(failure.err) : undefined;
  const message = isThrown ? reasonOf(failure.err) : failure.detail;
  return {
    ...(name === undefined ? {} : { 'x-failure-error': oneLine(name) }),
    ...(message === undefined ? {} : { 'x-failure-message': oneLine(message) }),
  };
}

function failureHeaders(
  { headers }: Frame,
  failure: Failure,
  { callback, tellsError }: DeadLetterOptions,
): Headers {
  return {
    'x-failure-reason': failure.reason,
    ...errorHeaders(failure, tellsError),
    'x-failure-at': new Date().toISOString(),
    'x-failure-attempts': String(attemptOf(headers)),
    ...(callback === '' ? {} : { 'x-failure-callback': oneLine(callback) }),
  };
}

/** Nearly every name and message is such: to look at each character of it by what Unicode says takes ten times as long. */
const words = /^[!-~]+(?: [!-~]+)*$/;

/** Without control characters, marks that turn the direction of text, and halves of characters. */
function oneLine(text: string): string {
  if (words.test(text)) return text.slice(0, MAX_MESSAGE_LENGTH);
  return text
    .replace(/[\p{Cc}\p{Zl}\p{Zp}\u200e\u200f\u202a-\u202e\u2066-\u2069\s]+/gu, ' ')
    .trim()
    .slice(0, MAX_MESSAGE_LENGTH)
    .replace(/[\ud800-\udbff]$/, '');
}
