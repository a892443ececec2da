/** `pubsub redrive <destination>`: sends dead letters back to the queues they came from. */
import { randomUUID } from 'node:crypto';
import { isDeadLetterQueue, parseQueue } from '../brokers/destinations.js';
import { deadLetterQueueMeant, originOf } from '../brokers/origins.js';
import type { Dialect } from '../brokers/dialect.js';
import { PubsubError } from '../errors.js';
import { log } from '../log.js';
import { printable } from '../printable.js';
import { openForwarder } from '../sending/forwarder.js';
import { noneTaken, type Decision } from '../sending/take.js';
import type { Frame, Headers } from '../stomp/frames.js';
import {
  deliveryLimitOf,
  leaveOversized,
  messages,
  perhaps,
  report,
  runTake,
  startOperation,
  unsureOf,
  type OperatorFlags,
} from './operating.js';

export interface RedriveFlags extends OperatorFlags {
  readonly from?: string;
  readonly to?: string;
  readonly match?: readonly string[];
  readonly dryRun?: boolean;
}

/**
 * A header of each message that is sent back: the id of the run. At a message that comes to the dead-letter queue with this
 * id again the run ends, because everything behind that message died after the start.
 */
const MARK = 'x-redrive-id';

/**
 * Each message is sent to its queue and acked when that is confirmed: an interruption repeats messages and loses none.
 * Resolves at the end of the run; rejects with a PubsubError that says how many were sent back.
 */
export async function redrive(destination: string | undefined, flags: RedriveFlags): Promise<void> {
  const operation = await startOperation(flags);
  const isDryRun = flags.dryRun === true;
  const isMatch = matcher(flags.match ?? []);
  const { queue, target } = route(destination, flags);
  const deliveryLimit = deliveryLimitOf(flags);
  const id = randomUUID();
  const forwarder = openForwarder(operation.settings, log);
  const counts = noneTaken();
  const found = { unmatched: 0, unknown: 0, returned: 0 };
  const to = Object.create(null) as Record<string, number>;
  let planned = 0;

  const work = (message: Frame, dialect: Dialect): Decision => {
    const { headers } = message;
    if (headers[MARK] === id) {
      found.returned++;
      return 'end';
    }
    if (!isMatch(headers)) {
      found.unmatched++;
      return 'leave';
    }
    const origin = target ?? originOf(headers, queue, dialect.deathHeaders);
    if ('problem' in origin) {
      found.unknown++;
      log.warn({ messageId: headers['message-id'], reason: origin.problem }, 'left where it is');
      return 'leave';
    }
    const left = leaveOversized(message);
    if (left !== undefined) return left;
    to[origin.queue] = (to[origin.queue] ?? 0) + 1;
    if (isDryRun) return ++planned === operation.count ? 'end' : 'leave';
    const options = { headers: { [MARK]: id }, keepsDeath: isDeadLetterQueue(origin.queue) };
    return forwarder.send(`/queue/${origin.queue}`, message, options);
  };

  try {
    const describe = () => `${messages(counts.taken)} sent back`;
    const outcome = () => `${describe()}${perhaps(counts.unsure)}`;
    const errand = { queue, isBrowsing: isDryRun, deliveryLimit, describe, outcome };
    const { stopped, seconds } = await runTake(operation, errand, counts, work);
    const redriven = isDryRun ? planned : counts.taken;
    const why = found.returned > 0 ? 'returned' : isDryRun && stopped === 'end' ? 'count' : stopped;
    const result = { command: 'redrive', deadLetterQueue: queue, isDryRun, redriven, to, ...found };
    const would = isDryRun ? ' would be' : '';
    const where = Object.entries(to).map(([name, count]) => `${count} to ${printable(name)}`);
    const rest = `${found.unmatched} unmatched, ${found.unknown} of unknown origin, ${found.returned} came back`;
    await report(
      { ...result, ...unsureOf(counts.unsure), stopped: why, seconds },
      `${messages(redriven)}${would} sent back (${where.join(', ') || 'none'})${perhaps(counts.unsure)}; ${rest}`,
    );
  } finally {
    await forwarder.close();
  }
}

/** The queue to take from, and where all of it goes if the user says that. Throws `invalid-usage`. */
function route(
  destination: string | undefined,
  { from, to }: RedriveFlags,
): { readonly queue: string; readonly target: { readonly queue: string } | undefined } {
  if (destination !== undefined && from === undefined && to === undefined)
    return { queue: deadLetterQueueMeant(parseQueue(destination)), target: undefined };
  if (destination !== undefined || from === undefined || to === undefined)
    throw new PubsubError('invalid-usage', 'give a destination, or both --from <queue> and --to <queue>');
  const [queue, target] = [parseQueue(from), parseQueue(to)];
  if (queue === target) throw new PubsubError('invalid-usage', `--from and --to are one queue, ${queue}`);
  return { queue, target: { queue: target } };
}

/** Of `name=value` texts, all of which must be true of a message. Throws `invalid-usage`. */
function matcher(texts: readonly string[]): (headers: Readonly<Headers>) => boolean {
  const pairs = texts.map((text) => {
    const equals = text.indexOf('=');
    if (equals < 1)
      throw new PubsubError(
        'invalid-usage',
        `--match ${JSON.stringify(text)} is not of the form <header>=<value>`,
      );
    return [text.slice(0, equals), text.slice(equals + 1)] as const;
  });
  return (headers) => pairs.every(([name, value]) => headers[name] === value);
}
