/**
 * The two ways in which `publish` sends: every message by itself, each again until it is confirmed; or in transactions,
 * which are never repeated. Both end with the counts and with what to do about the rest.
 */
import { PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Settings } from '../settings.js';
import { connectOnce } from '../sending/connect.js';
import type { Outgoing } from '../sending/heads.js';
import { Link } from '../sending/link.js';
import { Outbox } from '../sending/outbox.js';
import type { Add } from '../sending/transaction.js';
import type { Document } from './documents.js';

export interface PublishOptions {
  readonly settings: Settings;
  readonly log: Logger;
  readonly encode: (body: string | Uint8Array) => Outgoing;
  /** For a document that cannot be sent: it is left out when this returns; what it throws ends all. */
  readonly onInvalid: (error: PubsubError, line: number) => void;
  /** So many lines are done already; undefined when the input has no lines. */
  readonly resumeFrom: number | undefined;
  readonly stop: AbortSignal;
  readonly abort: AbortSignal;
}

export interface Counts {
  /** SENDs; more than messages when some were sent again. */
  readonly sent: number;
  readonly confirmed: number;
}

/** One publishing of all documents, as its command sees it. */
export interface Publishing {
  /** What has been sent so far. */
  readonly counts: Counts;
  /** Sends everything; to be called once. Resolves when the broker has confirmed it. */
  readonly start: () => Promise<void>;
}

type Documents = AsyncIterable<Iterable<Document>>;

/** With more messages than this the limits of a broker are worth a word when it fails. */
const LARGE_TRANSACTION = 1000;

/** Sends as fast as the window allows. Stops at the first failure, waits for what is under way and counts. */
export function sendEach(documents: Documents, options: PublishOptions): Publishing {
  const onUnreadable = options.onInvalid;
  const outbox = new Outbox({ ...options, onUnreadable }, options.resumeFrom ?? 0);
  const feed = async () => {
    for await (const together of documents) {
      const iterator = together[Symbol.iterator]();
      while (addUntilFull(iterator, outbox, options.encode)) await outbox.room();
    }
    await outbox.settled();
  };
  const start = async () => {
    try {
      // Input may take its time, or never end: a failure does not wait for it.
      await Promise.race([feed(), outbox.failed]);
    } catch (error) {
      await outbox.settled();
      const { confirmed, refused, unknown, confirmedUpTo } = outbox;
      throw withOutcome(error, unknown > 0, [
        [
          `${confirmed} confirmed`,
          ...(refused > 0 ? [`${refused} refused`] : []),
          ...(refused === 0 || unknown > 0 ? [`${unknown} unknown`] : []),
        ].join(', '),
        ...(options.resumeFrom === undefined ? [] : resumeAdvice(error, confirmedUpTo, outbox)),
      ]);
    } finally {
      await outbox.close();
    }
  };
  return { counts: outbox, start };
}

/** False when there are no more. */
function addUntilFull(
  documents: Iterator<Document>,
  outbox: Outbox,
  encode: PublishOptions['encode'],
): boolean {
  for (let next = documents.next(); next.done !== true; next = documents.next()) {
    outbox.add(next.value.line, encode(next.value.body));
    if (outbox.isFull) return true;
  }
  return false;
}

/** Sends `size` messages in each transaction. Stops at the first that fails; those before it stay. */
export function sendInTransactions(documents: Documents, size: number, options: PublishOptions): Publishing {
  const { settings, log, encode, stop, abort } = options;
  const counts = { sent: 0, confirmed: 0, transactions: 0, upTo: options.resumeFrom ?? 0 };
  const iterator = oneByOne(documents);
  const next = async (): Promise<Document | undefined> => {
    const result: IteratorResult<Document, unknown> = await iterator.next();
    return result.done === true ? undefined : result.value;
  };
  const link = new Link(() => connect());
  const sendOne = async (first: Document) => {
    let last = first;
    let count = 0;
    const send = async (add: Add) => {
      for (let document: Document | undefined = first; document !== undefined; document = await next()) {
        const taken = add(encode(document.body));
        if (taken !== undefined) await taken;
        counts.sent++;
        last = document;
        if (++count === size) break;
      }
    };
    const { transact } = await import('../sending/transaction.js');
    await link.use((session) => transact(session, log, send));
    counts.confirmed += count;
    counts.transactions++;
    counts.upTo = last.line;
  };
  const connect = async () => {
    // RabbitMQ 3.10.8 ended a connection with beats during the COMMIT of 50,000 messages, and one without beats not.
    const opened = await connectOnce({ ...settings, outgoingHeartbeatMs: 0 }, log, stop).catch(
      (error: unknown) => {
        throw stop.aborted ? new PubsubError('interrupted', 'stopped while connecting') : error;
      },
    );
    abort.addEventListener('abort', () => opened.abandon('the graceful wait is over'), { once: true });
    return opened;
  };
  const start = async () => {
    try {
      for (let first = await next(); first !== undefined; first = await next()) await sendOne(first);
    } catch (error) {
      throw withOutcome(error, false, transactionOutcome(error, counts, size !== Infinity));
    } finally {
      await link.close();
    }
  };
  return { counts, start };
}

async function* oneByOne(documents: Documents): AsyncGenerator<Document> {
  for await (const together of documents) yield* together;
}

interface TransactionCounts extends Counts {
  readonly transactions: number;
  readonly upTo: number;
}

function transactionOutcome(error: unknown, counts: TransactionCounts, isChunked: boolean): string[] {
  const { sent, confirmed, transactions, upTo } = counts;
  const code = error instanceof PubsubError ? error.code : undefined;
  const isUnknown = code === 'not-confirmed';
  const isLarge = sent - confirmed > LARGE_TRANSACTION && (isUnknown || code === 'connection-lost');
  const limits =
    'RabbitMQ keeps about 20 kB in memory for each message of a transaction, newer ones take 1024 messages: ' +
    'a smaller --transaction-size may help';
  return [
    ...(isLarge ? [limits] : []),
    ...(isChunked
      ? [
          `${transactions} transactions with ${confirmed} messages were carried out before it`,
          ...resumeAdvice(error, upTo, counts, isUnknown),
        ]
      : isUnknown
        ? []
        : ['nothing was published']),
  ];
}

/** No advice when the input could not even be begun. */
function resumeAdvice(error: unknown, line: number, { sent }: Counts, isRepeating = false): string[] {
  const code = error instanceof PubsubError ? error.code : undefined;
  if (code === 'invalid-usage' && sent === 0) return [];
  const correct = code === 'invalid-json' ? 'correct it, or leave it out with --skip-invalid, and ' : '';
  const repeating = isRepeating ? ', which repeats the last one if it was carried out' : '';
  return [`${correct}go on with --resume-from ${line}${repeating}`];
}

/** The error with what it means for the messages. */
function withOutcome(error: unknown, isAnyUnknown: boolean, outcome: readonly string[]): unknown {
  if (!(error instanceof PubsubError)) return error;
  const isLoss = error.code === 'connection-lost' || error.code === 'broker-unreachable';
  const code = isAnyUnknown && isLoss ? 'not-confirmed' : error.code;
  return new PubsubError(code, [error.message, ...outcome].join('; '), { cause: error });
}
