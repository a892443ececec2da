/**
 * JSON to SEND frames, each confirmed by a receipt, in a window: so many may be unconfirmed before the next waits. The
 * headers are django-stomp's. A connection is opened when there is something to send and opened anew when it was lost;
 * nothing is ever sent twice by itself, because only the caller knows whether a duplicate does harm.
 */
import { randomUUID } from 'node:crypto';
import { correlationId as currentCorrelationId } from '../context.js';
import { PubsubError, reasonOf } from '../errors.js';
import type { Logger } from '../log.js';
import type { Settings } from '../settings.js';
import { connectOnce } from './connect.js';
import { checkTarget, deadLetterQueueOf } from './destinations.js';
import { queueArguments, type QueueType } from './dialects.js';
import type { Headers } from './frames.js';
import type { Session } from './session.js';

export interface SendOptions {
  /** Beside the standard headers, which cannot be overridden. Reserved ones are removed. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Default: the `correlation-id` among `headers`, else that of the message being processed, else a new one. */
  readonly correlationId?: string;
  /** Default true: the message survives a restart of the broker. */
  readonly isPersistent?: boolean;
}

/** What a transaction's work sends with. */
export interface TransactionSender {
  /** Resolves when the connection has taken the message; nothing is confirmed before the transaction is committed. */
  send(destination: string, body: unknown, options?: SendOptions): Promise<void>;
  /** Like send, with a body that is JSON text already and goes out as it stands. */
  sendJson(destination: string, json: string, options?: SendOptions): Promise<void>;
}

/** django-stomp removes the first seven; `receipt` and `ack` would be taken as ours or confuse a consumer. */
const reservedHeaders = new Set([
  ...[
    'message-id',
    'transaction',
    'redelivered',
    'subscription',
    'destination',
    'content-length',
    'content-type',
  ],
  ...['receipt', 'ack'],
]);

export class Publisher implements TransactionSender {
  /** So many messages may be sent ahead of their confirmations; further calls of send wait. */
  readonly window: number;
  readonly #settings: Settings;
  readonly #log: Logger;
  #session: Promise<Session> | undefined;
  /** Calls of send and transaction that have not settled. */
  #pending = 0;
  /** Messages in the window. */
  #unconfirmed = 0;
  readonly #waiting: (() => void)[] = [];
  #isClosed = false;
  #onIdle: (() => void) | undefined;

  constructor(settings: Settings, log: Logger) {
    this.window = settings.publishWindow;
    this.#settings = settings;
    this.#log = log;
  }

  /**
   * Sends one message; resolves when the broker has confirmed it. Rejects with `not-confirmed` (it may or may not have
   * arrived), `broker-refused`, `broker-unreachable` (nothing was sent), `invalid-destination`, `invalid-header` or
   * `invalid-json` (a body JSON cannot express).
   */
  async send(destination: string, body: unknown, options?: SendOptions): Promise<void> {
    await this.sendJson(destination, stringify(body), options);
  }

  /** Like send, with a body that is JSON text already and goes out as it stands. */
  async sendJson(destination: string, json: string, options?: SendOptions): Promise<void> {
    const headers = sendHeaders(destination, json, this.#settings.queueType, options);
    this.#begin();
    if (this.#unconfirmed === this.window) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#unconfirmed++;
    }
    try {
      const session = await this.#open();
      await session.drained();
      await session.request('SEND', headers, json);
    } catch (error) {
      throw asUnconfirmed(error, 'the message may or may not have arrived');
    } finally {
      // A slot that somebody waits for changes hands; only one that nobody wants is free again.
      const next = this.#waiting.shift();
      if (next === undefined) this.#unconfirmed--;
      else next();
      this.#end();
    }
  }

  /**
   * All or nothing: COMMIT when `work` resolves, ABORT when it rejects, and then with its error. Resolves with what
   * `work` gave when the broker has confirmed every message. A lost connection before COMMIT means that nothing was sent
   * (`connection-lost`); after it nobody knows (`not-confirmed`). Never replayed.
   */
  async transaction<T>(work: (transaction: TransactionSender) => Promise<T>): Promise<T> {
    this.#begin();
    try {
      return await this.#transact(work);
    } finally {
      this.#end();
    }
  }

  /** Waits for what is unconfirmed, disconnects. Never rejects; sending afterwards does. */
  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#pending > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve));
    const session = await this.#session?.catch(() => undefined);
    await session?.close();
  }

