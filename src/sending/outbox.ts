/**
 * Messages that must arrive, in the order given, at one destination: each is kept until the broker has confirmed it, a
 * window of them at a time, over as many connections as that takes. A lost connection is replaced and what was unconfirmed
 * on it is sent again, in order, before anything new: at least once, nothing dropped. The first one goes alone (link.ts),
 * and one more may be under way with each that is confirmed: where a connection ends because of a message, or because its
 * queue is full again, that costs few repetitions and not a window.
 *
 * States: idle (nothing to send) -> sending <-> recovering (a connection was lost) -> failed, for good: when the first
 * connection cannot be had, when the broker refuses, when it confirms nothing for too long, or at a stop.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Settings } from '../settings.js';
import { Slots } from '../slots.js';
import { describeEnd, endError, type SessionEnd } from '../stomp/session-end.js';
import { backoffMs, connectOnce, type Session } from './connect.js';
import { examine, tooLarge, wordless } from './examine.js';
import { requireTarget } from './existing.js';
import { failureOf, linesFor, type Outgoing } from './heads.js';
import { Link, type Lease } from './link.js';

export interface OutboxOptions {
  readonly settings: Settings;
  readonly log: Logger;
  /** From then on no connection is made. */
  readonly stop: AbortSignal;
  /** From then on nothing is waited for. */
  readonly abort: AbortSignal;
  /** A message that is too large for the broker is left out when this returns; what it throws ends all. */
  readonly onUnreadable: (error: PubsubError, number: number) => void;
}

interface Entry {
  place: number;
  readonly number: number;
  readonly message: Outgoing;
}

const passing: ReadonlySet<string> = new Set(['broker-unreachable', 'connection-lost']);

