/**
 * `pubsub dead-letters <queue>`: what lies in a dead-letter queue, without taking any of it: by reason, error and age, as a
 * list, or one message whole. All is printed when the look is over: a reader that takes its time keeps no consumer waiting.
 */
import { deathOf } from '../brokers/deaths.js';
import { parseQueue } from '../brokers/destinations.js';
import type { Dialect } from '../brokers/dialect.js';
import { deadLetterQueueMeant } from '../brokers/origins.js';
import { mostHeldByAny } from '../brokers/products.js';
import { PubsubError } from '../errors.js';
import { log } from '../log.js';
import { noneTaken } from '../sending/take.js';
import type { Frame, Headers } from '../stomp/frames.js';
import {
  deliveryLimitOf,
  messages,
  print,
  runTake,
  startOperation,
  type Operation,
  type OperatorFlags,
} from './operating.js';
import { printMessages } from './records.js';
import { DeathSummary } from './summary.js';
import { tableOf } from './table.js';

export interface DeadLettersFlags extends OperatorFlags {
  readonly from?: string;
  readonly list?: boolean;
  readonly show?: string;
}

/** What is kept of messages to print them, at most; the rest is not looked at. */
const MOST_BYTES = 64 * 1024 * 1024;

/** Resolves when it is printed. Rejects with a PubsubError: `invalid-usage` when `--show` finds nothing. */
export async function deadLetters(destination: string | undefined, flags: DeadLettersFlags): Promise<void> {
  const { from, list, show } = flags;
  if ((destination === undefined) === (from === undefined))
    throw new PubsubError(
      'invalid-usage',
      'give a queue, or --from <queue> for a dead-letter queue of any name',
    );
  if (list === true && show !== undefined)
    throw new PubsubError('invalid-usage', 'give --list or --show, not both');
  const operation = await startOperation(flags);
  const queue = from === undefined ? deadLetterQueueMeant(parseQueue(destination ?? '')) : parseQueue(from);
  const look: Look = { operation, queue, deliveryLimit: deliveryLimitOf(flags) };
  if (show !== undefined) await showOne(look, show);
  else if (list === true) await printList(look);
  else await printSummary(look);
}

interface Look {
  readonly operation: Operation;
  readonly queue: string;
  readonly deliveryLimit: number | undefined;
}

/** Calls `see` with each that the filter lets through, up to the operation's count, until it says that it is enough. */
async function lookAt(
  { operation, ...where }: Look,
  see: (message: Frame, dialect: Dialect) => 'enough' | undefined,
): Promise<{
  readonly looked: number;
  readonly matching: number;
  readonly stopped: string;
  readonly seconds: number;
}> {
  const { filter, count } = operation;
  const seen = { looked: 0, matching: 0, isCut: false };
  const describe = () => `${messages(seen.looked)} looked at`;
  // Nothing is held here, so that any number may come at once. A browser would see a page of the queue only: 400 messages
  // where nobody sets another maxBrowsePageSize (ActiveMQ 5.17.2).
  const errand = { ...where, window: mostHeldByAny, describe, outcome: describe };
  const limits = { ...operation, count: Infinity, isDryRun: true };
  const { stopped, seconds } = await runTake(limits, errand, noneTaken(), (message, dialect) => {
    seen.looked++;
    if (!filter.isMatch(message.headers)) return 'leave';
    seen.matching++;
    seen.isCut = see(message, dialect) === 'enough';
    return seen.isCut || seen.matching === count ? 'end' : 'leave';
  });
  return { ...seen, stopped: seen.isCut ? 'enough' : stopped === 'end' ? 'count' : stopped, seconds };
}

async function printSummary(look: Look): Promise<void> {
  const summary = new DeathSummary();
  const { looked, matching, stopped, seconds } = await lookAt(look, ({ headers }, dialect) => {
    summary.add(deathOf(headers), idOf(headers, dialect));
    return undefined;
  });
  const groups = summary.groups();
  if (!process.stdout.isTTY) {
    const result = { command: 'dead-letters', deadLetterQueue: look.queue, total: matching };
    const rest = { unmatched: looked - matching, groups, stopped, seconds };
    await print(`${JSON.stringify({ ...result, ...rest })}\n`);
    return;
  }
  if (groups.length > 0) await print(tableOf([summary.heading, ...summary.rows()]));
  log.info({ queue: look.queue, stopped }, `${messages(matching)}, ${looked - matching} unmatched`);
}

async function printList(look: Look): Promise<void> {
  const found: Record<string, string | undefined>[] = [];
  let bytes = 0;
  const { matching, stopped } = await lookAt(look, ({ headers }, dialect) => {
    const row = rowOf(headers, dialect);
    bytes += JSON.stringify(row).length;
    if (bytes > MOST_BYTES) return 'enough';
    found.push(row);
    return undefined;
  });
  if (stopped === 'enough')
    log.warn({ queue: look.queue }, 'too many to be listed at once: use filters or --count');
  if (!process.stdout.isTTY) {
    for (const row of found) await print(`${JSON.stringify(row)}\n`);
    return;
  }
  const columns = ['at', 'reason', 'error', 'id', 'attempts', 'message'] as const;
  const rows = found.map((row) => columns.map((column) => row[column] ?? '-'));
  if (rows.length > 0) await print(tableOf([columns.map((column) => column.toUpperCase()), ...rows]));
  log.info({ queue: look.queue }, messages(matching));
}

async function showOne(look: Look, id: string): Promise<void> {
  const found: Frame[] = [];
  let bytes = 0;
  const { looked } = await lookAt(look, (message) => {
    const { 'message-id': messageId, 'correlation-id': correlationId } = message.headers;
    if (messageId !== id && correlationId !== id) return undefined;
    bytes += message.body.length;
    if (found.length > 0 && bytes > MOST_BYTES) return 'enough';
    found.push(message);
    return undefined;
  });
  if (found.length === 0) {
    const advice =
      'an id is a correlation-id, or a message-id where the broker keeps those (RabbitMQ does not)';
    throw new PubsubError(
      'invalid-usage',
      `none of the ${messages(looked)} in ${look.queue} has the id ${JSON.stringify(id)}: ${advice}`,
    );
  }
  await printMessages(found, true);
}

/** What `--list` tells of a message; a column of the table each, and some more. */
function rowOf(headers: Readonly<Headers>, dialect: Dialect): Record<string, string | undefined> {
  const { reason, error, atMs } = deathOf(headers);
  return {
    id: idOf(headers, dialect),
    reason,
    error,
    message: headers['x-failure-message'],
    at: atMs === undefined ? undefined : new Date(atMs).toISOString(),
    attempts: headers['x-failure-attempts'],
    callback: headers['x-failure-callback'],
    origin: dialect.deathHeaders.map((name) => headers[name]).find((value) => value !== undefined),
  };
}

/** By which the message is found again: RabbitMQ's message-id is another one at each delivery. */
function idOf(headers: Readonly<Headers>, { keepsMessageIds }: Dialect): string | undefined {
  return headers['correlation-id'] ?? (keepsMessageIds ? headers['message-id'] : undefined);
}
