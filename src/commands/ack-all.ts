/** `pubsub ack-all-messages <destination>`: removes the messages of a queue, and writes them to a file first when told to. */
import { open, type FileHandle } from 'node:fs/promises';
import { createInterface } from 'node:readline/promises';
import { PubsubError, reasonOf } from '../errors.js';
import { parseQueue } from '../brokers/destinations.js';
import type { Frame } from '../stomp/frames.js';
import {
  leaveOversized,
  messages,
  report,
  runTake,
  startOperation,
  type OperatorFlags,
} from './operating.js';
import { toJson } from './records.js';

export interface AckAllFlags extends OperatorFlags {
  readonly yes?: boolean;
  readonly save?: string;
}

/**
 * Resolves at the end of the run, or when the user says no. Rejects with a PubsubError that says how many were
 * removed: `invalid-usage`, `not-saved`, and those of the broker.
 */
export async function ackAllMessages(destination: string, flags: AckAllFlags): Promise<void> {
  const operation = await startOperation(flags);
  const queue = parseQueue(destination);
  const { host, port } = operation.settings;
  if (flags.yes !== true && !(await isConfirmed(`Remove the messages in ${queue} on ${host}:${port}?`))) {
    process.stderr.write('nothing was removed\n');
    return;
  }
  const file = flags.save === undefined ? undefined : await openSave(flags.save);
  const counts = { taken: 0, left: 0 };
  try {
    const ending = await runTake(
      operation,
      { queue, describe: () => `${messages(counts.taken)} removed` },
      counts,
      (message) =>
        file === undefined ? Promise.resolve() : (leaveOversized(message) ?? file.write(message)),
    );
    const saved = flags.save === undefined ? {} : { file: flags.save };
    const result = { command: 'ack-all-messages', destination, acked: counts.taken, left: counts.left };
    await report(
      { ...result, ...saved, ...ending },
      `${messages(counts.taken)} removed from ${queue}${flags.save === undefined ? '' : `, saved in ${flags.save}`}`,
    );
  } finally {
    await file?.close();
  }
}

/** Asks on a terminal; elsewhere nobody can answer. Ctrl-C ends the process, Ctrl-D is a no. */
async function isConfirmed(question: string): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new PubsubError('invalid-usage', 'this removes messages for good: add --yes');
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr, terminal: false });
  const closed = new Promise<string>((resolve) => terminal.once('close', () => resolve('')));
  const answer = await Promise.race([terminal.question(`${question} [y/N] `), closed]);
  terminal.close();
  return /^y(?:es)?$/i.test(answer.trim());
}

interface Save {
  /** Resolves when the message is on the disk. Rejects with `not-saved`. */
  write(message: Frame): Promise<void>;
  close(): Promise<void>;
}

/** A new file of one line for each message. Messages that arrive while the disk is busy are written with the next flush. */
async function openSave(path: string): Promise<Save> {
  let file: FileHandle;
  try {
    file = await open(path, 'wx', 0o600);
  } catch (error) {
    throw new PubsubError('invalid-usage', `--save: ${reasonOf(error)}; name a new file`, { cause: error });
  }
  let lines: string[] = [];
  let last: Promise<void> = Promise.resolve();
  let next: Promise<void> | undefined;
  const flush = async () => {
    await last;
    last = next ?? last;
    next = undefined;
    const text = lines.join('');
    lines = [];
    try {
      await file.appendFile(text);
      await file.datasync();
    } catch (error) {
      throw new PubsubError('not-saved', `${path} cannot be written: ${reasonOf(error)}`, { cause: error });
    }
  };
  return {
    write: (message) => {
      lines.push(`${toJson(message)}\n`);
      next ??= flush();
      return next;
    },
    close: () => file.close(),
  };
}
