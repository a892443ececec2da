/** `pubsub restore <file> <destination>`: sends the messages that `ack-all-messages --save` or `peek` wrote to a file. */
import { createReadStream } from 'node:fs';
import { checkTarget, isDeadLetterQueue } from '../brokers/destinations.js';
import { PubsubError, reasonOf } from '../errors.js';
import { log } from '../log.js';
import { showProgress } from '../progress.js';
import { openForwarder } from '../sending/forwarder.js';
import type { Frame } from '../stomp/frames.js';
import {
  deadline,
  messages,
  perhaps,
  report,
  startOperation,
  wholeNumber,
  type OperatorFlags,
} from './operating.js';
import { fromJson } from './records.js';

const LF = 10;

export interface RestoreFlags extends OperatorFlags {
  readonly resumeFrom?: string;
}

/**
 * Sends the messages in order, whole, each confirmed. Resolves at the end of the file; rejects with a PubsubError that says how to
 * go on from the first line that is not confirmed: `interrupted` after a signal.
 */
export async function restore(path: string, destination: string, flags: RestoreFlags): Promise<void> {
  const { settings, listen } = await startOperation(flags);
  const resumeFrom = wholeNumber('--resume-from', flags.resumeFrom, { min: 0 }) ?? 0;
  checkTarget(destination);
  const keepsDeath = isDeadLetterQueue(destination);
  const { drain, abort } = listen();
  const forwarder = openForwarder(settings, log);
  const restoring = new Restoring((message) => forwarder.send(destination, message, { keepsDeath }));
  const startMs = performance.now();
  const overdue = deadline(settings, abort);
  // Nobody waits for it while the next line is read.
  overdue.catch(() => undefined);
  const text = () => `${messages(restoring.restored)} restored`;
  const hide = await showProgress(() => ({ done: restoring.restored, total: undefined, text: text() }));
  try {
    for await (const line of linesOf(path, drain)) {
      if (restoring.hasFailed) break;
      if (line.number <= resumeFrom) restoring.skip(line);
      else restoring.send(line);
      while (
        restoring.underWay >= settings.publishWindow ||
        restoring.bytesUnderWay >= settings.maxMessageBytes
      )
        await Promise.race([restoring.oldestConfirmed(), overdue]);
    }
    restoring.checkLength(resumeFrom);
    await Promise.race([restoring.allConfirmed(), overdue]);
  } catch (error) {
    await Promise.race([restoring.allSettled(), overdue]).catch(() => undefined);
    throw restoring.outcome(error, text());
  } finally {
    hide();
    await forwarder.close();
  }
  const seconds = Math.round(performance.now() - startMs) / 1000;
  const { restored, torn } = restoring;
  const result = { command: 'restore', file: path, destination, restored, ...torn, stopped: 'end', seconds };
  await report(result, `${messages(restored)} of ${path} sent to ${destination}`);
}

/** A line of the file, counted from 1; the last one may be without its end. */
interface Line {
  readonly number: number;
  readonly content: string;
  readonly isWhole: boolean;
}

/** Which lines are sent, and which of these are confirmed. */
class Restoring {
  restored = 0;
  bytesUnderWay = 0;
  hasFailed = false;
  /** A last line that was not written to its end: its message was not removed. */
  torn: { readonly tornLine: number } | undefined;
  readonly #send: (message: Frame) => Promise<void>;
  /** By the number of its line, so that the first is the oldest. What has failed stays. */
  readonly #unconfirmed = new Map<number, Promise<void>>();
  /** The last line that is sent, or that nothing is to be sent of. */
  #last = 0;

  constructor(send: (message: Frame) => Promise<void>) {
    this.#send = send;
  }

  get underWay(): number {
    return this.#unconfirmed.size;
  }

  skip({ number }: Line): void {
    this.#last = number;
  }

  /** Throws `invalid-json` for what is no message, unless it is torn. */
  send(line: Line): void {
    const message = this.#messageOf(line);
    this.#last = line.number;
    if (message === undefined) return;
    const bytes = message.body.length;
    this.bytesUnderWay += bytes;
    const sent = this.#send(message).then(() => {
      this.bytesUnderWay -= bytes;
      this.#unconfirmed.delete(line.number);
      this.restored++;
    });
    sent.catch(() => (this.hasFailed = true));
    this.#unconfirmed.set(line.number, sent);
  }

  oldestConfirmed(): Promise<void> | undefined {
    return this.#unconfirmed.values().next().value;
  }

  /** Rejects with the first failure. */
  allConfirmed(): Promise<unknown> {
    return Promise.all(this.#unconfirmed.values());
  }

  allSettled(): Promise<unknown> {
    return Promise.allSettled(this.#unconfirmed.values());
  }

  /** Throws `invalid-usage` when there are not so many lines. */
  checkLength(resumeFrom: number): void {
    if (this.#last >= resumeFrom) return;
    const message = `--resume-from ${resumeFrom}: the file has only ${this.#last} lines`;
    throw new PubsubError('invalid-usage', message);
  }

  /** The error with what is done, and with the line to go on from. */
  outcome(error: unknown, text: string): unknown {
    if (!(error instanceof PubsubError) || error.code === 'invalid-usage') return error;
    const [first = this.#last + 1] = this.#unconfirmed.keys();
    const how = `${text}${perhaps(this.underWay)}; line ${first} is the first that is not`;
    const advice = `go on with --resume-from ${first - 1}`;
    return new PubsubError(error.code, `${error.message}; ${how}: ${advice}`, { cause: error });
  }

  #messageOf({ number, content, isWhole }: Line): Frame | undefined {
    if (content.trim() === '') return undefined;
    try {
      return fromJson(content, `line ${number}`);
    } catch (error) {
      if (isWhole) throw error;
      log.warn({ line: number, reason: reasonOf(error) }, 'the last line is torn: it is left out');
      this.torn = { tornLine: number };
      return undefined;
    }
  }
}

/**
 * Lines end with line feeds alone: JSON may hold the other line ends that readline knows. Rejects with `invalid-usage` for what cannot
 * be read, and with `interrupted` at a stop.
 */
async function* linesOf(path: string, stop: AbortSignal): AsyncGenerator<Line> {
  let rest: Buffer[] = [];
  let number = 0;
  const line = (last: Buffer, isWhole: boolean): Line => ({
    ...{ number: ++number, isWhole },
    content: Buffer.concat([...rest, last]).toString('utf8'),
  });
  try {
    for await (const chunk of createReadStream(path, { signal: stop }) as AsyncIterable<Buffer>) {
      let start = 0;
      for (let end = chunk.indexOf(LF); end !== -1; end = chunk.indexOf(LF, start)) {
        if (stop.aborted) throw stopped(path);
        yield line(chunk.subarray(start, end), true);
        rest = [];
        start = end + 1;
      }
      rest.push(chunk.subarray(start));
    }
  } catch (error) {
    if (stop.aborted) throw stopped(path);
    throw new PubsubError('invalid-usage', `${path} cannot be read: ${reasonOf(error)}`, { cause: error });
  }
  if (rest.some(({ length }) => length > 0)) yield line(Buffer.alloc(0), false);
}

const stopped = (path: string) => new PubsubError('interrupted', `stopped before the end of ${path}`);
