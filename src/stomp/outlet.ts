/**
 * What is sent because of a message before that message is acked: nothing of it is lost if everything ends in between,
 * and at worst it is sent again. Hides how each broker does that. Where an ACK joins a transaction, all go in one. Else
 * every SEND is confirmed first, over a connection of its own: a memory alarm stops RabbitMQ from reading a connection
 * that has sent a SEND, and the ACKs must keep flowing then.
 *
 * There is one for each session of a consumer, and it ends with it. Its own connection is made when first needed, and
 * anew after a while: RabbitMQ declares a queue for the first SEND of a connection alone, and confirms and drops what is
 * sent to one that was deleted since (3.10.8).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { PubsubError, reasonOf } from '../errors.js';
import type { Logger } from '../log.js';
import { backoffMs } from './connect.js';
import { declareQueues } from './declare.js';
import { existsOtherwise, type Declaration } from './dialects.js';
import type { Headers } from './frames.js';
import type { Outgoing } from './outgoing.js';
import { FRESH_MS, openBeside, type Session } from './session.js';
import { describeEnd, endError, type SessionEnd } from './session-end.js';

const LONGEST_DELAY_SECONDS = 10;
/** A message at which so many connections in a row ended without a word is taken as refused. */
const MAX_BROKEN = 5;
/** Far more than can be in flight when a connection ends. */
const MAX_SUSPECTS = 10_000;

/** A connection for many; the last of its users closes it when another has taken its place. */
interface Shared {
  readonly session: Promise<Session>;
  readonly sinceMs: number;
  users: number;
}

interface Attempt {
  readonly left: readonly Outgoing[];
  /** How the connection ended, if it did. */
  readonly end?: SessionEnd;
  readonly reason: string;
}

export class Outlet {
  readonly session: Session;
  readonly #log: Logger;
  /** Ids of messages whose transaction the session did not survive, over all sessions of a consumer. */
  readonly #suspects: Set<string>;
  readonly #ended = new AbortController();
  #own: Shared | undefined;
  /** With those that others have taken the place of, and that are in use still. */
  readonly #connections = new Set<Shared>();
  readonly #declarations: readonly Declaration[];
  #declaredMs = performance.now();
  #declaring: Promise<void> | undefined;
  /** Over which one at a time sends again what was not confirmed over the shared one. */
  #lone: Session | undefined;
  /** Settles when those before have had their turn. */
  #turn: Promise<unknown> = Promise.resolve();

  /** `declarations`: what was declared just now, and is to be there for what the broker itself moves. */
  constructor(
    session: Session,
    { declarations, suspects }: { declarations: readonly Declaration[]; suspects: Set<string> },
    log: Logger,
  ) {
    this.session = session;
    this.#declarations = declarations;
    this.#suspects = suspects;
    this.#log = log;
    void session.closed.then((end) => this.#close(end));
  }

  /**
   * Resolves when the broker has confirmed every message and the ACK is written, or confirmed if so wanted. Rejects with
   * `broker-refused` when it takes one of the messages never, and the session can still settle the message; else with
   * `connection-lost`: the broker delivers it again. Meanwhile it tries again for as long as the session lives.
   */
  async sendThenAck(
    messages: readonly Outgoing[],
    { ack, messageId, isConfirmed }: { ack: Headers; messageId: string; isConfirmed: () => boolean },
  ): Promise<void> {
    const { session } = this;
    // ActiveMQ 5.17 schedules only after COMMIT: in a transaction a crash would leave the ACK without the message.
    const isDelayed = messages.some(({ lines }) => lines.includes('\nAMQ_SCHEDULED_'));
    if (session.dialect.acksJoinTransactions && !isDelayed && !this.#suspects.delete(messageId)) {
      await this.#transact(messages, ack, messageId);
      return;
    }
    await this.#confirm(messages);
    if (isConfirmed()) await session.request('ACK', ack);
    else if (!session.send('ACK', ack)) throw await this.#lost();
  }

  /**
   * Before a NACK that moves the message to one of the declared queues: declares them again, unless that was done lately.
   * Undefined when there is nothing to wait for; never rejects.
   */
  ensureQueues(): Promise<void> | undefined {
    const isFresh = performance.now() - this.#declaredMs < FRESH_MS;
    if (this.#declarations.length === 0 || isFresh) return undefined;
    this.#declaring ??= this.#declare().finally(() => (this.#declaring = undefined));
    return this.#declaring;
  }

  async #declare(): Promise<void> {
    try {
      await declareQueues(this.session, this.#declarations, this.#log, this.#ended.signal);
    } catch (error) {
      if (this.#ended.signal.aborted) return;
      if (!existsOtherwise(reasonOf(error))) {
        this.#log.warn({ err: error }, 'it is not known whether the dead-letter queue is still there');
        return;
      }
    }
    this.#declaredMs = performance.now();
  }

  async #transact(messages: readonly Outgoing[], ack: Headers, messageId: string): Promise<void> {
    const { session } = this;
    const transaction = session.begin();
    try {
      // COMMIT would carry out the ACK without a message that was refused meanwhile.
      await Promise.all(messages.map(({ lines, body }) => session.offer(transaction, lines, body)));
    } catch (error) {
      if (session.isOpen) await session.abort(transaction);
      // ActiveMQ 5.17 answers a header that it cannot read with the end of the connection, and no ERROR.
      else if ((await session.closed).kind !== 'local') this.#suspect(messageId);
      throw error;
    }
    session.send('ACK', { ...ack, transaction: transaction.id });
    await session.commit(transaction);
  }

  /** Which of the messages in flight the session ended for, if for any, is not known: next time this one goes alone. */
  #suspect(messageId: string): void {
    if (this.#suspects.size >= MAX_SUSPECTS) this.#suspects.clear();
    this.#suspects.add(messageId);
  }

  /** Resolves when the broker has confirmed all. */
  async #confirm(messages: readonly Outgoing[]): Promise<void> {
    let left = messages;
    const own = this.#open();
    own.users++;
    try {
      left = await unconfirmed(await own.session, messages);
    } catch (error) {
      this.#log.debug({ err: error }, 'no connection to publish over');
    }
    own.users--;
    this.#retire(own);
    if (left.length === 0) return;
    // An ERROR does not say which message it means: what failed beside others is sent again by itself.
    const turn = this.#turn.then(() => this.#insist(left));
    this.#turn = turn.catch(() => undefined);
    await turn;
  }

  async #insist(messages: readonly Outgoing[]): Promise<void> {
    let left = messages;
    let broken = 0;
    for (let attempt = 0; this.session.isOpen; attempt++) {
      const before = left.length;
      const outcome = await this.#sendAlone(left);
      left = outcome.left;
      if (left.length === 0) return;
      const { end, reason } = outcome;
      broken = end?.kind === 'transport' && left.length === before ? broken + 1 : 0;
      if ((end !== undefined && isRefusal(end)) || broken === MAX_BROKEN)
        throw new PubsubError('broker-refused', `SEND refused: ${reason}`);
      await this.#backOff(attempt, reason, left.length);
    }
    throw await this.#lost();
  }

