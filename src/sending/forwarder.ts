/**
 * Sends copies of messages as they are, byte for byte, each confirmed, over a connection of its own: on RabbitMQ a
 * memory alarm stops the ACKs of a connection that has published. Hides the names of queues: on RabbitMQ one is declared
 * as consumers and publishers do; where it exists with other arguments it is addressed as it is; and it is never a queue
 * that is not there, whose messages would be confirmed and lost, unless it was deleted in the last seconds.
 */
import { deadLetterQueueOf, queueNameOf } from '../brokers/destinations.js';
import { deadLetterArguments, existingQueue, existingQueueOf, queueArguments } from '../brokers/queues.js';
import type { Logger } from '../log.js';
import type { Settings } from '../settings.js';
import { encodeLines, type Frame, type Headers } from '../stomp/frames.js';
import { connectOnce, type Session } from './connect.js';
import { copyHeaders, type CopyOptions } from './copies.js';
import { declareQueues } from './declare.js';
import { requireQueue } from './existing.js';
import { linesFor, type Outgoing } from './heads.js';
import { Link } from './link.js';
import { explained, Losses } from './losses.js';

export interface Forwarder {
  /**
   * Resolves when the broker has confirmed the copy. In the order of the calls. Rejects with `connection-lost` (it may or
   * may not have arrived), `broker-refused` or `broker-unreachable`, and with `message-too-large` when the broker ended the
   * connection for it or for another one that was under way.
   */
  send(destination: string, message: Frame, options?: CopyOptions & { headers?: Headers }): Promise<void>;
  /** Disconnects; never rejects. What is unconfirmed must have been awaited. */
  close(): Promise<void>;
}

/** It connects when first used, and again after its connection was lost. */
export function openForwarder(settings: Settings, log: Logger): Forwarder {
  const link = new Link(() => connectOnce(settings, log));
  const losses = new Losses(log);
  /** What a destination is, for as long as a connection lasts: headers for each SEND to it. */
  const targets = new WeakMap<Session, Map<string, Promise<Headers>>>();
  const targetOf = (session: Session, destination: string): Promise<Headers> => {
    const known = targets.get(session) ?? new Map<string, Promise<Headers>>();
    targets.set(session, known);
    const target = known.get(destination) ?? findTarget(session, destination, settings, log);
    known.set(destination, target);
    // The next message asks again.
    target.catch(() => known.delete(destination));
    return target;
  };
  return {
    send: (destination, message, { headers, ...options } = {}) =>
      link.use(async (session) => {
        const target = await targetOf(session, destination);
        const most = session.dialect.mostHeaders - Object.keys({ ...headers, ...target }).length;
        const copied = copyHeaders(message, { most, ...options });
        const to = target.destination ?? destination;
        // Of a queue that is used as it is, linesFor adds it.
        const named = existingQueueOf(to) === undefined ? target : { ...target, destination: undefined };
        const lines = encodeLines('SEND', { ...copied, ...headers, ...named });
        await transmit(session, { destination: to, lines, body: message.body }, losses);
      }),
    close: () => {
      losses.end();
      return link.close();
    },
  };
}

/** Resolves when the broker has confirmed it. One that is over a limit of the broker fails all that are under way with it. */
function transmit(session: Session, message: Outgoing, losses: Losses): Promise<void> {
  return new Promise((resolve, reject) => {
    session.sendWithReceipt(linesFor(message, session.dialect), message.body, (error) => {
      if (error === undefined) resolve();
      else if (error.code !== 'connection-lost') reject(error);
      else
        void losses
          .causeOf(session, message)
          .then((cause) => reject(cause?.culprit === undefined ? explained(error, cause) : cause.error));
    });
  });
}

/** The headers that a SEND needs to reach it, once it is certain that a queue is there. */
async function findTarget(
  session: Session,
  destination: string,
  { queueType, declare }: Settings,
  log: Logger,
): Promise<Headers> {
  const queue = queueNameOf(destination);
  const deadLetterQueue = deadLetterQueueOf(destination);
  if (queue !== undefined && (!declare || existingQueueOf(destination) !== undefined)) {
    await requireQueue(session, queue, log);
    return { destination: session.dialect.existing(queue), ...deadLetterArguments(deadLetterQueue) };
  }
  if (queue === undefined) return { destination, ...deadLetterArguments(deadLetterQueue) };
  const headers = queueArguments(deadLetterQueue, queueType);
  const declared = session.dialect.destinationOf(queue);
  if (!session.dialect.comparesArguments) return { destination: declared, ...headers };
  const { other } = await declareQueues(session, [{ destination: declared, headers }], log);
  if (other === undefined) return { destination: declared, ...headers };
  log.info({ queue }, 'the queue exists with other arguments: it is used as it is');
  return { destination: existingQueue(queue), ...deadLetterArguments(deadLetterQueue) };
}
