/**
 * Bodies to SEND frames, each confirmed by a receipt, in a window: so many may be unconfirmed before the next waits. The
 * headers are django-stomp's. Nothing is ever sent twice by itself, because only the caller knows whether a duplicate does
 * harm.
 */
import { PubsubError, rejected } from '../errors.js';
import type { Logger } from '../log.js';
import type { Settings } from '../settings.js';
import { connectOnce } from './connect.js';
import { requireTarget } from './existing.js';
import { contentOf, failureOf, linesFor, messageEncoder, type Outgoing, type SendOptions } from './heads.js';
import { Link, type Lease } from './link.js';
import { refuseGivenUp, untilGivenUp, type Abortable, type Attempt } from './giving-up.js';
import { explained, Losses } from './losses.js';
import { checkSignal, misused } from './misuse.js';
import { asUnconfirmed, transact, type Add } from './transaction.js';
import { WaitingLine } from '../waiting-line.js';

/** What a transaction's work sends with. */
export interface TransactionSender {
  /**
   * Resolves when the connection has taken the message; nothing is confirmed before the transaction is committed. A body is
   * sent as JSON; with a `contentType` text and bytes go out as they are.
   */
  send(destination: string, body: unknown, options?: SendOptions): Promise<void>;
  /** Like send, with a body that is JSON text already and goes out as it stands. */
  sendJson(destination: string, json: string, options?: SendOptions): Promise<void>;
}

export class Publisher implements TransactionSender {
  /** So many messages may be sent ahead of their confirmations; further calls of send wait. */
  readonly window: number;
  readonly #settings: Settings;
  readonly #log: Logger;
  readonly #link: Link;
  readonly #losses: Losses;
  /** Their own: a transaction may wait for what is sent outside of it, or for another one. */
  readonly #transactions: Link;
  /** Calls of send and transaction that have not settled. */
  #pending = 0;
  /** Messages in the window. */
  #unconfirmed = 0;
  readonly #waiting = new WaitingLine<() => void>();
  #closing: Promise<void> | undefined;
  #onIdle: (() => void) | undefined;

  constructor(settings: Settings, log: Logger) {
    this.window = settings.publishWindow;
    this.#settings = settings;
    this.#log = log;
    this.#losses = new Losses(log);
    const connect = () => connectOnce(settings, log);
    this.#link = new Link(connect);
    this.#transactions = new Link(connect, { isOrdered: false });
  }

  /**
   * Sends one message; resolves when the broker has confirmed it. A body is sent as JSON; with a `contentType` text and bytes
   * go out as they are, and bytes must not be changed before it resolves. Rejects with `not-confirmed` (it may or may not have
   * arrived; also when the broker refuses one of several under way), `message-too-large`, `broker-refused`,
   * `broker-unreachable` (nothing was sent), `invalid-usage`, `invalid-destination`, `invalid-header` or `invalid-json` (a body
   * JSON cannot express), and as its signal says.
   */
  send(destination: string, body: unknown, options?: SendOptions & Abortable): Promise<void> {
    try {
      return this.#sendTraced(this.#encode(destination, contentOf(body, options), options), options?.signal);
    } catch (error) {
      return rejected(error);
    }
  }

  /** Like send, with a body that is JSON text already and goes out as it stands. */
  sendJson(destination: string, json: string, options?: SendOptions & Abortable): Promise<void> {
    try {
      return this.#sendTraced(this.#encode(destination, jsonText(json), options), options?.signal);
    } catch (error) {
      return rejected(error);
    }
  }

  /**
   * All or nothing: COMMIT when `work` resolves, ABORT when it rejects, and then with its error. Resolves with what
   * `work` gave when the broker has confirmed every message. A lost connection before COMMIT means that nothing was sent
   * (`connection-lost`, and `message-too-large` at any time); after it nobody knows (`not-confirmed`). Never replayed. Rejects as
   * its signal says, too.
   */
  async transaction<T>(
    work: (transaction: TransactionSender) => Promise<T>,
    options: Abortable = {},
  ): Promise<T> {
    if (typeof work !== 'function')
      throw misused('work', 'a function, like async (transaction) => { ... }', work);
    if (typeof options !== 'object' || (options as unknown) === null)
      throw misused('options', 'an object, like { signal }', options);
    const { signal } = options;
    checkSignal(signal);
    if (signal === undefined) return this.#transact(work);
    return untilGivenUp(signal, (attempt) => this.#transact(work, attempt));
  }

  async #transact<T>(work: (transaction: TransactionSender) => Promise<T>, attempt?: Attempt): Promise<T> {
    this.#begin();
    try {
      return await this.#transactions.use((session) => {
        refuseGivenUp(attempt);
        const carryOut = (add: Add) => {
          const send = (destination: string, content: string | Uint8Array, options?: SendOptions) =>
            add(this.#encode(destination, content, options));
          return work({
            send: async (destination, body, options) => send(destination, contentOf(body, options), options),
            sendJson: async (destination, json, options) => send(destination, jsonText(json), options),
          });
        };
        return transact(session, this.#log, carryOut, attempt);
      });
    } finally {
      this.#end();
    }
  }

