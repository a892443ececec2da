/**
 * What the operator's commands have in common: flags, settings, signals, the end of a run and how it is told, on a
 * terminal as a sentence and elsewhere as one JSON line.
 */
import { once } from 'node:events';
import { PubsubError, reasonOf } from '../errors.js';
import { log } from '../log.js';
import { showProgress } from '../progress.js';
import type { Settings } from '../settings.js';
import type { Frame } from '../stomp/frames.js';
import { take, type StopReason, type TakeCounts, type TakeOptions, type Work } from '../sending/take.js';
import { start, type Start } from './start.js';

export interface OperatorFlags extends Record<string, unknown> {
  readonly count?: string;
  readonly idle?: string;
  readonly follow?: boolean;
}

/** Longer than a broker under load takes to hand out the next message of a queue that has one. */
const IDLE_SECONDS = 2;

/** What a command starts with, and how much it is to take. Rejects with `invalid-usage` and `invalid-setting`. */
export async function startOperation(flags: OperatorFlags): Promise<Operation> {
  const begun = await start(flags);
  if (flags.follow === true && flags.idle !== undefined)
    throw new PubsubError('invalid-usage', 'give --idle or --follow, not both');
  return {
    ...begun,
    count: wholeNumber('--count', flags.count) ?? Infinity,
    idleMs: 1000 * (seconds('--idle', flags.idle) ?? IDLE_SECONDS),
    isEndless: flags.follow === true,
  };
}

export interface Operation extends Start, Pick<TakeOptions, 'count' | 'idleMs' | 'isEndless'> {}

/** What `runTake` takes from, beside the operation. */
interface TakeRun {
  readonly queue: string;
  /** Of the broker to take from, when it is another one. */
  readonly settings?: Settings;
  readonly window?: number;
  readonly isBrowsing?: boolean;
  /** How far the run is, in words. */
  readonly describe: () => string;
}

export interface Ending {
  readonly stopped: StopReason;
  readonly seconds: number;
}

/**
 * Takes until the operation's limits or a signal end it. A failure says how many messages were dealt with; those that
 * were under way are still in the queue.
 */
export async function runTake(
  operation: Operation,
  { describe, ...run }: TakeRun,
  counts: TakeCounts,
  work: Work,
): Promise<Ending> {
  const { settings, listen, ...limits } = operation;
  const { drain, abort } = listen();
  const startMs = performance.now();
  const options = { window: settings.publishWindow, settings, ...limits, ...run, log, signal: drain };
  const total = run.isBrowsing === true || operation.count === Infinity ? undefined : operation.count;
  const hide = await showProgress(() => ({ done: counts.taken, total, text: describe() }));
  try {
    const stopped = await Promise.race([take(options, counts, work), deadline(settings, abort)]);
    return { stopped, seconds: Math.round(performance.now() - startMs) / 1000 };
  } catch (error) {
    if (!(error instanceof PubsubError)) throw error;
    throw new PubsubError(error.code, `${error.message}; ${describe()}`, { cause: error });
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

/** The result of a command, on stdout. Rejects as print does. */
export function report(result: object, sentence: string): Promise<void> {
  return print(process.stdout.isTTY ? `${sentence}\n` : `${JSON.stringify(result)}\n`);
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

/** `1 message`, `2 messages`. */
export function messages(count: number): string {
  return count === 1 ? '1 message' : `${count} messages`;
}

/** Reads a flag's text; undefined for a flag that is not given. Throws `invalid-usage`. */
export function wholeNumber(flag: string, text: string | undefined, max = 1e15): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,15}$/.test(text) || Number(text) < 1 || Number(text) > max) {
    const range = max === 1e15 ? 'from 1' : `from 1 to ${max}`;
    throw new PubsubError('invalid-usage', `${flag}: a whole number ${range} expected, not "${text}"`);
  }
  return Number(text);
}

function seconds(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,6}(\.\d+)?$/.test(text) || Number(text) < 0.1)
    throw new PubsubError('invalid-usage', `${flag}: seconds from 0.1 expected, not "${text}"`);
  return Number(text);
}
