/**
 * What one connection holds in the broker: its subscriptions, the deliveries it has not settled and its open
 * transactions. State only, no sockets. Hides the numbers of deliveries: a delivery has a number (tag) that counts
 * up over all subscriptions of the connection, which is what makes `ack:client` cumulative over all of them.
 */
import type { Frame } from '../stomp/frames.js';
import type { Heads } from './heads.js';
import { type Message, OVERHEAD_BYTES, sizeOf, storedHead } from './message.js';
import type { Queue } from './queue.js';
import type { Queues } from './queues.js';
import { invalid, limitReached, Refusal, unknownTag } from './refusal.js';
import { type ChannelOutput, Subscription, type SubscriptionOptions } from './subscription.js';

export type Settlement = 'ack' | 'reject' | 'requeue';

interface Unsettled {
  readonly message: Message;
  readonly subscription: Subscription;
}

interface SettleOperation {
  readonly tag: number;
  readonly isCumulative: boolean;
  readonly settlement: Settlement;
}

interface Transaction {
  /** A SEND that waits for COMMIT whole is a frame still. */
  readonly sends: (Message | Frame)[];
  readonly settles: SettleOperation[];
  /** To be given once it is committed. */
  readonly receipts: string[];
  bytes: number;
}

export class Channel {
  /** Queues declared here: their arguments are compared on first use only (RabbitMQ 3.10.8). */
  readonly declared = new Map<string, Queue>();
  /** By destination. */
  readonly heads = new Map<string, Heads>();
  /** Inherited by a SUBSCRIBE without `prefetch-count` (RabbitMQ 3.10.8). */
  lastPrefetch = 0;
  #queues: Queues;
  #output: ChannelOutput;
  #subscriptions = new Map<string, Subscription>();
  #unsettled = new Map<number, Unsettled>();
  #lastTag = 0;
  /** No delivery up to this number is unsettled. */
  #settledUpTo = 0;
  #transactions = new Map<string, Transaction>();

  constructor(queues: Queues, output: ChannelOutput) {
    this.#queues = queues;
    this.#output = output;
  }

  subscription(tag: string): Subscription | undefined {
    return this.#subscriptions.get(tag);
  }

