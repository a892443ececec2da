/**
 * What the operator's commands have in common: flags, settings, signals, the end of a run and how it is told, on a
 * terminal as a sentence and elsewhere as one JSON line.
 */
import { once } from 'node:events';
import { PubsubError, reasonOf } from '../errors.js';
import { log } from '../log.js';
import { printableText } from '../printable.js';
import { showProgress } from '../progress.js';
import type { Settings } from '../settings.js';
import { parseSeconds } from '../settings/kinds.js';
import type { Frame } from '../stomp/frames.js';
import type { Dialect } from '../brokers/dialect.js';
import { take, type StopReason, type TakeCounts, type TakeOptions, type Work } from '../sending/take.js';
import { filterOf, type Filter, type FilterFlags } from './filters.js';
import { paceOf, type Pace } from './pace.js';
import { start, type Start } from './start.js';

export interface OperatorFlags extends FilterFlags, Record<string, unknown> {
  readonly count?: string;
  readonly idle?: string;
  readonly follow?: boolean;
  readonly deliveryLimit?: string;
  readonly dryRun?: boolean;
  readonly rate?: string;
}

/** Longer than a broker under load takes to hand out the next message of a queue that has one. */
const IDLE_SECONDS = 2;

/** What a command starts with, and how much it is to take. Rejects with `invalid-usage` and `invalid-setting`. */
export async function startOperation(flags: OperatorFlags): Promise<Operation> {
  const begun = await start(flags);
  if (flags.follow === true && flags.idle !== undefined)
    throw new PubsubError('invalid-usage', 'give --idle or --follow, not both');
  const filter = filterOf(flags);
  const isDryRun = flags.dryRun === true;
  if (flags.follow === true && (isDryRun || !filter.isOpen))
    throw new PubsubError(
      'invalid-usage',
      'what stays is held to the end: filters and --dry-run need an end, so no --follow',
    );
  return {
    ...begun,
    filter,
    isDryRun,
    pace: paceOf(flags.rate),
    count: wholeNumber('--count', flags.count) ?? Infinity,
    idleMs: 1000 * (seconds('--idle', flags.idle) ?? IDLE_SECONDS),
    isEndless: flags.follow === true,
  };
}

export interface Operation extends Start, Pick<TakeOptions, 'count' | 'idleMs' | 'isEndless'> {
  readonly filter: Filter;
  /** Nothing is done: what would be is counted, and left. */
  readonly isDryRun: boolean;
  readonly pace: Pace | undefined;
}

/** What is to be done with a message: nothing, or a function that does it and resolves when it may be acked. */
export type Chore = 'leave' | 'end' | (() => Promise<unknown>);

/** What `runTake` takes from, beside the operation, and how that is told. */
interface Errand extends Pick<TakeOptions, 'queue' | 'isBrowsing' | 'deliveryLimit' | 'subscribeHeaders'> {
  /** Of the broker to take from, when it is another one. */
  readonly settings?: Settings;
  readonly window?: number;
  /** How far it is, in words. */
  readonly describe: () => string;
  /** The same after a failure, with what may have been done. */
  readonly outcome: () => string;
}

/** What was done, or would be in a dry run, and how many messages stay. */
export interface Done {
  readonly done: number;
  readonly left: number;
  readonly stopped: StopReason;
  readonly seconds: number;
}

/** Takes until the operation's limits or a signal end it, at its pace. A failure says how far it came. */
export async function runTake(
  operation: Operation,
  { describe, outcome, ...errand }: Errand,
  counts: TakeCounts,
  choreOf: (message: Frame, dialect: Dialect) => Chore,
): Promise<Done> {
  const { settings, listen, isDryRun, pace, ...limits } = operation;
  const { drain, abort } = listen();
  const startMs = performance.now();
  const window = Math.min(settings.publishWindow, pace?.window ?? Infinity);
  const count = isDryRun ? Infinity : limits.count;
  const isLook = errand.isBrowsing === true || isDryRun;
  // What is only looked at is not kept.
  const mostBytes = isLook ? Infinity : settings.maxMessageBytes;
  const options = { window, mostBytes, settings, ...limits, count, ...errand, log, signal: drain };
  const total = isLook || operation.count === Infinity ? undefined : operation.count;
  let planned = 0;
  const work: Work = (message, dialect, signal) => {
    const chore = choreOf(message, dialect);
    if (typeof chore === 'string') return chore;
    if (isDryRun) return ++planned === operation.count ? 'end' : 'leave';
    return pace === undefined ? chore() : pace.turn(signal).then((isTurn) => (isTurn ? chore() : 'leave'));
  };
  const hide = await showProgress(() => ({ done: counts.taken, total, text: describe() }));
  try {
    const reason = await Promise.race([take(options, counts, work), deadline(settings, abort)]);
    const stopped = planned === operation.count ? 'count' : reason;
    const seconds = Math.round(performance.now() - startMs) / 1000;
    return { stopped, seconds, done: counts.taken + planned, left: counts.left - planned };
  } catch (error) {
    if (!(error instanceof PubsubError)) throw error;
    throw new PubsubError(error.code, `${error.message}; ${outcome()}`, { cause: error });
  } finally {
    hide();
  }
}

