/**
 * Messages that must arrive, in the order given: each is kept until the broker has confirmed it, a window of them at a
 * time, over as many connections as that takes. A lost connection is replaced and what was unconfirmed on it is sent
 * again, in order, before anything new: at least once, nothing dropped.
 *
 * States: idle (nothing to send, no connection) -> connecting -> open -> connecting ... -> failed, for good: when the
 * first connection cannot be had, when the broker refuses, when it confirms nothing for too long, or at a stop.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Settings } from '../settings.js';
import { backoffMs, connectOnce } from './connect.js';
import type { Session } from './connect.js';
import { Lease } from './link.js';
import { endError, type SessionEnd } from '../stomp/session-end.js';

export interface OutboxOptions {
  readonly settings: Settings;
  readonly log: Logger;
  /** Encodes the head of a message (outgoing.ts). */
  readonly encodeHead: (json: string) => string;
  /** From then on no connection is made. */
  readonly stop: AbortSignal;
  /** From then on nothing is waited for. */
  readonly abort: AbortSignal;
}

export class Outbox {
  /** Messages, each once. */
  confirmed = 0;
  /** SENDs; more than messages when some were sent again. */
  sent = 0;
  /** Rejects once, with what ended it; never resolves. */
  readonly failed: Promise<never>;
  readonly #options: OutboxOptions;
  /** By number, in the order of their numbers. */
  readonly #unconfirmed = new Map<number, string>();
  #last: number;
  #lastSent = 0;
  #session: Session | undefined;
  #isConnecting = false;
  #hasConnected = false;
  /** Attempts to connect, and when the first of them was due, since a message was confirmed. */
  #attempts = 0;
  #sinceMs = 0;
  #hasFailed = false;
  #onFailure: (error: unknown) => void = () => undefined;
  #onChange: () => void = () => undefined;

  /** `after`: the number that is counted as confirmed already. */
  constructor(options: OutboxOptions, after: number) {
    this.#options = options;
    this.#last = after;
    this.failed = new Promise((_resolve, reject) => (this.#onFailure = reject));
    this.failed.catch(() => undefined);
    options.abort.addEventListener('abort', () => {
      if (this.#unconfirmed.size === 0) return;
      this.#fail(new PubsubError('not-confirmed', 'the graceful wait is over'));
    });
  }

  /** Takes a message, whose number is above all before. The next should wait until it is not full. */
  add(number: number, json: string): void {
    if (this.#hasFailed) return;
    this.#unconfirmed.set(number, json);
    this.#last = number;
    if (this.#isStale && this.#unconfirmed.size === 1) void this.close();
    if (this.#session !== undefined) this.#transmit(this.#session, number, json);
    else if (!this.#isConnecting) void this.#connect();
  }

  get isFull(): boolean {
    return this.#isWindowFull || this.#isRenewing || this.#session?.isFull === true;
  }

  /** Resolves when it is not full; rejects when it has failed. */
  async room(): Promise<void> {
    while (this.isFull && !this.#hasFailed) {
      if (this.#isWindowFull || this.#isRenewing) await this.#change();
      else await this.#session?.drained();
    }
    if (this.#hasFailed) await this.failed;
  }

  /** Resolves when all is confirmed, or it has failed. */
  async settled(): Promise<void> {
    while (this.#unconfirmed.size > 0 && !this.#hasFailed) await this.#change();
  }

  /** The highest number such that all messages up to it are confirmed: they are not confirmed in the order sent. */
  get confirmedUpTo(): number {
    const [first] = this.#unconfirmed.keys();
    return first === undefined ? this.#last : first - 1;
  }

  /** Messages that were sent and not confirmed: they may or may not have arrived. */
  get unknown(): number {
    return [...this.#unconfirmed.keys()].filter((number) => number <= this.#lastSent).length;
  }

  /** Disconnects; never rejects. Await `settled` first. */
  async close(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    await session?.close();
  }

  get #isStale(): boolean {
    return this.#session !== undefined && new Lease(this.#session, () => undefined).isStale;
  }

  /** What is under way is waited for, so that the next message opens another connection. */
  get #isRenewing(): boolean {
    return this.#isStale && this.#unconfirmed.size > 0;
  }

  get #isWindowFull(): boolean {
    return this.#unconfirmed.size >= this.#options.settings.publishWindow;
  }

  #change(): Promise<void> {
    return new Promise((resolve) => (this.#onChange = resolve));
  }

  #transmit(session: Session, number: number, json: string): void {
    this.sent++;
    this.#lastSent = Math.max(this.#lastSent, number);
    session.sendWithReceipt(this.#options.encodeHead(json), json, (error) => {
      // What becomes of a lost one is decided once for all of them, at the end of the session.
      if (error !== undefined) return;
      this.#unconfirmed.delete(number);
      this.confirmed++;
      this.#attempts = 0;
      this.#onChange();
    });
  }

  /** Until there is a session or it has failed; one at a time. `problem` is why there is none, when there was one. */
  async #connect(problem?: PubsubError): Promise<void> {
    const { settings, log, stop } = this.#options;
    this.#isConnecting = true;
    for (let reason = problem; reason === undefined || (await this.#backOff(reason));) {
      try {
        this.#open(await connectOnce(settings, log, stop));
        break;
      } catch (error) {
        const isFinal = !(error instanceof PubsubError && error.code === 'broker-unreachable');
        if (!isFinal && !stop.aborted) {
          reason = error;
          continue;
        }
        this.#fail(stop.aborted ? new PubsubError('interrupted', 'stopped while connecting') : error);
        break;
      }
    }
    this.#isConnecting = false;
  }

  #open(session: Session): void {
    this.#hasConnected = true;
    this.#session = session;
    void session.closed.then((end) => this.#lose(session, end));
    for (const [number, json] of this.#unconfirmed) this.#transmit(session, number, json);
  }

  #lose(session: Session, end: SessionEnd): void {
    if (this.#session !== session) return;
    this.#session = undefined;
    // With nothing under way the next message connects.
    if (this.#unconfirmed.size === 0 || this.#hasFailed) return;
    const error = endError(end, `${this.#unconfirmed.size} messages not confirmed`);
    // A broker that is blocked would take one more message from each new connection, and confirm as little.
    if (end.isConfiguration || end.kind === 'unconfirmed') this.#fail(error);
    else void this.#connect(error);
  }

  /** Waits before the next attempt; false when there is none: it has failed. */
  async #backOff(error: PubsubError): Promise<boolean> {
    const { settings, log, stop } = this.#options;
    if (this.#attempts === 0) this.#sinceMs = performance.now();
    const waitMs = backoffMs(this.#attempts++, settings.waitToConnectSeconds);
    const limitMs = settings.reconnectForSeconds * 1000;
    const isOver = performance.now() - this.#sinceMs + waitMs > limitMs;
    if (!this.#hasConnected || isOver) {
      const ending = this.#hasConnected && limitMs > 0 ? `; given up after ${limitMs / 1000} s` : '';
      this.#fail(new PubsubError(error.code, error.message + ending, { cause: error }));
      return false;
    }
    const fields = {
      reason: error.message,
      unconfirmed: this.#unconfirmed.size,
      retryInMs: Math.round(waitMs),
    };
    log.warn(fields, 'no connection to the broker; what is unconfirmed will be sent again');
    await delay(waitMs, undefined, { signal: stop }).catch(() => undefined);
    return true;
  }

  #fail(error: unknown): void {
    this.#hasFailed = true;
    this.#session?.abandon('given up');
    this.#onFailure(error);
    this.#onChange();
  }
}