  /** Tries once; resolves with what is not confirmed, and why. */
  async #sendAlone(messages: readonly Outgoing[]): Promise<Attempt> {
    let left = messages;
    let lone: Session;
    try {
      lone = await openBeside(this.session, this.#log, this.#ended.signal);
    } catch (error) {
      return { left, reason: reasonOf(error) };
    }
    this.#lone = lone;
    // One by one: RabbitMQ 3.10 keeps the reason of a refusal to itself when it has to answer something else meanwhile.
    while (left[0] !== undefined && (await unconfirmed(lone, [left[0]])).length === 0) left = left.slice(1);
    void lone.close();
    if (left.length === 0) return { left, reason: '' };
    const end = await lone.closed;
    return { left, end, reason: describeEnd(end) };
  }

  async #backOff(attempt: number, reason: string, messages: number): Promise<void> {
    if (!this.session.isOpen) return;
    const waitMs = backoffMs(attempt, LONGEST_DELAY_SECONDS);
    const fields = { reason, messages, retryInMs: Math.round(waitMs) };
    this.#log.warn(fields, 'messages are not confirmed; sending them again');
    await delay(waitMs, undefined, { signal: this.#ended.signal }).catch(() => undefined);
  }

  #open(): Shared {
    const last = this.#own;
    const { hasQueueArguments } = this.session.dialect;
    if (last !== undefined && !(hasQueueArguments && performance.now() - last.sinceMs > FRESH_MS))
      return last;
    const session = openBeside(this.session, this.#log, this.#ended.signal);
    const own: Shared = { session, sinceMs: performance.now(), users: 0 };
    this.#own = own;
    this.#connections.add(own);
    const forget = () => {
      this.#connections.delete(own);
      if (this.#own === own) this.#own = undefined;
    };
    session.then(({ closed }) => closed.then(forget), forget);
    if (last !== undefined) this.#retire(last);
    return own;
  }

  #retire(shared: Shared): void {
    if (shared === this.#own || shared.users > 0) return;
    void shared.session.then(
      (session) => session.close(),
      () => undefined,
    );
  }

  async #lost(): Promise<PubsubError> {
    return new PubsubError('connection-lost', endError(await this.session.closed, 'ACK not sent').message);
  }

  /** What is not confirmed now is sent again when its message comes again. */
  async #close(end: SessionEnd): Promise<void> {
    this.#ended.abort();
    this.#lone?.destroy(end);
    for (const { session } of this.#connections) {
      const own = await session.catch(() => undefined);
      if (end.kind === 'closed') await own?.close();
      own?.destroy(end);
    }
  }
}

/** An ERROR that is known to pass, such as that of a node that is down, is none. */
function isRefusal({ kind, isConfiguration, advice }: SessionEnd): boolean {
  return kind === 'broker' && (isConfiguration || advice === undefined);
}

/** Sends all; resolves with those that were not confirmed when their session ended. */
async function unconfirmed(session: Session, messages: readonly Outgoing[]): Promise<Outgoing[]> {
  const results: Promise<boolean>[] = [];
  for (const { lines, body } of messages) {
    if (session.isFull) await session.drained();
    results.push(
      new Promise((resolve) => session.transmit(lines, body, (error) => resolve(error === undefined))),
    );
  }
  const areConfirmed = await Promise.all(results);
  return messages.filter((_message, index) => areConfirmed[index] !== true);
}
