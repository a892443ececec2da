/** `pubsub ack-all-messages <destination>`: removes the messages of a queue, and writes them to a file first when told to. */
import { createInterface } from 'node:readline/promises';
import { parseQueue } from '../brokers/destinations.js';
import { PubsubError } from '../errors.js';
import { noneTaken } from '../sending/take.js';
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
  type OperatorFlags,
} from './operating.js';
import { createSaveFile } from './save-file.js';

export interface AckAllFlags extends OperatorFlags {
  readonly yes?: boolean;
  readonly save?: string;
}

/**
 * Resolves at the end of the run, or when the user does not want it. Rejects with a PubsubError that says how many were
 * removed: `invalid-usage`, `not-saved`, and those of the broker.
 */
export async function ackAllMessages(destination: string, flags: AckAllFlags): Promise<void> {
  const operation = await startOperation(flags);
  const queue = parseQueue(destination);
  const deliveryLimit = deliveryLimitOf(flags);
  const { host, port } = operation.settings;
  const { filter, isDryRun } = operation;
  const which = filter.isOpen ? 'the messages' : 'those messages that match';
  const question = `Remove ${which} in ${queue} on ${host}:${port}?`;
  if (flags.yes !== true && !isDryRun && !(await isConfirmed(question))) {
    process.stderr.write('nothing was removed\n');
    return;
  }
  const file = flags.save === undefined || isDryRun ? undefined : await createSaveFile(flags.save);
  const counts = noneTaken();
  const describe = () => `${messages(counts.taken)} removed`;
  // What could not be saved was not acked, so it is certain that it is still there.
  const outcome = () => {
    const unsure = perhaps(counts.acking);
    return file === undefined ? `${describe()}${unsure}` : `${describe()} and saved${unsure}: keep the file`;
  };
  try {
    const errand = { queue, deliveryLimit, describe, outcome };
    const { done, left, ...ending } = await runTake(operation, errand, counts, (message) => {
      if (!filter.isMatch(message.headers)) return 'leave';
      if (file === undefined) return () => Promise.resolve();
      return leaveOversized(message) ?? (() => file.write(message));
    });
    const result = { command: 'ack-all-messages', destination, isDryRun, acked: done, left };
    const saved = file === undefined ? {} : { file: file.path };
    const where = file === undefined ? '' : `, saved in ${file.path}`;
    const rest = `${left === 0 ? '' : `; ${messages(left)} left`}${afterStop(ending.stopped, queue)}`;
    await report(
      { ...result, ...saved, ...unsureOf(counts.acking), ...ending },
      `${messages(done)} ${wouldBe(operation, 'removed')} from ${queue}${where}${perhaps(counts.acking)}${rest}`,
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
