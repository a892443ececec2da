/** Publishing: the library's `openPublisher` and, on top of it, what `publish <destination> [json]` does. */
import { isUtf8 } from 'node:buffer';
import { createReadStream } from 'node:fs';
import { PubsubError, reasonOf } from '../errors.js';
import { configureLog, log, type Logger } from '../log.js';
import { loadDotenv, resolve, unknownVariables, type Settings } from '../settings.js';
import { checkTarget } from '../stomp/destinations.js';
import type { SendOptions } from '../stomp/outgoing.js';
import { Publisher, type TransactionSender } from '../stomp/publisher.js';

export interface PublisherOptions extends Partial<Settings> {
  readonly log?: Logger;
}

/** A publisher; it connects when first used. Settings not given come from the environment. Throws `invalid-setting`. */
export function openPublisher({ log: logger = log, ...given }: PublisherOptions = {}): Publisher {
  return new Publisher(resolve(given), logger);
}

export interface PublishFlags extends Record<string, unknown> {
  readonly file?: string;
  readonly lines?: boolean;
  readonly transaction?: boolean;
  readonly header?: readonly string[];
  readonly correlationId?: string;
  readonly persistent?: boolean;
}

/** A line longer than this is refused: no broker takes such a message. */
const MAX_LINE_BYTES = 256 * 1024 * 1024;
const LF = 10;

/** The command. Resolves when the broker has confirmed everything; rejects with a PubsubError that says how far it got. */
export async function publish(
  destination: string,
  json: string | undefined,
  flags: PublishFlags,
): Promise<void> {
  loadDotenv();
  const settings = resolve(flags);
  await configureLog(settings);
  for (const variable of unknownVariables()) log.warn({ variable }, 'unknown variable; is it misspelt?');
  checkTarget(destination);
  const options: SendOptions = {
    headers: parseHeaders(flags.header ?? []),
    isPersistent: flags.persistent ?? true,
    ...(flags.correlationId === undefined ? {} : { correlationId: flags.correlationId }),
  };
  const documents =
    flags.lines === true ? readLines(openInput(json, flags)) : [await readDocument(json, flags)];
  const publisher = new Publisher(settings, log);
  const startMs = performance.now();
  try {
    const send = flags.transaction === true ? sendTransaction : sendEach;
    const count = await send(publisher, documents, destination, options);
    const fields = { destination, count, durationMs: Math.round(performance.now() - startMs) };
    log.info(fields, count === 1 ? 'message published' : 'messages published');
  } finally {
    await publisher.close();
  }
}

type Documents = AsyncIterable<string> | Iterable<string>;

async function sendTransaction(
  publisher: Publisher,
  documents: Documents,
  destination: string,
  options: SendOptions,
) {
  const send = async (transaction: TransactionSender) => {
    let count = 0;
    for await (const document of documents) {
      await transaction.sendJson(destination, document, options);
      count++;
    }
    return count;
  };
  try {
    return await publisher.transaction(send);
  } catch (error) {
    if (!(error instanceof PubsubError)) throw error;
    const outcome = error.code === 'not-confirmed' ? '' : '; nothing was published';
    throw new PubsubError(error.code, error.message + outcome, { cause: error });
  }
}

/** Sends as fast as the window allows; stops at the first failure, waits for what is under way and counts. */
async function sendEach(
  publisher: Publisher,
  documents: Documents,
  destination: string,
  options: SendOptions,
): Promise<number> {
  const counts = { underWay: 0, confirmed: 0, unknown: 0, failed: 0 };
  let onFailure: (reason: unknown) => void = () => undefined;
  const failure = new Promise<never>((_resolve, reject) => (onFailure = reject));
  let onSettled: () => void = () => undefined;
  const untilBelow = async (most: number) => {
    while (counts.underWay >= most) await new Promise<void>((resolve) => (onSettled = resolve));
  };
  const send = async (document: string): Promise<void> => {
    counts.underWay++;
    try {
      await publisher.sendJson(destination, document, options);
      counts.confirmed++;
    } catch (error) {
      if (error instanceof PubsubError && error.code === 'not-confirmed') counts.unknown++;
      counts.failed++;
      onFailure(error);
    }
    counts.underWay--;
    onSettled();
  };
  const sendAll = async () => {
    for await (const document of documents) {
      if (counts.failed > 0) break;
      void send(document);
      await untilBelow(publisher.window);
    }
    await untilBelow(1);
  };
  try {
    // Input may take its time, or never end: a failure does not wait for it.
    await Promise.race([sendAll(), failure]);
    return counts.confirmed;
  } catch (error) {
    await untilBelow(1);
    if (!(error instanceof PubsubError)) throw error;
    const { confirmed, unknown } = counts;
    throw new PubsubError(error.code, `${error.message}; ${confirmed} confirmed, ${unknown} unknown`, {
      cause: error,
    });
  }
}

