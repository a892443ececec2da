/**
 * One subscription of a connection, as a consumer of its queue. Hides credit: it takes a message when its prefetch is
 * not used up and the peer reads.
 */
import { encodeLines, escape } from '../stomp/frames.js';
import { binary, type Message } from './message.js';
import type { Consumer, Queue } from './queue.js';

export type AckMode = 'auto' | 'client' | 'client-individual';

export interface SubscriptionOptions {
  /** `T_<id>`, or `Q_<destination>` without an id: the first part of its message ids (RabbitMQ 3.10.8). */
  readonly tag: string;
  readonly destination: string;
  readonly ackMode: AckMode;
  /** Unsettled deliveries at most; 0 for any number. Of a negative number RabbitMQ 3.10.8 delivers nothing. */
  readonly prefetch: number;
  /** Kept for whoever writes the messages: the lines that all of them begin with. */
  readonly opening: string;
  /** What their ids begin with, as bytes: the number of the delivery follows. */
  readonly idStart: string;
}

export interface ChannelOutput {
  /** False while the peer does not read what it was sent; `resume` is called when it does again. */
  readonly isWritable: boolean;
  deliver(subscription: Subscription, tag: number, message: Message): void;
  /** The queue of a subscription was deleted; the subscription is gone. */
  cancelled(subscription: Subscription): void;
}

export class Subscription implements Consumer {
  readonly options: SubscriptionOptions;
  readonly queue: Queue;
  unsettled = 0;
  #output: ChannelOutput;
  #take: (subscription: Subscription, message: Message) => void;
  #drop: (subscription: Subscription) => void;

  constructor(
    options: SubscriptionOptions,
    queue: Queue,
    output: ChannelOutput,
    take: (subscription: Subscription, message: Message) => void,
    drop: (subscription: Subscription) => void,
  ) {
    this.options = options;
    this.queue = queue;
    this.#output = output;
    this.#take = take;
    this.#drop = drop;
  }

  get hasCredit(): boolean {
    const { ackMode, prefetch } = this.options;
    return this.#output.isWritable && (ackMode === 'auto' || prefetch === 0 || this.unsettled < prefetch);
  }

  deliver(message: Message): void {
    this.#take(this, message);
  }

  cancelled(): void {
    this.#drop(this);
  }
}

/** What each MESSAGE of a subscription has; without an id there is no `subscription` header. */
export function beginningsOf(
  id: string | undefined,
  tag: string,
  session: string,
): Pick<SubscriptionOptions, 'opening' | 'idStart'> {
  return {
    opening: binary(encodeLines('MESSAGE', { subscription: id })),
    idStart: binary(escape(`${tag}@@${session}@@`)),
  };
}
