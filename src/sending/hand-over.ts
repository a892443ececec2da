/**
 * What is sent because of a message before that message is acked: nothing of it is lost if everything ends in between,
 * and at worst it is sent again. Every SEND is confirmed first, over a connection of its own: a memory alarm stops RabbitMQ
 * from reading a connection that has sent a SEND, a full queue does the same on ActiveMQ, and the ACKs must keep flowing
 * then.
 *
 * There is one for each session of a consumer, and it ends with it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { existsOtherwise } from '../brokers/diagnoses.js';
import type { Declaration } from '../brokers/queues.js';
import { PubsubError, reasonOf } from '../errors.js';
import type { Logger } from '../log.js';
import type { Headers } from '../stomp/frames.js';
import { openBeside } from '../stomp/open.js';
import { describeEnd, endError, type SessionEnd } from '../stomp/session-end.js';
import { backoffMs, type Session } from './connect.js';
import { declareQueues } from './declare.js';
import type { Outgoing } from './heads.js';
import { FRESH_MS, Link } from './link.js';

const LONGEST_DELAY_SECONDS = 10;
/** A message at which so many connections in a row ended without a word is taken as refused. */
const MAX_BROKEN = 5;

interface Attempt {
  readonly left: readonly Outgoing[];
  /** How the connection ended, if it did. */
  readonly end?: SessionEnd;
  readonly reason: string;
}

export class HandOver {
  readonly session: Session;
  readonly #log: Logger;
  readonly #ended = new AbortController();
  readonly #link: Link;
  readonly #declarations: readonly Declaration[];
  #declaredMs = performance.now();
  #declaring: Promise<void> | undefined;
  /** Over which one at a time sends again what was not confirmed over the shared one. */
  #lone: Session | undefined;
  /** Settles when those before have had their turn. */
  #turn: Promise<unknown> = Promise.resolve();

  /** `declarations`: what was declared just now, and is to be there for what the broker itself moves. */
  constructor(session: Session, declarations: readonly Declaration[], log: Logger) {
    this.session = session;
    this.#declarations = declarations;
    this.#log = log;
    this.#link = new Link(() => openBeside(session, log, this.#ended.signal));
    void session.closed.then((end) => this.#close(end));
  }

  /**
   * Resolves when the broker has confirmed every message and the ACK is written, or confirmed if so wanted. Rejects with
   * `broker-refused` when it takes one of the messages never, and the session can still settle the message; else with
   * `connection-lost`: the broker delivers it again. Meanwhile it tries again for as long as the session lives.
   */
  async sendThenAck(messages: readonly Outgoing[], ack: Headers, isConfirmed: () => boolean): Promise<void> {
    const { session } = this;
    await this.#confirm(messages);
    if (isConfirmed()) await session.request('ACK', ack);
    else if (!session.sendWithoutReceipt('ACK', ack)) throw await this.#lost();
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

  /** Resolves when the broker has confirmed all. */
  async #confirm(messages: readonly Outgoing[]): Promise<void> {
    let left = messages;
    try {
      left = await this.#link.use((session) => unconfirmed(session, messages));
    } catch (error) {
      this.#log.debug({ err: error }, 'no connection to publish over');
    }
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

  async #lost(): Promise<PubsubError> {
    return new PubsubError('connection-lost', endError(await this.session.closed, 'ACK not sent').message);
  }

  /** What is not confirmed now is sent again when its message comes again. */
  async #close(end: SessionEnd): Promise<void> {
    this.#ended.abort();
    this.#lone?.abandon(describeEnd(end));
    if (end.kind === 'closed') await this.#link.close();
    else this.#link.abandon(describeEnd(end));
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
      new Promise((resolve) => session.sendWithReceipt(lines, body, (error) => resolve(error === undefined))),
    );
  }
  const areConfirmed = await Promise.all(results);
  return messages.filter((_message, index) => areConfirmed[index] !== true);
}
