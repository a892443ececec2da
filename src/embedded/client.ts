/**
 * A logged-in connection, as the commands see it, and the queues it declares. Hides that a connection remembers what it
 * has declared.
 */
import type { Headers } from '../stomp/frames.js';
import { declarationOf } from './arguments.js';
import type { Channel } from './channel.js';
import type { Queue } from './queue.js';
import type { Queues } from './queues.js';
import type { Refusal } from './refusal.js';

export interface Client {
  readonly version: string;
  readonly session: string;
  readonly user: string;
  readonly queues: Queues;
  readonly channel: Channel;
  receipt(id: string): void;
  error(refusal: Refusal): void;
  /** All that was said is sent, then the connection ends. */
  end(): void;
  subscribed(destination: string, queue: string): void;
}

/** Destinations that a connection remembers; what is forgotten is worked out again. */
export const MAX_REMEMBERED = 1000;

/** Arguments are compared on the first use of a name by a connection; a queue that has gone is declared again. */
export function declare(client: Client, name: string, headers: Readonly<Headers>): Queue {
  const { declared } = client.channel;
  const known = declared.get(name);
  if (known?.isDeleted === false) return known;
  const queue = client.queues.declare(declarationOf(name, 'queue', headers), client.channel);
  if (declared.size >= MAX_REMEMBERED) declared.clear();
  declared.set(name, queue);
  return queue;
}
