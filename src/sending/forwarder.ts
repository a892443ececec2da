/**
 * Sends copies of messages as they are, byte for byte, each confirmed, over a connection of its own: on RabbitMQ a
 * memory alarm stops the ACKs of a connection that has published. Hides the names of queues: on RabbitMQ one is declared
 * as consumers and publishers do; where it exists with other arguments it is addressed as it is; and it is never a queue
 * that is not there, whose messages would be confirmed and lost, unless it was deleted in the last seconds.
 */
import type { Logger } from '../log.js';
import type { Settings } from '../settings.js';
import { connectOnce } from './connect.js';
import { copyHeaders, type CopyOptions } from './copies.js';
import { ensureQueue } from './declare.js';
import { deadLetterQueueOf, queueNameOf } from '../brokers/destinations.js';
import { deadLetterArguments, existingQueue, queueArguments } from '../brokers/queues.js';
import type { Frame, Headers } from '../stomp/frames.js';
import type { Session } from './connect.js';
import { FRESH_MS } from './link.js';

export interface Forwarder {
  /**
   * Resolves when the broker has confirmed the copy. In the order of the calls. Rejects with `connection-lost` (it may or
   * may not have arrived), `broker-refused` or `broker-unreachable`.
   */
  send(destination: string, message: Frame, options?: CopyOptions & { headers?: Headers }): Promise<void>;
  /** Disconnects; never rejects. What is unconfirmed must have been awaited. */
  close(): Promise<void>;
}

/** It connects when first used, and again after its connection was lost. */
export function openForwarder(settings: Settings, log: Logger): Forwarder {
  let opened: Promise<Session> | undefined;
  /** What a destination is on the current connection: headers for each SEND to it. */
  const targets = new Map<string, { readonly headers: Promise<Headers>; readonly sinceMs: number }>();
  const forget = () => {
    opened = undefined;
    targets.clear();
  };
  const open = (): Promise<Session> => {
    if (opened === undefined) {
      opened = connectOnce(settings, log);
      opened.then((session) => session.closed).then(forget, forget);
    }
    return opened;
  };
  const targetOf = (session: Session, destination: string): Promise<Headers> => {
    const known = targets.get(destination);
    if (known !== undefined && performance.now() - known.sinceMs < FRESH_MS) return known.headers;
    const headers = findTarget(session, destination, settings, log);
    targets.set(destination, { headers, sinceMs: performance.now() });
    // The next message asks again.
    headers.catch(() => targets.delete(destination));
    return headers;
  };
  return {
    send: async (destination, message, { headers, ...options } = {}) => {
      const session = await open();
      const target = await targetOf(session, destination);
      await session.request(
        'SEND',
        { ...copyHeaders(message, options), ...headers, ...target },
        message.body,
      );
    },
    close: async () => {
      const session = await opened?.catch(() => undefined);
      await session?.close();
    },
  };
}

/** The headers that a SEND needs to reach it, once it is certain that a queue is there. */
async function findTarget(
  session: Session,
  destination: string,
  { queueType }: Settings,
  log: Logger,
): Promise<Headers> {
  const queue = queueNameOf(destination);
  const deadLetterQueue = deadLetterQueueOf(destination);
  if (queue === undefined) return { destination, ...deadLetterArguments(deadLetterQueue) };
  const headers = queueArguments(deadLetterQueue, queueType);
  const declared = `/queue/${queue}`;
  if (!session.dialect.comparesArguments) return { destination: declared, ...headers };
  const isDeclared = (await ensureQueue(session, { destination: declared, headers }, log)) === 'declared';
  if (isDeclared) return { destination: declared, ...headers };
  log.info({ queue }, 'the queue exists with other arguments: it is used as it is');
  return { destination: existingQueue(queue), ...deadLetterArguments(deadLetterQueue) };
}
