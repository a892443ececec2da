/** `pubsub redrive <destination>`: sends dead letters back to the queues they came from. */
import { randomUUID } from 'node:crypto';
import { isDeadLetterQueue, parseQueue } from '../brokers/destinations.js';
import { deadLetterQueueMeant, originOf } from '../brokers/origins.js';
import type { Dialect } from '../brokers/dialect.js';
import { PubsubError } from '../errors.js';
import { log } from '../log.js';
import { printable } from '../printable.js';
import { openForwarder } from '../sending/forwarder.js';
import { noneTaken } from '../sending/take.js';
import type { Frame } from '../stomp/frames.js';
import {
  afterStop,
  deliveryLimitOf,
  leaveOversized,
  messages,
  perhaps,
  report,
  runTake,
  startOperation,
  unsureOf,
  wouldBe,
  type Chore,
  type OperatorFlags,
} from './operating.js';

export interface RedriveFlags extends OperatorFlags {
  readonly from?: string;
  readonly to?: string;
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
  const { filter, isDryRun } = operation;
  const { queue, target } = route(destination, flags);
  const deliveryLimit = deliveryLimitOf(flags);
  const id = randomUUID();
  const forwarder = openForwarder(operation.settings, log);
  const counts = noneTaken();
  const found = { unmatched: 0, unknown: 0, returned: 0 };
  const to = Object.create(null) as Record<string, number>;

  const choreOf = (message: Frame, dialect: Dialect): Chore => {
    const { headers } = message;
    if (headers[MARK] === id) {
      found.returned++;
      return 'end';
    }
    if (!filter.isMatch(headers)) {
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
    const options = { headers: { [MARK]: id }, keepsDeath: isDeadLetterQueue(origin.queue) };
    const count = () => (to[origin.queue] = (to[origin.queue] ?? 0) + 1);
    if (isDryRun) count();
    return () => {
      count();
      return forwarder.send(`/queue/${origin.queue}`, message, options);
    };
  };

  try {
    const describe = () => `${messages(counts.taken)} sent back`;
    const outcome = () => `${describe()}${perhaps(counts.unsure)}`;
    const errand = { queue, deliveryLimit, describe, outcome };
    const { done: redriven, stopped, seconds } = await runTake(operation, errand, counts, choreOf);
    const why = found.returned > 0 ? 'returned' : stopped;
    const result = { command: 'redrive', deadLetterQueue: queue, isDryRun, redriven, to, ...found };
    const where = Object.entries(to).map(([name, count]) => `${count} to ${printable(name)}`);
    const rest = `${found.unmatched} unmatched, ${found.unknown} of unknown origin, ${found.returned} came back`;
    await report(
      { ...result, ...unsureOf(counts.unsure), stopped: why, seconds },
      `${messages(redriven)} ${wouldBe(operation, 'sent back')} (${where.join(', ') || 'none'})${perhaps(counts.unsure)}; ${rest}${afterStop(stopped, queue)}`,
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
