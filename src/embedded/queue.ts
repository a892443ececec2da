/**
 * One queue: what waits in it, who consumes from it and when things in it run out. Hides the order of delivery
 * (priority, then age; a message that comes back is as old as before), the turns consumers take, and the one timer that
 * stands for all messages that expire. It knows no destinations and no connections.
 *
 * A message is waiting, then unsettled (delivered and not acked, rejected or requeued), then gone.
 */
import type { Declaration } from './arguments.js';
import type { Clock } from './clock.js';
import { type DeathReason, type Message, NEVER, sizeOf } from './message.js';
import { ReadyList } from './ready.js';

export interface Consumer {
  /** May it be given a message now? When that becomes true again it calls `wake`. */
  readonly hasCredit: boolean;
  deliver(message: Message): void;
  /** Its queue was deleted. */
  cancelled(): void;
}

/** What a queue reports to the whole it is part of. */
export interface QueueSurroundings {
  readonly clock: Clock;
  /** Memory taken (positive) or given back. */
  account(bytes: number): void;
  died(message: Message, queue: Queue, reason: DeathReason): void;
  /** It has been unused for its `x-expires`, or its last consumer left and it is auto-delete: remove it. */
  ended(queue: Queue): void;
}

export class Queue {
  readonly declaration: Declaration;
  /** The connection an exclusive queue belongs to. */
  readonly owner: object | undefined;
  #surroundings: QueueSurroundings;
  /** One for each priority; a queue without `x-max-priority` has one. */
  #lanes: ReadyList[];
  #consumers = new Set<Consumer>();
  /** Those that may have credit, the next one first. */
  #turn = new Set<Consumer>();
  /** Stands before the first of `#turn`: starting anew would pass all that have left it since it last grew. */
  #round = this.#turn.values();
  #sequence = 0;
  #unsettled = 0;
  #bytes = 0;
  #waitingBodyBytes = 0;
  #canExpire = false;
  #expiry: { readonly at: number; readonly cancel: () => void } | undefined;
  #idle: (() => void) | undefined;
  #isDeleted = false;

  constructor(declaration: Declaration, owner: object | undefined, surroundings: QueueSurroundings) {
    this.declaration = declaration;
    this.owner = owner;
    this.#surroundings = surroundings;
    const lanes = (declaration.arguments['x-max-priority'] ?? 0) + 1;
    this.#lanes = Array.from({ length: lanes }, () => new ReadyList());
    this.touch();
  }

  get name(): string {
    return this.declaration.name;
  }
  get waiting(): number {
    return this.#lanes.reduce((sum, lane) => sum + lane.length, 0);
  }
  get unsettled(): number {
    return this.#unsettled;
  }
  get consumers(): number {
    return this.#consumers.size;
  }
  /** Of waiting and unsettled messages. */
  get bytes(): number {
    return this.#bytes;
  }
  get isDeleted(): boolean {
    return this.#isDeleted;
  }

  /** The waiting messages in the order of their delivery. */
  messages(): Message[] {
    return this.#lanes.toReversed().flatMap((lane) => lane.values());
  }

  /** Takes the message over: it must be in no other queue. */
  push(message: Message): void {
    const ttlMs = shorter(message.ttlMs, this.declaration.arguments['x-message-ttl'] ?? NEVER);
    message.sequence = this.#sequence++;
    if (ttlMs !== NEVER) {
      message.expiresAt = this.#surroundings.clock.now() + ttlMs;
      this.#canExpire = true;
    }
    this.#weigh(sizeOf(message));
    this.#laneOf(message).push(message);
    this.#waitingBodyBytes += message.body.length;
    this.pump();
  }

