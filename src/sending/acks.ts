/**
 * ACKs of messages that are dealt with, confirmed in groups: a broker carries out the frames of a connection in their order
 * and refuses in that order, so the receipt of the last ACK is that of all before it (RabbitMQ 3.10.8, ActiveMQ 5.17). What
 * is acked within one turn of the event loop is a group: dozens under load, and one alone at once.
 */
import type { Session } from './connect.js';

/** What the ACK of a message needs of it. */
export interface Ackable {
  readonly ack: string;
  readonly subscription: string;
}

export class Acks {
  readonly #session: Session;
  readonly #onConfirmed: (group: readonly Ackable[]) => void;
  readonly #onFailure: (error: unknown, group: readonly Ackable[]) => void;
  #group: Ackable[] = [];

  /** Each group is confirmed or fails, once. */
  constructor(
    session: Session,
    onConfirmed: (group: readonly Ackable[]) => void,
    onFailure: (error: unknown, group: readonly Ackable[]) => void,
  ) {
    this.#session = session;
    this.#onConfirmed = onConfirmed;
    this.#onFailure = onFailure;
  }

  add(message: Ackable): void {
    if (this.#group.length === 0) setImmediate(() => this.#send());
    this.#group.push(message);
  }

  #send(): void {
    const group = this.#group;
    this.#group = [];
    for (const { ack } of group.slice(0, -1)) this.#session.sendWithoutReceipt('ACK', { id: ack });
    this.#session.request('ACK', { id: group.at(-1)?.ack ?? '' }).then(
      () => this.#onConfirmed(group),
      (error: unknown) => this.#onFailure(error, group),
    );
  }
}
