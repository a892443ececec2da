/**
 * What is sent because of a message before that message is acked: nothing of it is lost if everything ends in between,
 * and at worst it is sent again. Every SEND is confirmed first, over a connection of its own: a memory alarm stops RabbitMQ
 * from reading a connection that has sent a SEND, a full queue does the same on ActiveMQ, and the ACKs must keep flowing
 * then.
 *
 * A message under way is tried for as long as the consumer's session lives. Where a connection ended under several, each is
 * sent alone the next time, so that the one it ended for is found. A queue that takes nothing for now is held: what is for
 * it waits, one message of it is tried with growing waits over a connection of its own, and all else goes on.
 *
 * There is one for each session of a consumer, and it ends with it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { PubsubError, reasonOf } from '../errors.js';
import type { Logger } from '../log.js';
import { openBeside } from '../stomp/open.js';
import { describeEnd, type SessionEnd } from '../stomp/session-end.js';
import { backoffMs, type Session } from './connect.js';
import { examine, tooLarge, wordless } from './examine.js';
import { requireTarget } from './existing.js';
import { linesFor, type Outgoing } from './heads.js';
import { Holds, type Attempt, type Item } from './holds.js';
import { Link, type Lease } from './link.js';

const LONGEST_DELAY_SECONDS = 10;
/** Messages of one callback under way at once. */
const WINDOW = 1000;

export interface HandOverOptions {
  readonly session: Session;
  readonly log: Logger;
  /** Aborted: what a queue does not take now goes back to its own. */
  readonly drain: AbortSignal;
  /** A queue that took nothing takes messages again. */
  readonly onReleased: () => void;
}

export interface ConfirmOptions {
  /** A refusal is waited out. */
  readonly isHeldWhenRefused?: boolean;
  /** Is told of each message. */
  readonly onCarried?: ((carried: Carried) => void) | undefined;
}

interface Carried {
  readonly destination: string;
  readonly result: 'confirmed' | 'refused' | 'unconfirmed';
}

export class HandOver {
  readonly session: Session;
  readonly #log: Logger;
  readonly #ended = new AbortController();
  readonly #open: () => Promise<Session>;
  readonly #link: Link;
  readonly #holds: Holds;

