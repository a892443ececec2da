/** `pubsub peek <destination>`: shows the first messages of a queue and leaves them there. */
import { log } from '../log.js';
import { parseQueue } from '../brokers/destinations.js';
import { mostHeldByAny } from '../brokers/products.js';
import { noneTaken } from '../sending/take.js';
import type { Frame } from '../stomp/frames.js';
import {
  deliveryLimitOf,
  messages,
  runTake,
  startOperation,
  wholeNumber,
  type OperatorFlags,
} from './operating.js';
import { printMessages } from './records.js';
import { PubsubError, reasonOf } from '../errors.js';
import { parseSubscriptionHeaders } from '../settings/pairs.js';

export interface PeekFlags extends OperatorFlags {
  readonly subscribeHeader?: readonly string[];
}

const COUNT = 10;

/** Resolves when the messages are shown, and back in the queue. Rejects with a PubsubError. */
export async function peek(destination: string, flags: PeekFlags): Promise<void> {
  const operation = await startOperation(flags);
  const queue = parseQueue(destination);
  // All that are shown are held un-acked at once.
  const count = wholeNumber('--count', flags.count, { max: mostHeldByAny }) ?? COUNT;
  const { maxMessageBytes } = operation.settings;
  const found: Frame[] = [];
  const seen = { bytes: 0, isCut: false };
  const describe = () => `${messages(found.length)} found`;
  const subscribeHeaders = readHeaders(flags.subscribeHeader ?? []);
  const look = {
    ...{ queue, window: count, isBrowsing: true, subscribeHeaders },
    deliveryLimit: deliveryLimitOf(flags),
  };
  await runTake(operation, { ...look, describe, outcome: describe }, noneTaken(), (message) => {
    seen.bytes += message.body.length;
    seen.isCut = found.length > 0 && seen.bytes > maxMessageBytes;
    return seen.isCut || found.push(message) === count ? 'end' : 'leave';
  });
  if (seen.isCut) log.warn({ queue, maxMessageBytes }, 'the rest is more than is kept at once');
  // Printed only when the messages are back: a reader that takes its time keeps no consumer waiting.
  await printMessages(found, flags.allHeaders === true);
  if (process.stdout.isTTY) log.info({ queue }, `${messages(found.length)} shown`);
}

function readHeaders(values: readonly string[]): Readonly<Record<string, string>> {
  try {
    return parseSubscriptionHeaders(values);
  } catch (error) {
    throw new PubsubError('invalid-usage', `--subscribe-header: ${reasonOf(error)}`, { cause: error });
  }
}
