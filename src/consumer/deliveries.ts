/**
 * How often a message was delivered and never settled, and what is to be done about it (`--max-deliveries`). A quorum
 * queue counts by itself. Elsewhere a broker only says that a message was delivered before: it is counted by a copy, which
 * has the count in a header. A delivery counts although the message may only have waited in a consumer that ended. So
 * nothing is held against a message before its last delivery: that one is a copy which is marked, so that it is known
 * of it, when it comes again, that it ran alone in a consumer that ended.
 */
import { randomBytes } from 'node:crypto';
import type { Source } from '../brokers/destinations.js';
import type { Dialect } from '../brokers/dialect.js';
import { ATTEMPT, DELIVERIES } from '../brokers/headers.js';
import type { QueueType } from '../brokers/queues.js';
import { PubsubError } from '../errors.js';
import { copyOf } from '../sending/copies.js';
import type { Outgoing } from '../sending/heads.js';
import type { Frame, Headers } from '../stomp/frames.js';

/**
 * `uncounted`: it comes again, and a copy that says so is to come first. `suspect`: nothing but its last delivery is left,
 * and a marked copy is to come for that. `alone`: that copy. `ended`: the same, for the second time.
 */
export type Standing = 'free' | 'uncounted' | 'suspect' | 'alone' | 'ended';

export interface DeliveryCount {
  readonly standing: Standing;
  /** Deliveries before this one. */
  readonly before: number;
  /** Which marked copy it is. */
  readonly mark: string | undefined;
}

export interface CountingOptions {
  readonly source: Source;
  readonly queueType: QueueType;
  readonly queueArguments: Readonly<Headers>;
  /** Deliveries in all, the last one alone. */
  readonly limit: number;
}

/** What the headers of a message say. */
export function countOf(
  headers: Readonly<Headers>,
  { deliveryLimit }: Dialect,
  { queueType, limit }: CountingOptions,
): DeliveryCount {
  const [, told = '0', mark] = /^(\d{1,9})(?: alone (\w{1,40}))?$/.exec(headers[DELIVERIES] ?? '') ?? [];
  const isAgain = headers.redelivered === 'true';
  // Of other queues than these the header is the sender's.
  const counted = queueType === 'quorum' ? (deliveryLimit?.deliveriesOf(headers) ?? 0) : 0;
  const before = Number(told) + (isAgain ? Math.max(1, counted) : 0);
  const standing = () => {
    if (mark !== undefined) return isAgain ? 'ended' : 'alone';
    if (before + 1 >= limit) return 'suspect';
    return isAgain && counted === 0 ? 'uncounted' : 'free';
  };
  return { standing: standing(), before, mark };
}

/** The copy that goes to the end of the queue in place of a message that was delivered so often; marked: to run alone. */
export function countedCopy(
  frame: Frame,
  before: number,
  isMarked: boolean,
  options: CountingOptions,
  dialect: Dialect,
): Outgoing {
  const { destination, headers } = targetOf(options, dialect);
  const attempt = frame.headers[ATTEMPT];
  const own = {
    ...headers,
    ...(attempt === undefined ? {} : { [ATTEMPT]: attempt }),
    [DELIVERIES]: isMarked ? `${before} alone ${randomBytes(6).toString('hex')}` : String(before),
  };
  return copyOf(frame, destination, own, dialect.mostHeaders, { keepsDeath: true });
}

/** Throws `broker-refused` where messages of the source cannot be counted. */
export function requireCounting(options: CountingOptions, dialect: Dialect): void {
  targetOf(options, dialect);
}

function targetOf({ source, queueType, queueArguments }: CountingOptions, dialect: Dialect) {
  const target = dialect.behindOthers(source, queueType, queueArguments);
  if (target !== undefined) return target;
  throw new PubsubError(
    'broker-refused',
    `deliveries of ${source.destination} cannot be counted on ${dialect.name}: ` +
      'a copy cannot come back to this subscription alone; leave STOMP_MAX_DELIVERIES out',
  );
}