  /** Deliveries may begin before it returns. */
  subscribe(options: SubscriptionOptions, queue: Queue): void {
    const limit = this.#queues.limits.subscriptionsPerConnection;
    if (this.#subscriptions.size >= limit)
      throw limitReached(`no more than ${limit} subscriptions on a connection to this embedded broker`);
    const subscription = new Subscription(options, queue, this.#output, this.#deliver, this.#cancel);
    this.#subscriptions.set(options.tag, subscription);
    queue.addConsumer(subscription);
  }

  /** What it has not settled is held until the connection ends (RabbitMQ 3.10.8). */
  unsubscribe(subscription: Subscription): void {
    this.#subscriptions.delete(subscription.options.tag);
    subscription.queue.removeConsumer(subscription);
  }

  /** The peer reads again. */
  resume(): void {
    for (const subscription of this.#subscriptions.values()) subscription.queue.wake(subscription);
  }

  /** Settles one delivery, or all up to it; in a transaction at its COMMIT. Throws for a tag that is not unsettled. */
  settle(operation: SettleOperation, transactionId?: string): void {
    if (transactionId !== undefined) {
      const transaction = this.#transaction(transactionId);
      this.#requireRoom(transaction);
      transaction.settles.push(operation);
      return;
    }
    if (!this.#unsettled.has(operation.tag)) throw unknownTag(operation.tag);
    this.#apply(operation);
  }

  /** Publishes at once, or at COMMIT. Returns false when the receipt has to wait for that. */
  send(message: Message, transactionId?: string, receipt?: string): boolean {
    if (transactionId === undefined) {
      this.#queues.publish([message]);
      return true;
    }
    this.#add(message, sizeOf(message), transactionId, receipt);
    return false;
  }

  /** Keeps a SEND as it is for the COMMIT of its transaction. Throws when there is no such transaction. */
  defer(frame: Frame, transactionId: string): void {
    const bytes = storedHead(frame.headers).length + frame.body.length + OVERHEAD_BYTES;
    // A body may be a view of a chunk that is far larger.
    this.#add({ ...frame, body: Buffer.from(frame.body) }, bytes, transactionId, frame.headers.receipt);
  }

  begin(id: string): void {
    // RabbitMQ 3.10.8 answers RECEIPT and throws the first one's frames away.
    if (this.#transactions.has(id))
      throw invalid('Bad transaction', `Transaction identifier "${id}" is in use already\n`);
    const limit = this.#queues.limits.transactionsPerConnection;
    if (this.#transactions.size >= limit)
      throw limitReached(`no more than ${limit} open transactions on a connection to this embedded broker`);
    this.#transactions.set(id, { sends: [], settles: [], receipts: [], bytes: 0 });
  }

  /**
   * Does all of it or, when it throws, nothing (RabbitMQ 3.10.8 replays it frame by frame). Returns the receipts of
   * its SENDs. `messageOf` makes a message of what was deferred, and declares its queue.
   */
  commit(id: string, messageOf: (frame: Frame) => Message): readonly string[] {
    const transaction = this.#transaction(id);
    this.#forget(id, transaction);
    this.#requireSettleable(transaction.settles);
    this.#queues.publish(transaction.sends.map((each) => ('command' in each ? messageOf(each) : each)));
    for (const operation of transaction.settles) this.#apply(operation);
    return transaction.receipts;
  }

  abort(id: string): void {
    this.#forget(id, this.#transaction(id));
  }

  /** Throws when there is no such transaction. */
  requireTransaction(id: string): void {
    this.#transaction(id);
  }

  /** Everything unsettled goes back, everything uncommitted is dropped, exclusive queues are removed. */
  close(): void {
    for (const [id, transaction] of this.#transactions) this.#forget(id, transaction);
    const subscriptions = [...this.#subscriptions.values()];
    this.#subscriptions.clear();
    // Nothing comes back here: the connection is not writable any more.
    const unsettled = [...this.#unsettled.values()];
    this.#unsettled.clear();
    this.#requeue(unsettled);
    for (const subscription of subscriptions) subscription.queue.removeConsumer(subscription);
    this.#queues.removeOwnedBy(this);
  }

  #deliver = (subscription: Subscription, message: Message): void => {
    const tag = ++this.#lastTag;
    this.#queues.counters.delivered++;
    if (subscription.options.ackMode === 'auto') {
      subscription.queue.settled(message);
    } else {
      subscription.unsettled++;
      this.#unsettled.set(tag, { message, subscription });
    }
    this.#output.deliver(subscription, tag, message);
  };

  #cancel = (subscription: Subscription): void => {
    if (this.#subscriptions.delete(subscription.options.tag)) this.#output.cancelled(subscription);
  };

  #apply({ tag, isCumulative, settlement }: SettleOperation): void {
    const taken: Unsettled[] = [];
    if (isCumulative) {
      // Not by iterating over the Map: that passes all that were deleted from its front.
      while (this.#settledUpTo < tag) {
        const unsettled = this.#unsettled.get(++this.#settledUpTo);
        if (unsettled === undefined) continue;
        taken.push(unsettled);
        this.#unsettled.delete(this.#settledUpTo);
      }
    } else {
      const unsettled = this.#unsettled.get(tag);
      if (unsettled === undefined) return;
      taken.push(unsettled);
      this.#unsettled.delete(tag);
    }
    this.#finish(taken, settlement);
  }

  #finish(taken: readonly Unsettled[], settlement: Settlement): void {
    const { counters } = this.#queues;
    for (const { subscription } of taken) subscription.unsettled--;
    if (settlement === 'requeue') {
      counters.requeued += taken.length;
      this.#requeue(taken);
    } else if (settlement === 'ack') {
      counters.acked += taken.length;
      for (const { message, subscription } of taken) subscription.queue.settled(message);
    } else {
      counters.nacked += taken.length;
      for (const { message, subscription } of taken) subscription.queue.rejected(message);
    }
    const [only] = taken;
    if (taken.length === 1 && only !== undefined) only.subscription.queue.wake(only.subscription);
    else
      for (const subscription of new Set(taken.map((one) => one.subscription)))
        subscription.queue.wake(subscription);
  }

  #requeue(taken: readonly Unsettled[]): void {
    const returned = new Map<Queue, Message[]>();
    for (const { message, subscription } of taken) {
      const others = returned.get(subscription.queue);
      if (others === undefined) returned.set(subscription.queue, [message]);
      else others.push(message);
    }
    for (const [queue, messages] of returned) queue.requeue(messages);
  }

  /** Would each of them find its delivery unsettled when they are done one after the other? */
  #requireSettleable(operations: readonly SettleOperation[]): void {
    const gone = new Set<number>();
    let goneUpTo = 0;
    for (const { tag, isCumulative } of operations) {
      if (!this.#unsettled.has(tag) || gone.has(tag) || tag <= goneUpTo) throw unknownTag(tag);
      if (isCumulative) goneUpTo = tag;
      else gone.add(tag);
    }
  }

  #transaction(id: string): Transaction {
    const transaction = this.#transactions.get(id);
    if (transaction === undefined)
      throw new Refusal('Bad transaction', `Invalid transaction identifier: "${id}"\n`, false);
    return transaction;
  }

  #add(send: Message | Frame, bytes: number, transactionId: string, receipt: string | undefined): void {
    const transaction = this.#transaction(transactionId);
    this.#requireRoom(transaction);
    this.#queues.reserve(bytes);
    transaction.bytes += bytes;
    transaction.sends.push(send);
    if (receipt !== undefined) transaction.receipts.push(receipt);
  }

  #requireRoom({ sends, settles }: Transaction): void {
    const limit = this.#queues.limits.framesPerTransaction;
    if (sends.length + settles.length >= limit)
      throw limitReached(`no more than ${limit} frames in a transaction on this embedded broker`);
  }

  #forget(id: string, transaction: Transaction): void {
    this.#transactions.delete(id);
    this.#queues.reserve(-transaction.bytes);
  }
}
