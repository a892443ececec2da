/** `pubsub redrive <destination>`: sends dead letters back to the queues they came from. */
import { randomUUID } from 'node:crypto';
import { PubsubError } from '../errors.js';
import { log } from '../log.js';
import { parseQueue } from '../brokers/destinations.js';
import { openForwarder } from '../sending/forwarder.js';
import type { Headers } from '../stomp/frames.js';
import { originOf } from '../brokers/origins.js';
import type { Verdict, Work } from '../sending/take.js';
import {
  leaveOversized,
  messages,
  report,
  runTake,
  startOperation,
  type OperatorFlags,
} from './operating.js';

export interface RedriveFlags extends OperatorFlags {
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
export async function redrive(destination: string, flags: RedriveFlags): Promise<void> {
  const operation = await startOperation(flags);
  const isDryRun = flags.dryRun === true;
  const isMatch = matcher(flags.match ?? []);
  const queue = deadLetterQueueFor(parseQueue(destination));
  const id = randomUUID();
  const forwarder = openForwarder(operation.settings, log);
  const counts = { taken: 0, left: 0 };
  const found = { unmatched: 0, unknown: 0, returned: 0 };
  const to: Record<string, number> = {};
  let planned = 0;

  const work: Work = (message, dialect): Verdict => {
    const { headers } = message;
    if (headers[MARK] === id) {
      found.returned++;
      return 'end';
    }
    if (!isMatch(headers)) {
      found.unmatched++;
      return 'leave';
    }
    const origin = originOf(headers, queue, dialect.deathHeaders);
    if ('problem' in origin) {
      found.unknown++;
      log.warn({ messageId: headers['message-id'], reason: origin.problem }, 'left where it is');
      return 'leave';
    }
    const left = leaveOversized(message);
    if (left !== undefined) return left;
    to[origin.queue] = (to[origin.queue] ?? 0) + 1;
    if (isDryRun) return ++planned === operation.count ? 'end' : 'leave';
    return forwarder.send(`/queue/${origin.queue}`, message, { headers: { [MARK]: id } });
  };

  try {
    const describe = () => `${messages(counts.taken)} sent back`;
    const run = { queue, isBrowsing: isDryRun, describe };
    const { stopped, seconds } = await runTake(operation, run, counts, work);
    const redriven = isDryRun ? planned : counts.taken;
    const why = found.returned > 0 ? 'returned' : isDryRun && stopped === 'end' ? 'count' : stopped;
    const result = { command: 'redrive', deadLetterQueue: queue, isDryRun, redriven, to, ...found };
    const would = isDryRun ? ' would be' : '';
    const where = Object.entries(to).map(([name, count]) => `${count} to ${name}`);
    const rest = `${found.unmatched} unmatched, ${found.unknown} of unknown origin, ${found.returned} came back`;
    await report(
      { ...result, stopped: why, seconds },
      `${messages(redriven)}${would} sent back (${where.join(', ') || 'none'}); ${rest}`,
    );
  } finally {
    await forwarder.close();
  }
}

/** What is named like a dead-letter queue is one. `ActiveMQ.DLQ` is the one that ActiveMQ uses unless told otherwise. */
function deadLetterQueueFor(queue: string): string {
  return queue.startsWith('DLQ.') || queue === 'ActiveMQ.DLQ' ? queue : `DLQ.${queue}`;
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
