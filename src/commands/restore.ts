/** `pubsub restore <file> <destination>`: sends the messages that `ack-all-messages --save` or `peek` wrote to a file. */
import { createReadStream } from 'node:fs';
import { PubsubError, reasonOf } from '../errors.js';
import { log } from '../log.js';
import { showProgress } from '../progress.js';
import { checkTarget, isDeadLetterQueue } from '../brokers/destinations.js';
import { openForwarder } from '../sending/forwarder.js';
import type { Frame } from '../stomp/frames.js';
import { deadline, messages, report, startOperation, type OperatorFlags } from './operating.js';
import { fromJson } from './records.js';

const LF = 10;

/**
 * Sends the messages in order, whole, each confirmed. Resolves at the end of the file or after a signal; rejects with a
 * PubsubError that names the first line that is not confirmed.
 */
export async function restore(path: string, destination: string, flags: OperatorFlags): Promise<void> {
  const { settings, listen } = await startOperation(flags);
  checkTarget(destination);
  const keepsDeath = isDeadLetterQueue(destination);
  const { drain, abort } = listen();
  const forwarder = openForwarder(settings, log);
  const startMs = performance.now();
  /** By the number of its line, so that the first is the oldest. */
  const underWay = new Map<number, Promise<void>>();
  let line = 0;
  const done = { restored: 0, hasFailed: false };
  const send = async (message: Frame, number: number) => {
    await forwarder.send(destination, message, { keepsDeath });
    underWay.delete(number);
    done.restored++;
  };
  const text = () => `${messages(done.restored)} restored`;
  const overdue = deadline(settings, abort);
  const hide = await showProgress(() => ({ done: done.restored, total: undefined, text: text() }));
  try {
    for await (const content of linesOf(path)) {
      if (drain.aborted || done.hasFailed) break;
      line++;
      if (content.trim() === '') continue;
      const sent = send(fromJson(content, `line ${line}`), line);
      underWay.set(line, sent);
      sent.catch(() => (done.hasFailed = true));
      if (underWay.size >= settings.publishWindow)
        await Promise.race([underWay.values().next().value, overdue]);
    }
    await Promise.race([Promise.all(underWay.values()), overdue]);
  } catch (error) {
    if (!abort.aborted) await Promise.allSettled(underWay.values());
    if (!(error instanceof PubsubError)) throw error;
    const [first = line] = underWay.keys();
    const how = `${text()}; line ${first} is the first that is not`;
    throw new PubsubError(error.code, `${error.message}; ${how}`, { cause: error });
  } finally {
    hide();
    await forwarder.close();
  }
  const stopped = drain.aborted ? 'signal' : 'end';
  const seconds = Math.round(performance.now() - startMs) / 1000;
  const result = { command: 'restore', file: path, destination, restored: done.restored, stopped, seconds };
  await report(result, `${messages(done.restored)} of ${path} sent to ${destination}`);
}

/** Lines end with line feeds alone: JSON may hold the other line ends that readline knows. */
async function* linesOf(path: string): AsyncGenerator<string> {
  let rest: Buffer[] = [];
  try {
    for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
      let start = 0;
      for (let end = chunk.indexOf(LF); end !== -1; end = chunk.indexOf(LF, start)) {
        yield Buffer.concat([...rest, chunk.subarray(start, end)]).toString('utf8');
        rest = [];
        start = end + 1;
      }
      rest.push(chunk.subarray(start));
    }
  } catch (error) {
    throw new PubsubError('invalid-usage', `${path} cannot be read: ${reasonOf(error)}`, { cause: error });
  }
  yield Buffer.concat(rest).toString('utf8');
}
