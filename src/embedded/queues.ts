/**
 * All queues of the broker and what connects them: declaring, bindings, routing, dead letters and the bound on memory.
 * State only: no sockets, and time is handed in. Hides how a message finds its queues, that a chain of dead-letter
 * queues is worked off one by one and that a circle of them ends.
 */
import { reasonOf } from '../errors.js';
import { type Declaration, requireEquivalent } from './arguments.js';
import type { Behaviour } from './behaviour.js';
import type { Clock } from './clock.js';
import { addressOf, TOPIC_EXCHANGE } from './destinations.js';
import type { BrokerLimits } from './limits.js';
import { type Address, afterDeath, copyOf, type DeathReason, type Message, sizeOf } from './message.js';
import { Queue, type QueueSurroundings } from './queue.js';
import { limitReached, notFound, resourceLocked, silent } from './refusal.js';
import { Topics } from './topics.js';

/** What happened since the start, in messages. */
export interface Counters {
  /** Accepted from publishers. */
  published: number;
  /** Sent to consumers, redeliveries included. */
  delivered: number;
  acked: number;
  /** Rejected: NACK with `requeue:false`. */
  nacked: number;
  requeued: number;
  /** Arrived in a dead-letter queue. */
  deadLettered: number;
  expired: number;
  /** Gone for want of a queue: no such queue, no binding, no dead-letter queue. */
  dropped: number;
}

/** `queue` is the one it was sent to, or that it died in. */
export type MessageEvent =
  | {
      readonly kind: 'dead-lettered';
      readonly queue: string;
      readonly to: string;
      readonly reason: DeathReason;
    }
  | { readonly kind: 'dropped'; readonly queue: string; readonly reason: string };

/**
 * Dead letters and copies of them that one message may lead to at once. Queues that dead-letter into a topic they are
 * bound to multiply a message without end; the longest chain of queues by default is half as long.
 */
const DEATHS_AT_ONCE = 20_000;

export class Queues {
  readonly clock: Clock;
  readonly limits: BrokerLimits;
  readonly behaviour: Behaviour;
  readonly counters: Counters = {
    published: 0,
    delivered: 0,
    acked: 0,
    nacked: 0,
    requeued: 0,
    deadLettered: 0,
    expired: 0,
    dropped: 0,
  };
  #report: (event: MessageEvent) => void;
  #queues = new Map<string, Queue>();
  #topics = new Topics<Queue>();
  /** The exclusive queues of each connection that has any. */
  #owned = new Map<object, Set<Queue>>();
  #bytes = 0;
  #dying: { message: Message; queue: Queue; reason: DeathReason }[] = [];
  #isBurying = false;
  #deathsLeft = 0;
  #surroundings: QueueSurroundings;

  constructor(
    limits: BrokerLimits,
    clock: Clock,
    report: (event: MessageEvent) => void,
    behaviour: Behaviour = {},
  ) {
    this.limits = limits;
    this.behaviour = behaviour;
    this.clock = clock;
    this.#report = report;
    this.#surroundings = {
      clock,
      account: (bytes) => (this.#bytes += bytes),
      died: (message, queue, reason) => this.#died(message, queue, reason),
      ended: (queue) => this.remove(queue),
    };
  }

  /** Memory taken by messages and by what `reserve` holds. */
  get bytes(): number {
    return this.#bytes;
  }

  get(name: string): Queue | undefined {
    return this.#queues.get(name);
  }

