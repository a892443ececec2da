/** `publish <destination> [json]`: its flags, where its input comes from, and what it says at the end. */
import { defaultTypes, kindOf, type Content } from '../brokers/content-types.js';
import { isSendable } from '../brokers/headers.js';
import { PubsubError } from '../errors.js';
import { log, tellPerson } from '../log.js';
import { showProgress } from '../progress.js';
import { messageEncoder } from '../sending/heads.js';
import { flushSpans } from '../tracing.js';
import { checkBody, InputReader, type Document } from './documents.js';
import { sendEach, sendInTransactions } from './publish-run.js';
import { start } from './start.js';

export interface PublishFlags extends Record<string, unknown> {
  readonly file?: string;
  readonly body?: string;
  readonly text?: boolean;
  readonly contentType?: string;
  readonly contentEncoding?: string;
  readonly lines?: boolean;
  readonly resumeFrom?: string;
  readonly skipInvalid?: boolean;
  readonly transaction?: boolean;
  readonly transactionSize?: string;
  readonly header?: readonly string[];
  readonly correlationId?: string;
  readonly persistent?: boolean;
}

const isDestination = (text: string): boolean => /^\/(?:queue|topic)\/|^Consumer\./.test(text);

/** Resolves when the broker has confirmed everything; rejects with a PubsubError that says how far it got. */
export async function publish(
  destination: string,
  json: string | undefined,
  flags: PublishFlags,
): Promise<void> {
  // What the variable STOMP_BODY says is for consumers.
  const { settings, listen } = await start({ ...flags, body: undefined });
  const content = contentFor(flags);
  const encode = messageEncoder(destination, settings, {
    headers: parseHeaders(flags.header ?? []),
    isPersistent: flags.persistent ?? true,
    contentType: flags.contentType ?? defaultTypes[content],
    contentEncoding: flags.contentEncoding,
    ...(flags.correlationId === undefined ? {} : { correlationId: flags.correlationId }),
  });
  const { resumeFrom, transactionSize } = checkFlags(flags);
  if (content === 'bytes' && flags.lines === true)
    throw new PubsubError('invalid-usage', '--lines reads text: bytes have no lines');
  if (json === undefined && content === 'json' && /^\s*[[{"]/.test(destination)) {
    const message = `${destination} looks like the body: write publish <destination> ${shellQuoted(destination)}`;
    throw new PubsubError('invalid-usage', message);
  }
  if (json !== undefined && isDestination(json) && !isDestination(destination)) {
    const message = `${json} looks like the destination, and ${destination} like the body: the destination comes first`;
    throw new PubsubError('invalid-usage', message);
  }
  const shutdown = listen();
  const input = await openInput(json, content, flags, resumeFrom, shutdown.drain);

  const startMs = performance.now();
  const elapsedSeconds = () => (performance.now() - startMs) / 1000;
  const options = {
    ...{ settings, log, encode, onInvalid: input.onInvalid, stop: shutdown.drain, abort: shutdown.abort },
    resumeFrom: flags.lines === true ? resumeFrom : undefined,
  };
  const run =
    transactionSize === undefined
      ? sendEach(input.documents, options)
      : sendInTransactions(input.documents, transactionSize, options);
  const { reader } = input;
  const describeProgress = () => describe(run.counts, elapsedSeconds(), transactionSize !== undefined);
  const hideProgress = await showProgress(
    reader && (() => ({ done: reader.readBytes, total: reader.totalBytes, text: describeProgress() })),
  );
  await run.start().finally(hideProgress).finally(flushSpans);

  const { sent, confirmed } = run.counts;
  const seconds = elapsedSeconds();
  const fields = {
    ...{ destination, count: confirmed, sent, confirmed },
    ...(input.skipped() > 0 ? { skipped: input.skipped() } : {}),
    durationMs: Math.round(seconds * 1000),
    perSecond: Math.round(confirmed / seconds),
  };
  const left = input.skipped() > 0 ? `, ${input.skipped()} left out` : '';
  const sentence = `${confirmed} ${confirmed === 1 ? 'message' : 'messages'} sent to ${destination}${left}`;
  if (!tellPerson(sentence)) log.info(fields, confirmed === 1 ? 'message published' : 'messages published');
}

function describe(
  { sent, confirmed }: { sent: number; confirmed: number },
  seconds: number,
  isLate: boolean,
) {
  // A transaction is confirmed at its end.
  const count = isLate ? sent : confirmed;
  return `${count} ${isLate ? 'sent' : 'confirmed'}, ${Math.round(count / seconds)}/s`;
}

interface PublishInput {
  readonly documents: AsyncIterable<Iterable<Document>>;
  readonly reader?: InputReader;
  /** For a document that cannot be sent: leaves it out, or throws. */
  readonly onInvalid: (error: PubsubError, line: number) => void;
  /** Lines left out because they cannot be sent. */
  readonly skipped: () => number;
}

/** What the input is: as the flags say, else its content type. Throws `invalid-usage`. */
function contentFor({ body, text, contentType }: PublishFlags): Content {
  if (text === true && body !== undefined && body !== 'text')
    throw new PubsubError('invalid-usage', `--text and --body ${body}: give one of them`);
  const given = text === true ? 'text' : body;
  if (given === undefined) return contentType === undefined ? 'json' : kindOf(contentType);
  if (given === 'json' || given === 'text' || given === 'bytes') return given;
  throw new PubsubError(
    'invalid-usage',
    `--body: json, text or bytes expected, not ${JSON.stringify(given)}`,
  );
}

/** Reads and checks a single document before anything is sent; lines are read as they are sent. */
async function openInput(
  json: string | undefined,
  content: Content,
  flags: PublishFlags,
  resumeFrom: number,
  stop: AbortSignal,
): Promise<PublishInput> {
  let skipped = 0;
  const onInvalid = (error: PubsubError, line: number) => {
    const isNamed = flags.lines !== true || error.code === 'invalid-json';
    if (flags.skipInvalid !== true)
      throw isNamed ? error : new PubsubError(error.code, `line ${line}: ${error.message}`, { cause: error });
    skipped++;
    // Each line by itself, so that any number of lines can be told.
    log.warn({ line, reason: error.message }, 'line left out');
  };
  const found = { onInvalid, skipped: () => skipped };
  const isArgument = json !== undefined && json !== '-';
  if (isArgument && flags.lines === true) {
    throw new PubsubError('invalid-usage', '--lines reads a file or standard input, not an argument');
  }
  if (isArgument) {
    if (flags.file !== undefined) throw new PubsubError('invalid-usage', 'give the body or --file, not both');
    const document = { line: 1, body: checkBody(content, Buffer.from(json), 'the body') };
    return { documents: only(document), ...found };
  }
  const reader = new InputReader(flags.file, json === '-', stop);
  if (flags.lines !== true) return { documents: only(await reader.document(content)), ...found };
  return { documents: reader.lines(content, resumeFrom, onInvalid), reader, ...found };
}

// eslint-disable-next-line @typescript-eslint/require-await -- one kind of source for all
async function* only(document: Document): AsyncGenerator<Iterable<Document>> {
  yield [document];
}

function checkFlags(flags: PublishFlags): { resumeFrom: number; transactionSize: number | undefined } {
  const { lines, resumeFrom, skipInvalid, transaction, transactionSize } = flags;
  const needsLines = {
    '--resume-from': resumeFrom,
    '--skip-invalid': skipInvalid,
    '--transaction-size': transactionSize,
  };
  for (const [flag, value] of Object.entries(needsLines)) {
    if (value !== undefined && lines !== true)
      throw new PubsubError('invalid-usage', `${flag} needs --lines`);
  }
  if (transaction === true && transactionSize !== undefined) {
    throw new PubsubError(
      'invalid-usage',
      '--transaction is one for all, --transaction-size many: give one of them',
    );
  }
  const whole = transaction === true ? Infinity : undefined;
  return {
    resumeFrom: resumeFrom === undefined ? 0 : parseCount('--resume-from', resumeFrom, 0),
    transactionSize:
      transactionSize === undefined ? whole : parseCount('--transaction-size', transactionSize, 1),
  };
}

const shellQuoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

function parseCount(flag: string, text: string, least: number): number {
  const count = Number(text);
  if (/^\d{1,15}$/.test(text) && count >= least) return count;
  throw new PubsubError(
    'invalid-usage',
    `${flag}: a whole number from ${least} expected, not ${JSON.stringify(text)}`,
  );
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
      const name = header.slice(0, equals);
      const value = header.slice(equals + 1);
      if (!isSendable(name, value)) {
        const why = 'it belongs to the delivery, or would change the queue or the connection';
        throw new PubsubError('invalid-usage', `--header ${name}: this header cannot be given: ${why}`);
      }
      return [name, value];
    }),
  );
}
