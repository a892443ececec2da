/**
 * What is printed in a worker process: console.*, process.stdout and process.stderr become lines of the log, whole and
 * with the correlation id of their message. They are written synchronously, so that one who prints faster than anybody
 * reads waits for it. What native code and other programs print goes by the descriptors of stdout and stderr themselves.
 */
import { Writable } from 'node:stream';
import { bridgeConsole, cutText, log, redirectLog } from '../../log.js';
import type { Settings } from '../../settings.js';
import { writeAll } from './outbox.js';
import { descriptors } from './descriptors.js';

/** A line that is not ended is shown after so long, like a prompt. */
const UNFINISHED_MS = 200;
const LONGEST_UNFINISHED = 100_000;

/** From now on; `level` is that of the log. */
export function printToLog(level: Settings['logLevel']): void {
  redirectLog((line) => {
    try {
      writeAll(descriptors.log, Buffer.from(line));
    } catch {
      // The consumer is gone: the end of this process is on its way.
    }
  }, level);
  bridgeConsole(true);
  replaceStream('stdout', 1, (line) => log.info({ source: 'stdout' }, line));
  replaceStream('stderr', 2, (line) => log.warn({ source: 'stderr' }, line));
}

function replaceStream(name: 'stdout' | 'stderr', fd: number, print: (line: string) => void): void {
  let unfinished = '';
  let timer: NodeJS.Timeout | undefined;
  const flush = () => {
    clearTimeout(timer);
    timer = undefined;
    if (unfinished !== '') print(cutText(unfinished));
    unfinished = '';
  };
  const write = (text: string) => {
    const lines = (unfinished + text).split('\n');
    unfinished = lines.pop() ?? '';
    for (const line of lines) if (line !== '') print(cutText(line));
    if (unfinished.length > LONGEST_UNFINISHED) flush();
    else if (unfinished !== '') timer ??= setTimeout(flush, UNFINISHED_MS).unref();
  };
  const stream = new Writable({
    decodeStrings: false,
    write: (chunk: string | Buffer, _encoding, callback) => {
      write(chunk.toString());
      callback();
    },
  });
  process.on('exit', flush);
  Object.defineProperty(process, name, {
    configurable: true,
    enumerable: true,
    value: Object.assign(stream, { fd, isTTY: false }),
  });
}
