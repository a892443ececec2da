/**
 * Sends copies of messages as they are, byte for byte, each confirmed, over a connection of its own: on RabbitMQ a
 * memory alarm stops the ACKs of a connection that has published. Hides the names of queues: on RabbitMQ one is declared
 * as consumers and publishers do; where it exists with other arguments it is addressed as it is; and it is never a queue
 * that is not there, whose messages would be confirmed and lost, unless it was deleted in the last seconds.
 */
import type { Dialect } from '../brokers/dialect.js';
import { deadLetterQueueOf, queueNameOf } from '../brokers/destinations.js';
import { deadLetterArguments, existingQueue, existingQueueOf, queueArguments } from '../brokers/queues.js';
import { rejected } from '../errors.js';
import type { Logger } from '../log.js';
import type { Settings } from '../settings.js';
import { encodeHeaders, type Frame, type Headers } from '../stomp/frames.js';
import { connectOnce, type Session } from './connect.js';
import { copyLines, type CopyOptions } from './copies.js';
import { declareQueues } from './declare.js';
import { requireQueue } from './existing.js';
import { linesFor, type Outgoing } from './heads.js';
import { Link } from './link.js';
import { explained, Losses } from './losses.js';

export interface ForwardOptions extends CopyOptions {
  /** They stay, whatever the message has. */
  readonly headers?: Headers;
}

export interface Forwarder {
  /**
   * Resolves when the broker has confirmed the copy. In the order of the calls. Rejects with `connection-lost` (it may or
   * may not have arrived), `broker-refused` or `broker-unreachable`, and with `message-too-large` when the broker ended the
   * connection for it or for another one that was under way.
   */
  send(destination: string, message: Frame, options?: ForwardOptions): Promise<void>;
  /** Disconnects; never rejects. What is unconfirmed must have been awaited. */
  close(): Promise<void>;
}

/** It connects when first used, and again after its connection was lost. */
export function openForwarder(settings: Settings, log: Logger): Forwarder {
  const link = new Link(() => connectOnce(settings, log));
  const losses = new Losses(log);
  const targets = new Targets((session, destination) => findTarget(session, destination, settings, log));
  /** So many wait for a connection, or for what is asked of it: none overtakes them. */
  let waiting = 0;
  const transmitTo = (
    session: Session,
    target: Target,
    message: Frame,
    options: ForwardOptions,
    onSettled?: () => void,
  ) => transmit(session, copyFor(target, message, options, session.dialect), losses, onSettled);
  return {
    send: (destination, message, options = {}) => {
      const lease = waiting === 0 ? link.tryLease() : undefined;
      const known = lease && targets.known(lease.session, destination);
      if (lease !== undefined && known !== undefined) {
        try {
          return transmitTo(lease.session, known, message, options, () => lease.end());
        } catch (error) {
          lease.end();
          return rejected(error);
        }
      }
      lease?.end();
      let isWaiting = true;
      waiting++;
      const begin = () => {
        if (isWaiting) waiting--;
        isWaiting = false;
      };
      const sent = link.use(async (session) => {
        const target = await targets.find(session, destination);
        begin();
        return transmitTo(session, target, message, options);
      });
      return sent.finally(begin);
    },
    close: () => {
      losses.end();
      return link.close();
    },
  };
}

/** What a destination is, for as long as a connection lasts: what each SEND to it is called by, and has of its own. */
interface Target {
  readonly to: string;
  readonly headers: Readonly<Headers>;
  /** The same, encoded. */
  readonly lines: string;
}

class Targets {
  readonly #look: (session: Session, destination: string) => Promise<Target>;
  readonly #found = new WeakMap<
    Session,
    Map<string, { readonly looking: Promise<Target>; target?: Target }>
  >();

  constructor(look: (session: Session, destination: string) => Promise<Target>) {
    this.#look = look;
  }

  known(session: Session, destination: string): Target | undefined {
    return this.#found.get(session)?.get(destination)?.target;
  }

  find(session: Session, destination: string): Promise<Target> {
    const ofSession =
      this.#found.get(session) ?? new Map<string, { looking: Promise<Target>; target?: Target }>();
    this.#found.set(session, ofSession);
    const earlier = ofSession.get(destination);
    if (earlier !== undefined) return earlier.looking;
    const entry: { looking: Promise<Target>; target?: Target } = {
      looking: this.#look(session, destination),
    };
    ofSession.set(destination, entry);
    entry.looking.then(
      (target) => (entry.target = target),
      // The next message asks again.
      () => ofSession.delete(destination),
    );
    return entry.looking;
  }
}

function copyFor(
  { to, headers: named, lines }: Target,
  message: Frame,
  { headers, ...options }: ForwardOptions,
  { mostHeaders }: Dialect,
): Outgoing {
  const own = headers === undefined ? named : { ...named, ...headers };
  // Of a queue that is used as it is the destination comes last.
  const most = mostHeaders - Object.keys(own).length - ('destination' in named ? 0 : 1);
  const copied = copyLines(message, most, own, options);
  const added = headers === undefined ? '' : encodeHeaders(headers);
  return { destination: to, lines: `SEND\n${lines}${added}${copied}`, body: message.body };
}

/** Resolves when the broker has confirmed it. One that is over a limit of the broker fails all that are under way with it. */
function transmit(
  session: Session,
  message: Outgoing,
  losses: Losses,
  onSettled?: () => void,
): Promise<void> {
  const lines = linesFor(message, session.dialect);
  return new Promise((resolve, reject) => {
    session.sendWithReceipt(lines, message.body, (error) => {
      onSettled?.();
      if (error === undefined) resolve();
      else if (error.code !== 'connection-lost') reject(error);
      else
        void losses
          .causeOf(session, message)
          .then((cause) => reject(cause?.culprit === undefined ? explained(error, cause) : cause.error));
    });
  });
}

/** Resolves when it is certain that a queue is there. */
async function findTarget(
  session: Session,
  destination: string,
  settings: Settings,
  log: Logger,
): Promise<Target> {
  const headers = await headersFor(session, destination, settings, log);
  const to = headers.destination ?? destination;
  const own = { ...headers };
  // Of a queue that is used as it is, linesFor adds it.
  if (existingQueueOf(to) !== undefined) delete own.destination;
  return { to, headers: own, lines: encodeHeaders(own) };
}

/** The headers that a SEND needs to reach it, once it is certain that a queue is there. */
async function headersFor(
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