function parseHeaders(headers: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    headers.map((header) => {
      const equals = header.indexOf('=');
      if (equals < 1) {
        throw new PubsubError(
          'invalid-usage',
          `--header ${JSON.stringify(header)} is not of the form <name>=<value>`,
        );
      }
      return [header.slice(0, equals), header.slice(equals + 1)];
    }),
  );
}

async function readDocument(json: string | undefined, flags: PublishFlags): Promise<string> {
  if (json !== undefined && json !== '-') {
    if (flags.file !== undefined) throw new PubsubError('invalid-usage', 'give the body or --file, not both');
    return checkJson(Buffer.from(json), 'the body');
  }
  const chunks: Buffer[] = [];
  for await (const chunk of openInput(json, flags)) chunks.push(chunk);
  return checkJson(Buffer.concat(chunks), flags.file ?? 'standard input');
}

function openInput(json: string | undefined, flags: PublishFlags): AsyncIterable<Buffer> {
  if (json !== undefined && json !== '-') {
    throw new PubsubError('invalid-usage', '--lines reads a file or standard input, not an argument');
  }
  if (flags.file !== undefined && flags.file !== '-') return readFileChunks(flags.file);
  if (process.stdin.isTTY && json !== '-') {
    throw new PubsubError(
      'invalid-usage',
      'no body: give it as an argument, with --file, or on standard input',
    );
  }
  return process.stdin;
}

async function* readFileChunks(file: string): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of createReadStream(file)) yield chunk as Buffer;
  } catch (error) {
    throw new PubsubError('invalid-usage', `--file ${file} cannot be read: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

/** One JSON document a line, blank lines left out. Throws `invalid-json` with the number of the line. */
async function* readLines(input: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let line = 0;
  let rest: Buffer[] = [];
  let restBytes = 0;
  const take = (last: Buffer): string | undefined => {
    line++;
    const bytes = rest.length === 0 ? last : Buffer.concat([...rest, last]);
    rest = [];
    restBytes = 0;
    return bytes.every((byte) => byte <= 32) ? undefined : checkJson(bytes, `line ${line}`);
  };
  for await (const chunk of input) {
    let start = 0;
    for (let end = chunk.indexOf(LF); end !== -1; end = chunk.indexOf(LF, start)) {
      const document = take(chunk.subarray(start, end));
      if (document !== undefined) yield document;
      start = end + 1;
    }
    rest.push(chunk.subarray(start));
    restBytes += chunk.length - start;
    if (restBytes > MAX_LINE_BYTES) {
      throw new PubsubError('invalid-json', `line ${line + 1} is longer than ${MAX_LINE_BYTES} bytes`);
    }
  }
  const document = take(Buffer.alloc(0));
  if (document !== undefined) yield document;
}

/** The text as it stands, without the white space around it: parsing and printing it would round large numbers. */
function checkJson(bytes: Buffer, what: string): string {
  if (!isUtf8(bytes)) throw new PubsubError('invalid-json', `${what} is not UTF-8`);
  const text = bytes.toString('utf8').trim();
  if (text === '') throw new PubsubError('invalid-json', `${what} is empty; JSON is expected`);
  try {
    JSON.parse(text);
  } catch (error) {
    throw new PubsubError('invalid-json', `${what} is not JSON: ${reasonOf(error)}`, { cause: error });
  }
  return text;
}