/** Rejects with `deadline-passed` when a stop has waited its graceful time. */
export async function deadline({ gracefulWaitSeconds }: Settings, abort: AbortSignal): Promise<never> {
  if (!abort.aborted) await once(abort, 'abort');
  const limit = `${gracefulWaitSeconds} s (STOMP_GRACEFUL_WAIT_SECONDS)`;
  throw new PubsubError('deadline-passed', `what is under way was not confirmed within ${limit}`);
}

/** `leave`, with a log line, for a message that is not known whole; undefined for all others. */
export function leaveOversized({ headers, oversized }: Frame): 'leave' | undefined {
  if (oversized === undefined) return undefined;
  const fields = { messageId: headers['message-id'], reason: `its ${oversized} is larger than the limit` };
  log.warn(fields, 'left where it is');
  return 'leave';
}

/** The result of a command, on stdout. Rejects with `not-saved`, which tells the result too. */
export async function report(result: object, sentence: string): Promise<void> {
  const text = process.stdout.isTTY ? printableText(sentence) : JSON.stringify(result);
  try {
    await print(`${text}\n`);
  } catch (error) {
    throw new PubsubError('not-saved', `${reasonOf(error)}; ${sentence}`, { cause: error });
  }
}

/** Writes to stdout; resolves when it is written, or nobody reads it any more. Rejects with `not-saved`. */
export function print(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => {
      if (error instanceof Error && (error as NodeJS.ErrnoException).code !== 'EPIPE')
        reject(new PubsubError('not-saved', `stdout cannot be written: ${reasonOf(error)}`));
      else resolve();
    });
  });
}

/** How the sentence about a run ends: what a signal has left nobody has counted. */
export function afterStop(stopped: StopReason, queue: string): string {
  return stopped === 'signal' ? `; stopped before the end of ${queue}: more may lie there` : '';
}

/** What is added to a count of what is certain, for those of which it is not known; empty for none. */
export function perhaps(count: number): string {
  return count === 0 ? '' : `, up to ${count} more may be`;
}

/** The same as a field of a result, which has it only when there are any: after a connection was lost. */
export function unsureOf(unsure: number): object {
  return unsure === 0 ? {} : { unsure };
}

/** The delivery limit of the queue, as the flag gives it. Throws `invalid-usage`. */
export function deliveryLimitOf({ deliveryLimit }: OperatorFlags): number | undefined {
  return wholeNumber('--delivery-limit', deliveryLimit);
}

/** `would be moved` in a dry run. */
export function wouldBe({ isDryRun }: Operation, done: string): string {
  return isDryRun ? `would be ${done}` : done;
}

/** `1 message`, `2 messages`. */
export function messages(count: number): string {
  return count === 1 ? '1 message' : `${count} messages`;
}

/** Reads a flag's text; undefined for a flag that is not given. Throws `invalid-usage`. */
export function wholeNumber(
  flag: string,
  text: string | undefined,
  { min = 1, max = 1e15 } = {},
): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,15}$/.test(text) && Number(text) >= min && Number(text) <= max) return Number(text);
  const range = max === 1e15 ? `from ${min}` : `from ${min} to ${max}`;
  throw new PubsubError('invalid-usage', `${flag}: a whole number ${range} expected, not "${text}"`);
}

function seconds(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  try {
    return parseSeconds([0.1, 999_999])(text);
  } catch (error) {
    throw new PubsubError('invalid-usage', `${flag}: ${reasonOf(error)}, not "${text}"`, { cause: error });
  }
}