  /** Delivered messages go back to where they were. */
  requeue(messages: readonly Message[]): void {
    if (this.#isDeleted) return;
    this.#unsettled -= messages.length;
    const lanes = new Map<ReadyList, Message[]>();
    for (const message of messages) {
      message.redelivered = true;
      this.#waitingBodyBytes += message.body.length;
      const lane = this.#laneOf(message);
      const others = lanes.get(lane);
      if (others === undefined) lanes.set(lane, [message]);
      else others.push(message);
    }
    for (const [lane, returned] of lanes) lane.putBack(returned);
    this.pump();
  }

  /** A delivered message is done with. */
  settled(message: Message): void {
    if (this.#isDeleted) return;
    this.#unsettled--;
    this.#weigh(-sizeOf(message));
  }

  /** A delivered message is to be dead-lettered. */
  rejected(message: Message): void {
    if (this.#isDeleted) return;
    this.#unsettled--;
    this.#died(message, 'rejected');
  }

  addConsumer(consumer: Consumer): void {
    this.#consumers.add(consumer);
    this.#idle?.();
    this.#idle = undefined;
    this.wake(consumer);
  }

  removeConsumer(consumer: Consumer): void {
    if (!this.#consumers.delete(consumer)) return;
    this.#turn.delete(consumer);
    if (this.#consumers.size > 0 || this.#isDeleted) return;
    if (this.declaration.isAutoDelete) this.#surroundings.ended(this);
    else this.touch();
  }

  /** The consumer may have credit again. */
  wake(consumer: Consumer): void {
    if (!this.#consumers.has(consumer)) return;
    this.#turn.add(consumer);
    this.pump();
  }

  /** It was used: its `x-expires` starts anew. */
  touch(): void {
    const expiresMs = this.declaration.arguments['x-expires'];
    if (expiresMs === undefined || this.#consumers.size > 0) return;
    this.#idle?.();
    this.#idle = this.#surroundings.clock.after(expiresMs, () => this.#surroundings.ended(this));
  }

  /** Its messages are gone with it, not dead-lettered (RabbitMQ 3.10.8); its consumers are told. */
  delete(): void {
    this.#isDeleted = true;
    this.#weigh(-this.#bytes);
    this.#lanes = [new ReadyList()];
    this.#expiry?.cancel();
    this.#idle?.();
    this.#turn.clear();
    const consumers = [...this.#consumers];
    this.#consumers.clear();
    for (const consumer of consumers) consumer.cancelled();
  }

  /** Delivers what can be delivered, then drops what is over a limit or out of time. */
  pump(): void {
    const now = this.#canExpire ? this.#surroundings.clock.now() : 0;
    while (this.#turn.size > 0) {
      const lane = this.#firstLane();
      const message = lane?.first();
      if (lane === undefined || message === undefined) break;
      // Strictly: with a TTL of 0 a message may still go straight to a consumer.
      if (message.expiresAt !== NEVER && message.expiresAt < now) {
        this.#died(this.#take(lane), 'expired');
        continue;
      }
      const consumer = this.#nextInTurn();
      this.#turn.delete(consumer);
      if (!consumer.hasCredit) continue;
      this.#turn.add(consumer);
      this.#unsettled++;
      consumer.deliver(this.#take(lane));
    }
    if (this.#canExpire) this.#expire(now);
    this.#trim();
  }

  #nextInTurn(): Consumer {
    let next = this.#round.next();
    if (next.done === true) {
      this.#round = this.#turn.values();
      next = this.#round.next();
    }
    if (next.done === true) throw new Error(`the queue ${this.name} has lost count of its consumers`);
    return next.value;
  }

  /** Only at the head of a lane, as RabbitMQ does: a message that lives longer holds up those behind it. */
  #expire(now: number): void {
    let next = Infinity;
    for (const lane of this.#lanes) {
      for (let head = lane.first(); head !== undefined && head.expiresAt !== NEVER; head = lane.first()) {
        if (head.expiresAt > now) {
          next = Math.min(next, head.expiresAt);
          break;
        }
        this.#died(this.#take(lane), 'expired');
      }
    }
    if (next >= (this.#expiry?.at ?? Infinity)) return;
    this.#expiry?.cancel();
    const cancel = this.#surroundings.clock.after(next - now, () => {
      this.#expiry = undefined;
      this.pump();
    });
    this.#expiry = { at: next, cancel };
  }

  #trim(): void {
    const { 'x-max-length': messages, 'x-max-length-bytes': bytes } = this.declaration.arguments;
    if (messages === undefined && bytes === undefined) return;
    while (this.waiting > (messages ?? Infinity) || this.#waitingBodyBytes > (bytes ?? Infinity)) {
      const lane = this.#firstLane();
      if (lane === undefined) return;
      this.#died(this.#take(lane), 'maxlen');
    }
  }

  #died(message: Message, reason: DeathReason): void {
    this.#weigh(-sizeOf(message));
    this.#surroundings.died(message, this, reason);
  }

  #take(lane: ReadyList): Message {
    const message = lane.shift();
    if (message === undefined) throw new Error(`the queue ${this.name} has lost count of its messages`);
    this.#waitingBodyBytes -= message.body.length;
    return message;
  }

  #firstLane(): ReadyList | undefined {
    for (let priority = this.#lanes.length - 1; priority >= 0; priority--) {
      const lane = this.#lanes[priority];
      if (lane !== undefined && lane.length > 0) return lane;
    }
    return undefined;
  }

  #laneOf(message: Message): ReadyList {
    const lane = this.#lanes[Math.min(message.priority, this.#lanes.length - 1)];
    if (lane === undefined) throw new Error(`the queue ${this.name} has no lane for ${message.priority}`);
    return lane;
  }

  #weigh(bytes: number): void {
    this.#bytes += bytes;
    this.#surroundings.account(bytes);
  }
}

function shorter(a: number, b: number): number {
  if (a === NEVER) return b;
  return b === NEVER ? a : Math.min(a, b);
}