  all(): Queue[] {
    return [...this.#queues.values()];
  }

  /** The queue of that declaration, made if need be. Throws a Refusal when it exists and differs. */
  declare(wanted: Declaration, owner: object): Queue {
    const current = this.#queues.get(wanted.name);
    if (current !== undefined) {
      this.requireAccess(current, owner);
      requireEquivalent(current.declaration, wanted);
      current.touch();
      return current;
    }
    if (this.#queues.size >= this.limits.queues)
      throw limitReached(`no more than ${this.limits.queues} queues on this embedded broker`);
    const queue = new Queue(wanted, wanted.isExclusive ? owner : undefined, this.#surroundings);
    this.#queues.set(wanted.name, queue);
    if (wanted.isExclusive) this.#owned.set(owner, (this.#owned.get(owner) ?? new Set()).add(queue));
    return queue;
  }

  /** Throws a Refusal when the queue is exclusive to another connection. */
  requireAccess(queue: Queue, owner: object): void {
    if (queue.owner !== undefined && queue.owner !== owner) throw resourceLocked(queue.name);
  }

  requireExchange(exchange: string): void {
    if (exchange !== '' && exchange !== TOPIC_EXCHANGE)
      throw notFound(`no exchange '${exchange}' in vhost '/'`);
  }

  bind(pattern: string, queue: Queue): void {
    if (this.#topics.size >= this.limits.bindings && !this.#topics.has(pattern, queue))
      throw limitReached(`no more than ${this.limits.bindings} bindings on this embedded broker`);
    this.#topics.bind(pattern, queue);
  }

  remove(queue: Queue): void {
    if (this.#queues.get(queue.name) !== queue) return;
    this.#queues.delete(queue.name);
    this.#topics.unbind(queue);
    if (queue.owner !== undefined) this.#owned.get(queue.owner)?.delete(queue);
    queue.delete();
  }

  /** Removes the exclusive queues of a connection that ended. */
  removeOwnedBy(owner: object): void {
    for (const queue of this.#owned.get(owner) ?? []) this.remove(queue);
    this.#owned.delete(owner);
  }

  /** To every queue it is routed to; to none is no error. Throws a Refusal, and has done nothing, when one is full. */
  publish(messages: readonly Message[]): void {
    this.#requireSpace(messages);
    for (const message of messages) {
      this.counters.published++;
      if (message.delayMs > 0) this.#holdBack(message);
      else this.#deliver(message);
    }
  }

  #deliver(message: Message): void {
    const queues = this.#route(message.address);
    if (queues.length === 0) this.#dropped(message.address.key, 'no queue takes it');
    this.#enqueue(message, queues);
  }

  /** Meanwhile it takes memory and is in no queue. */
  #holdBack(message: Message): void {
    const bytes = sizeOf(message);
    this.#bytes += bytes;
    this.clock.after(message.delayMs, () => {
      this.#bytes -= bytes;
      try {
        this.#requireSpace([message]);
      } catch (error) {
        this.#dropped(message.address.key, `delayed, and now there is no room: ${reasonOf(error)}`);
        return;
      }
      this.#deliver(message);
    });
  }

  /** Counts bytes that are kept elsewhere, such as in an open transaction; negative gives them back. */
  reserve(bytes: number): void {
    if (this.#bytes + bytes > this.limits.totalBytes) throw this.#outOfMemory();
    this.#bytes += bytes;
  }

  #requireSpace(messages: readonly Message[]): void {
    const added = new Map<Queue, { messages: number; bytes: number }>();
    let total = this.#bytes;
    for (const message of messages) {
      const size = sizeOf(message);
      if (message.delayMs > 0) total += size;
      for (const queue of this.#route(message.address)) {
        total += size;
        const before = added.get(queue);
        const after = { messages: (before?.messages ?? 0) + 1, bytes: (before?.bytes ?? 0) + size };
        added.set(queue, after);
        this.#requireSpaceIn(queue, after);
      }
    }
    if (total > this.limits.totalBytes) throw this.#outOfMemory();
  }

  #requireSpaceIn(queue: Queue, added: { messages: number; bytes: number }): void {
    const { messagesPerQueue, bytesPerQueue } = this.limits;
    const full = (limit: string): Error =>
      limitReached(
        `queue '${queue.name}' in vhost '/' is full: no more than ${limit} on this embedded broker`,
      );
    if (queue.waiting + queue.unsettled + added.messages > messagesPerQueue)
      throw full(`${messagesPerQueue} messages`);
    if (queue.bytes + added.bytes > bytesPerQueue) throw full(`${bytesPerQueue} bytes`);
    if (this.#isRejecting(queue, added.messages))
      throw silent('Publish rejected', `queue '${queue.name}' in vhost '/' is full\n`);
  }

  #isRejecting(queue: Queue, added: number): boolean {
    return queue.waiting + added > (this.behaviour.rejectPublishAt?.get(queue.name) ?? Infinity);
  }

  #outOfMemory(): Error {
    return limitReached(`no more than ${this.limits.totalBytes} bytes of messages on this embedded broker`);
  }

  #route({ exchange, key }: Address): readonly Queue[] {
    if (exchange === '') {
      const queue = this.#queues.get(key);
      return queue === undefined ? [] : [queue];
    }
    return exchange === TOPIC_EXCHANGE ? [...this.#topics.route(key)] : [];
  }

  #enqueue(message: Message, queues: readonly Queue[]): void {
    for (const [index, queue] of queues.entries()) queue.push(index === 0 ? message : copyOf(message));
  }

  /** From a list, not by recursion: a message may die in the next queue at once, and so on. */
  #died(message: Message, queue: Queue, reason: DeathReason): void {
    this.#dying.push({ message, queue, reason });
    if (this.#isBurying) return;
    this.#isBurying = true;
    this.#deathsLeft = DEATHS_AT_ONCE;
    try {
      // The list grows meanwhile.
      for (const next of this.#dying) this.#bury(next);
    } finally {
      this.#dying = [];
      this.#isBurying = false;
    }
  }

  #bury({ message, queue, reason }: { message: Message; queue: Queue; reason: DeathReason }): void {
    if (reason === 'expired') this.counters.expired++;
    const { 'x-dead-letter-exchange': exchange, 'x-dead-letter-routing-key': key } =
      queue.declaration.arguments;
    if (exchange === undefined) {
      this.#dropped(queue.name, `${reason}, and it has no dead-letter exchange`);
      return;
    }
    const dead = afterDeath(message, queue.name, reason, addressOf(exchange, key ?? message.address.key));
    const routed = this.#route(dead.address);
    const open = routed.filter(({ name }) => dead.deaths?.has(name) !== true);
    const queues = open.filter((target) => !this.#isRejecting(target, 1));
    if (queues.length === 0) {
      const why =
        routed.length === 0 ? 'does not exist' : open.length === 0 ? 'is one it died in before' : 'is full';
      this.#dropped(queue.name, `${reason}, and its dead-letter queue '${dead.address.key}' ${why}`);
      return;
    }
    this.#deathsLeft -= 1 + (queues.length - 1) * (1 + (dead.deaths?.size ?? 0));
    if (this.#deathsLeft < 0) {
      this.#dropped(queue.name, `${reason}, and it led to too many dead letters at once`);
      return;
    }
    // A dead letter takes the room it had before; only copies of it can be too many.
    if (this.#bytes + (queues.length - 1) * sizeOf(dead) > this.limits.totalBytes) {
      this.#dropped(queue.name, `${reason}, and there is no memory for its dead letters`);
      return;
    }
    this.counters.deadLettered++;
    for (const { name } of queues)
      this.#report({ kind: 'dead-lettered', queue: queue.name, to: name, reason });
    this.#enqueue(dead, queues);
  }

  #dropped(queue: string, reason: string): void {
    this.counters.dropped++;
    this.#report({ kind: 'dropped', queue, reason });
  }
}