export class Outbox {
  /** Messages, each once. */
  confirmed = 0;
  /** SENDs; more than messages when some were sent again. */
  sent = 0;
  /** Rejects once, with what ended it; never resolves. */
  readonly failed: Promise<never>;
  readonly #options: OutboxOptions;
  readonly #link: Link;
  /** What is not settled, at places in the order of the numbers; nothing before `#first`. */
  readonly #entries = new Slots<Entry>();
  #first = 1;
  /** The next to go over the current connection. */
  #next = 1;
  #end = 1;
  #last: number;
  #lastSent = 0;
  /** What was sent up to here over earlier connections may have arrived then. */
  #doubtedUpTo = 0;
  /** The broker's ERROR meant this one, which was sent once: it is not in its queue. */
  #refused: Entry | undefined;
  /** Over the current connection, and how many it may be. */
  #underWay = 0;
  #mostUnderWay = Infinity;
  /** It waits for a connection, or sends what has waited for one. */
  #isBusy = false;
  #session: Session | undefined;
  /** From a lost connection; settles when what was unconfirmed on it may be sent again. */
  #recovery: Promise<void> | undefined;
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
    this.#link = new Link(() => this.#open());
    this.failed = new Promise((_resolve, reject) => (this.#onFailure = reject));
    this.failed.catch(() => undefined);
    options.abort.addEventListener('abort', () => {
      if (this.#entries.size === 0) return;
      this.#fail(new PubsubError('not-confirmed', 'the graceful wait is over'));
    });
  }

  /** Takes a message, whose number is above all before. The next should wait until it is not full. */
  add(number: number, message: Outgoing): void {
    if (this.#hasFailed) return;
    const entry = { place: 0, number, message };
    entry.place = this.#entries.add(entry);
    this.#end = entry.place + 1;
    this.#last = number;
    if (this.#isBusy) return;
    const lease = this.#link.tryLease(message.destination);
    if (lease === undefined) void this.#send();
    else this.#transmit(lease);
  }

  get isFull(): boolean {
    return this.#isBusy || this.#isWindowFull || this.#session?.isFull === true;
  }

  /** Resolves when it is not full; rejects when it has failed. */
  async room(): Promise<void> {
    while (this.isFull && !this.#hasFailed) {
      if (this.#isBusy || this.#isWindowFull) await this.#change();
      else await this.#session?.drained();
    }
    if (this.#hasFailed) await this.failed;
  }

  /** Resolves when all is settled, or it has failed. */
  async settled(): Promise<void> {
    while (this.#entries.size > 0 && !this.#hasFailed) await this.#change();
  }

  /** The highest number such that all messages up to it are confirmed: they are not confirmed in the order sent. */
  get confirmedUpTo(): number {
    const first = this.#entries.get(this.#first);
    return first === undefined ? this.#last : first.number - 1;
  }

  /** Messages that were sent, not confirmed and not refused: they may or may not have arrived. */
  get unknown(): number {
    const isUnknown = (entry: Entry) => entry.number <= this.#lastSent && entry !== this.#refused;
    return this.#entries.entries().filter(([, entry]) => isUnknown(entry)).length;
  }

  /** Messages that the broker has refused: at most the one that ended it all. */
  get refused(): number {
    return this.#refused === undefined ? 0 : 1;
  }

  /** Disconnects; never rejects. Await `settled` first. */
  close(): Promise<void> {
    return this.#link.close();
  }

  get #isWindowFull(): boolean {
    return this.#entries.size >= this.#options.settings.publishWindow;
  }

  #change(): Promise<void> {
    return new Promise((resolve) => (this.#onChange = resolve));
  }

  /** Sends all that has not been sent over the current connection, or the next one. */
  async #send(): Promise<void> {
    this.#isBusy = true;
    for (let next = this.#upNext(); next !== undefined; next = this.#upNext()) {
      await this.#recovery;
      try {
        const lease = await this.#lend(next.message.destination);
        if (this.#recovery === undefined && !this.#hasFailed) this.#transmit(lease);
        else lease.end();
      } catch (error) {
        await this.#takeRefusal(error);
      }
    }
    this.#isBusy = false;
    this.#onChange();
  }

  /** Lends the connection when the queue is there, if nobody declares it here. */
  async #lend(destination: string): Promise<Lease> {
    const lease = await this.#link.lease(destination);
    try {
      if (lease.isAlone)
        await requireTarget(lease.session, destination, this.#options.log, this.#options.stop);
      return lease;
    } catch (error) {
      lease.end();
      throw error;
    }
  }

  #upNext(): Entry | undefined {
    if (this.#hasFailed || this.#underWay >= this.#mostUnderWay) return undefined;
    for (; this.#next < this.#end; this.#next++) {
      const entry = this.#entries.get(this.#next);
      if (entry !== undefined) return entry;
    }
    return undefined;
  }

  #transmit(lease: Lease): void {
    const entry = this.#upNext();
    if (entry === undefined) {
      lease.end();
      return;
    }
    const { message } = entry;
    this.#next++;
    this.#underWay++;
    this.sent++;
    this.#lastSent = Math.max(this.#lastSent, entry.number);
    const { session, isAlone } = lease;
    session.sendWithReceipt(linesFor(message, session.dialect), message.body, (error) => {
      if (error === undefined) {
        this.confirmed++;
        this.#attempts = 0;
        this.#underWay--;
        this.#mostUnderWay++;
        message.end?.();
        this.#settle(entry);
      } else if (session.isOpen) {
        // The ERROR names this very message (ActiveMQ).
        this.#refuse(entry, error);
      } else {
        this.#lose(session, isAlone ? entry : undefined);
      }
      lease.end(error === undefined ? message.destination : undefined);
      if (error === undefined && !this.#isBusy && this.#upNext() !== undefined) void this.#send();
    });
  }

  #settle({ place }: Entry): void {
    this.#entries.remove(place);
    while (this.#first < this.#end && this.#entries.get(this.#first) === undefined) this.#first++;
    this.#onChange();
  }

  /** What becomes of all that was under way is decided once, at the end of its connection. */
  #lose(session: Session, alone: Entry | undefined): void {
    this.#next = this.#first;
    this.#underWay = 0;
    this.#mostUnderWay = 1;
    if (this.#recovery !== undefined || this.#hasFailed) return;
    this.#recovery = this.#recover(session, alone).finally(() => (this.#recovery = undefined));
    if (!this.#isBusy) void this.#send();
  }

  async #recover(session: Session, alone: Entry | undefined): Promise<void> {
    const end = await session.closed;
    // A broker that is blocked would take one more message from each new connection, and confirm as little.
    const isTooLarge = end.meaning === 'too-large';
    const isRefused = alone !== undefined && end.kind === 'broker' && end.isConfiguration;
    const what = isRefused ? 'message refused' : `${this.#entries.size} messages not confirmed`;
    const error = endError(end, what);
    if (alone !== undefined && isTooLarge) this.#leaveOut(alone, end);
    else if (isRefused) this.#refuse(alone, error);
    // Which of several is too large shows when they go again: it comes to go alone.
    else if ((end.isConfiguration && !isTooLarge) || end.kind === 'unconfirmed') this.#fail(error);
    else if (alone !== undefined && (await this.#isUnreadable(alone, end))) this.#leaveOut(alone, end);
    else await this.#backOff(error, end.kind === 'transport' ? { hint: wordless } : {});
    this.#doubtedUpTo = this.#lastSent;
  }

  #refuse(entry: Entry, error: PubsubError): void {
    if (!this.#hasFailed && entry.number > this.#doubtedUpTo) this.#refused = entry;
    this.#fail(error);
  }

  async #isUnreadable({ message }: Entry, { kind }: SessionEnd): Promise<boolean> {
    if (kind !== 'transport') return false;
    return (await examine(() => this.#open(), message)) === 'unreadable';
  }

  #leaveOut(entry: Entry, end: SessionEnd): void {
    const { message, number } = entry;
    const error = tooLarge(message, describeEnd(end));
    try {
      this.#options.onUnreadable(error, number);
      message.end?.(failureOf(error));
      this.#settle(entry);
    } catch (failure) {
      this.#fail(failure);
    }
  }

  async #open(): Promise<Session> {
    const { settings, log, stop } = this.#options;
    const session = await connectOnce(settings, log, stop);
    this.#session = session;
    return session;
  }

  /** There is no connection: that may pass, or not. */
  async #takeRefusal(error: unknown): Promise<void> {
    if (this.#hasFailed) return;
    if (this.#options.stop.aborted) this.#fail(new PubsubError('interrupted', 'stopped while connecting'));
    else if (error instanceof PubsubError && passing.has(error.code)) await this.#backOff(error);
    else this.#fail(error);
  }

  /** Waits before the next attempt, unless there is to be none. */
  async #backOff(error: PubsubError, hint: object = {}): Promise<void> {
    const { settings, log, stop } = this.#options;
    if (this.#attempts === 0) this.#sinceMs = performance.now();
    const waitMs = backoffMs(this.#attempts++, settings.waitToConnectSeconds);
    const limitMs = settings.reconnectForSeconds * 1000;
    const hasConnected = this.#session !== undefined;
    if (!hasConnected || performance.now() - this.#sinceMs + waitMs > limitMs) {
      const ending = hasConnected && limitMs > 0 ? `; given up after ${limitMs / 1000} s` : '';
      this.#fail(new PubsubError(error.code, error.message + ending, { cause: error }));
      return;
    }
    const fields = { reason: error.message, unconfirmed: this.#entries.size, retryInMs: Math.round(waitMs) };
    log.warn({ ...fields, ...hint }, 'no connection to the broker; what is unconfirmed will be sent again');
    await delay(waitMs, undefined, { signal: stop }).catch(() => undefined);
  }

  #fail(error: unknown): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    for (const [, { message }] of this.#entries.entries()) message.end?.(failureOf(error));
    this.#link.abandon('given up');
    this.#onFailure(error);
    this.#onChange();
  }
}