  constructor({ session, log, drain, onReleased }: HandOverOptions) {
    this.session = session;
    this.#log = log;
    this.#open = () => openBeside(session, log, this.#ended.signal);
    this.#link = new Link(this.#open);
    this.#holds = new Holds({
      ...{ open: this.#open, log, onReleased },
      end: AbortSignal.any([this.#ended.signal, drain]),
      attempt: (link, item) => this.#attempt(link, item),
      goOn: (item) => this.#carry(item),
    });
    void session.closed.then((end) => this.#close(end));
  }

  /**
   * Resolves when the broker has confirmed every message. Rejects with `broker-refused` when it takes one of them never,
   * unless such a refusal is to be waited out, with `message-too-large` when no connection survives one, and with
   * `connection-lost` when the session ended before, or a drain came while a queue takes nothing.
   */
  async confirm(
    messages: readonly Outgoing[],
    { isHeldWhenRefused = false, onCarried }: ConfirmOptions = {},
  ): Promise<void> {
    const carry = (message: Outgoing) => {
      const carried = this.#carry({ message, isHeldWhenRefused, isSuspect: false });
      return onCarried === undefined ? carried : tellResult(carried, message, onCarried);
    };
    const [first] = messages;
    if (first !== undefined && messages.length === 1) await carry(first);
    else
      for (let start = 0; start < messages.length; start += WINDOW)
        await Promise.all(messages.slice(start, start + WINDOW).map(carry));
  }

  async #carry(item: Item): Promise<void> {
    if (this.#holds.isHeld(item.message.destination)) return this.#holds.hold(item);
    for (let attempts = 0; ; attempts++) {
      const attempt = await this.#attempt(this.#link, item);
      switch (attempt.kind) {
        case 'confirmed':
          return;
        case 'again':
          continue;
        case 'later':
          await this.#backOff(attempts, attempt.reason);
          continue;
        case 'full':
          return this.#holds.hold(item, attempt.reason);
        case 'refused':
          if (item.isHeldWhenRefused) return this.#holds.hold(item, attempt.error.message);
          throw attempt.error;
        case 'unreadable':
          throw attempt.error;
      }
    }
  }

  async #attempt(link: Link, item: Item): Promise<Attempt> {
    const { destination } = item.message;
    this.#throwIfEnded();
    let lease: Lease;
    try {
      lease =
        (item.isSuspect ? undefined : link.tryLease(destination)) ??
        (await link.lease(destination, item.isSuspect));
    } catch (error) {
      this.#throwIfEnded();
      return { kind: 'later', reason: reasonOf(error) };
    }
    const { session, isAlone } = lease;
    // Found out while it waited.
    if (link === this.#link && this.#holds.isHeld(destination)) {
      lease.end();
      return { kind: 'full', reason: '' };
    }
    const missing = isAlone ? await this.#look(session, destination) : undefined;
    if (missing !== undefined) {
      lease.end();
      return missing;
    }
    if (session.isFull) await session.drained();
    // It may have taken long.
    if (lease.isSpent) {
      lease.end();
      return { kind: 'again' };
    }
    const error = await transmit(item.message, lease);
    if (error === undefined) return { kind: 'confirmed' };
    // An ERROR that names this message (ActiveMQ).
    if (session.isOpen) return { kind: 'refused', error };
    item.isSuspect = true;
    return isAlone ? this.#judge(item.message, await session.closed) : { kind: 'again' };
  }

  /** Looks for a queue that nobody declares here; resolves with what it means if it is not found. */
  async #look(session: Session, destination: string): Promise<Attempt | undefined> {
    try {
      await requireTarget(session, destination, this.#log, this.#ended.signal);
      return undefined;
    } catch (error) {
      this.#throwIfEnded();
      if (error instanceof PubsubError && error.code === 'broker-refused') return { kind: 'refused', error };
      return { kind: 'later', reason: reasonOf(error) };
    }
  }

  /** What it means that a connection ended with this message alone under way. */
  async #judge(message: Outgoing, end: SessionEnd): Promise<Attempt> {
    const reason = describeEnd(end);
    if (end.meaning === 'too-large') return { kind: 'unreadable', error: tooLarge(message, reason) };
    // An ERROR that is known to pass, such as that of a node that is down, is no refusal.
    if (end.kind === 'broker' && (end.isConfiguration || end.advice === undefined))
      return { kind: 'refused', error: new PubsubError('broker-refused', `SEND refused: ${reason}`) };
    if (end.kind === 'unconfirmed') return { kind: 'full', reason };
    if (end.kind !== 'transport') return { kind: 'later', reason };
    const finding = await examine(this.#open, message);
    if (finding === 'unreadable') return { kind: 'unreadable', error: tooLarge(message, reason) };
    return finding === 'refused'
      ? { kind: 'full', reason: `${reason}: ${wordless}` }
      : { kind: 'later', reason };
  }

  async #backOff(attempts: number, reason: string): Promise<void> {
    this.#throwIfEnded();
    const waitMs = backoffMs(attempts, LONGEST_DELAY_SECONDS);
    const fields = { reason, retryInMs: Math.round(waitMs) };
    this.#log.warn(fields, 'messages are not confirmed; sending them again');
    await delay(waitMs, undefined, { signal: this.#ended.signal }).catch(() => undefined);
  }

  #throwIfEnded(): void {
    if (this.#ended.signal.aborted)
      throw new PubsubError('connection-lost', 'the connection of its message is gone');
  }

  /** What is not confirmed now is sent again when its message comes again. */
  async #close(end: SessionEnd): Promise<void> {
    this.#ended.abort();
    if (end.kind === 'closed') await this.#link.close();
    else this.#link.abandon(describeEnd(end));
  }
}

async function tellResult(
  carried: Promise<void>,
  { destination }: Outgoing,
  tell: (carried: Carried) => void,
): Promise<void> {
  try {
    await carried;
    tell({ destination, result: 'confirmed' });
  } catch (error) {
    const isLost = error instanceof PubsubError && error.code === 'connection-lost';
    tell({ destination, result: isLost ? 'unconfirmed' : 'refused' });
    throw error;
  }
}

/** Sends it; resolves with why it is not confirmed, if it is not. Ends the loan. */
function transmit(message: Outgoing, lease: Lease): Promise<PubsubError | undefined> {
  const { session } = lease;
  return new Promise((resolve) => {
    session.sendWithReceipt(linesFor(message, session.dialect), message.body, (error) => {
      lease.end(error === undefined ? message.destination : undefined);
      resolve(error);
    });
  });
}