  /**
   * Waits for what is unconfirmed, disconnects. Never rejects; sending afterwards does. Until then the connection keeps the
   * process alive.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Closes it at the end of the block of an `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    if (this.#pending > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve));
    await Promise.all([this.#link.close(), this.#transactions.close()]);
  }

  #encode(destination: string, content: string | Uint8Array, options?: SendOptions): Outgoing {
    return messageEncoder(destination, this.#settings, options, this.#log)(content);
  }

  #sendTraced(message: Outgoing, signal?: AbortSignal): Promise<void> {
    const { end } = message;
    let sent: Promise<void>;
    try {
      checkSignal(signal);
      sent =
        signal === undefined
          ? this.#send(message)
          : untilGivenUp(signal, (attempt) => this.#send(message, attempt));
    } catch (error) {
      sent = rejected(error);
    }
    if (end !== undefined)
      sent.then(
        () => end(),
        (error: unknown) => end(failureOf(error)),
      );
    return sent;
  }

  /** At once when there is room and a connection: waiting for nothing costs as much as sending. */
  #send(message: Outgoing, attempt?: Attempt): Promise<void> {
    this.#begin();
    if (this.#unconfirmed === this.window) return this.#sendLater(message, attempt);
    this.#unconfirmed++;
    const lease = this.#link.tryLease(message.destination);
    if (lease === undefined || lease.session.isFull) return this.#sendInTurn(message, lease, attempt);
    return this.#transmit(message, lease, attempt);
  }

  async #sendLater(message: Outgoing, attempt?: Attempt): Promise<void> {
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
    const isGivenUp = attempt?.signal.aborted === true;
    const lease = isGivenUp ? undefined : this.#link.tryLease(message.destination);
    await this.#sendInTurn(message, lease, attempt);
  }

  async #sendInTurn(message: Outgoing, tried: Lease | undefined, attempt?: Attempt): Promise<void> {
    let lease: Lease;
    try {
      if (tried === undefined) refuseGivenUp(attempt);
      lease = tried ?? (await this.#link.lease(message.destination));
      await this.#prepare(message.destination, lease, attempt);
    } catch (error) {
      this.#leave();
      throw asDoubtful(error);
    }
    await this.#transmit(message, lease, attempt);
  }

  /** Rejects, having ended the loan, when the queue is to be there and is not, and when it is given up. */
  async #prepare(destination: string, lease: Lease, attempt?: Attempt): Promise<void> {
    const { session, isAlone } = lease;
    try {
      if (isAlone) await requireTarget(session, destination, this.#log);
      if (session.isFull) await session.drained();
      refuseGivenUp(attempt);
    } catch (error) {
      lease.end();
      throw error;
    }
  }

  #transmit(message: Outgoing, lease: Lease, attempt?: Attempt): Promise<void> {
    const { session, isAlone } = lease;
    if (attempt !== undefined) attempt.isSent = true;
    return new Promise((resolve, reject) => {
      session.sendWithReceipt(linesFor(message, session.dialect), message.body, (error) => {
        lease.end(error === undefined ? message.destination : undefined);
        if (error === undefined) {
          resolve();
          this.#leave();
          return;
        }
        const told = asDoubtful(session.isOpen || isAlone ? error : this.#doubted(error));
        // All that end with a connection count as under way for each of them.
        if (session.isOpen || error.code !== 'connection-lost') {
          reject(told);
          queueMicrotask(() => this.#leave());
        } else {
          void this.#losses.causeOf(session, message).then((cause) => {
            reject(cause?.culprit === message ? cause.error : explained(told, cause));
            this.#leave();
          });
        }
      });
    });
  }

  /** A place in the window that somebody waits for changes hands; only one that nobody wants is free again. */
  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#unconfirmed--;
    else next();
    this.#end();
  }

  #begin(): void {
    if (this.#closing !== undefined) throw new PubsubError('invalid-usage', 'the publisher is closed');
    this.#pending++;
  }

  #end(): void {
    if (--this.#pending === 0) this.#onIdle?.();
  }

  /** An ERROR does not say which message it means, and ends the connection for all. */
  #doubted(error: PubsubError): PubsubError {
    if (error.code !== 'broker-refused' || this.#unconfirmed === 1) return error;
    const doubt = `it may mean another of the ${this.#unconfirmed} messages under way: this one may or may not have arrived`;
    return new PubsubError('not-confirmed', `${error.message}; ${doubt}`, { cause: error });
  }
}

/** Throws `invalid-usage` for what is no text. */
function jsonText(json: unknown): string {
  if (typeof json === 'string') return json;
  throw misused('json', 'text that is JSON already (send takes any value)', json);
}

const asDoubtful = (error: unknown): PubsubError =>
  asUnconfirmed(error, 'the message may or may not have arrived') as PubsubError;