  async #transact<T>(work: (transaction: TransactionSender) => Promise<T>): Promise<T> {
    const session = await this.#open();
    const transaction = session.begin();
    const receipts = new ReceiptCounter();
    const sendJson = async (destination: string, json: string, options?: SendOptions) => {
      const headers = sendHeaders(destination, json, this.#settings.queueType, options);
      receipts.add(session.request('SEND', headers, json, transaction));
      await session.drained();
      receipts.throwIfFailed();
    };
    let result: T;
    try {
      const sender: TransactionSender = {
        send: (destination, body, options) => sendJson(destination, stringify(body), options),
        sendJson,
      };
      // Work may wait for something else: a connection that is lost meanwhile ends the transaction at once.
      result = await Promise.race([work(sender), receipts.failed]);
      receipts.throwIfFailed();
    } catch (error) {
      await session.abort(transaction).catch((abortError: unknown) => {
        this.#log.debug({ err: abortError }, 'the connection ended with its transaction: nothing was sent');
      });
      throw error;
    }
    try {
      await Promise.all([session.commit(transaction), receipts.allSettled()]);
      receipts.throwIfFailed();
    } catch (error) {
      throw asUnconfirmed(error, 'the transaction may or may not have been carried out');
    }
    return result;
  }

  #begin(): void {
    if (this.#isClosed) throw new PubsubError('invalid-usage', 'the publisher is closed');
    this.#pending++;
  }

  #end(): void {
    if (--this.#pending === 0) this.#onIdle?.();
  }

  #open(): Promise<Session> {
    this.#session ??= this.#connect();
    return this.#session;
  }

  async #connect(): Promise<Session> {
    const forget = () => (this.#session = undefined);
    try {
      const session = await connectOnce(this.#settings, this.#log);
      void session.closed.then(forget);
      return session;
    } catch (error) {
      forget();
      throw error;
    }
  }
}

/** Counts receipts instead of keeping a promise for each: a transaction may have any number of messages. */
class ReceiptCounter {
  /** Rejects with the first failure; never resolves. */
  readonly failed: Promise<never>;
  #pending = 0;
  #failure: { readonly error: unknown } | undefined;
  #onFailure: (reason: unknown) => void = () => undefined;
  #onSettled: (() => void) | undefined;

  constructor() {
    this.failed = new Promise((_resolve, reject) => (this.#onFailure = reject));
    this.failed.catch(() => undefined);
  }

  add(receipt: Promise<void>): void {
    this.#pending++;
    receipt
      .catch((error: unknown) => {
        this.#failure ??= { error };
        this.#onFailure(error);
      })
      .finally(() => {
        if (--this.#pending === 0) this.#onSettled?.();
      });
  }

  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  allSettled(): Promise<void> {
    return this.#pending === 0 ? Promise.resolve() : new Promise((resolve) => (this.#onSettled = resolve));
  }
}

function asUnconfirmed(error: unknown, consequence: string): unknown {
  if (!(error instanceof PubsubError) || error.code !== 'connection-lost') return error;
  return new PubsubError('not-confirmed', `${error.message}; ${consequence}`, { cause: error });
}

function stringify(body: unknown): string {
  try {
    const json = JSON.stringify(body) as string | undefined;
    if (json !== undefined) return json;
  } catch (error) {
    throw new PubsubError('invalid-json', `the body is no JSON value: ${reasonOf(error)}`, { cause: error });
  }
  throw new PubsubError('invalid-json', `the body is no JSON value: ${typeof body}`);
}

/** The headers django-stomp's publisher sends, in its order. `x-dead-letter-*` must match the queue's declaration. */
function sendHeaders(
  destination: string,
  json: string,
  queueType: QueueType,
  options: SendOptions = {},
): Headers {
  checkTarget(destination);
  const { headers, isPersistent = true } = options;
  return {
    ...(headers === undefined ? {} : withoutReserved(headers)),
    destination,
    'content-type': 'application/json;charset=utf-8',
    'content-length': String(Buffer.byteLength(json)),
    'correlation-id':
      options.correlationId ?? headers?.['correlation-id'] ?? currentCorrelationId() ?? randomUUID(),
    'tshoot-destination': destination,
    ...queueArguments(deadLetterQueueOf(destination), queueType),
    // Anything but exactly "true" is not persistent, on RabbitMQ 3.10 and ActiveMQ 5.17.
    ...(isPersistent ? { persistent: 'true' } : {}),
  };
}

/** What a caller's headers add to a message. Throws `invalid-header` for what is no header. */
function withoutReserved(headers: Readonly<Record<string, string>>): Headers {
  // Without a prototype any name is a name, __proto__ too.
  const own = Object.create(null) as Headers;
  for (const [name, value] of Object.entries(headers)) {
    if (typeof value !== 'string') {
      throw new PubsubError(
        'invalid-header',
        `header ${JSON.stringify(name)} is of type ${typeof value}; use a string`,
      );
    }
    if (name === '') throw new PubsubError('invalid-header', 'a header has no name');
    if (!reservedHeaders.has(name)) own[name] = value;
  }
  return own;
}
