/**
 * Refused or too large? A full queue that rejects (`overflow: reject-publish`) and a frame over the broker's limit both end
 * the connection without a word (RabbitMQ 3.10.8, 4.0.5, 4.3.6). BEGIN, SEND, ABORT tells them apart: a full queue is not
 * asked, so that ABORT is answered, and a frame that is too large ends the connection as before.
 */
import { PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import { printable } from '../printable.js';
import { openBeside } from '../stomp/open.js';
import type { Session } from './connect.js';
import { linesFor, sizeOf, type Outgoing } from './heads.js';

/**
 * `unreadable`: every connection that carries the message ends. `refused`: its queue takes nothing for now. `unknown`: no
 * connection could be had, or it ended for another reason.
 */
export type Finding = 'unreadable' | 'refused' | 'unknown';

/** Examines a message at which a connection ended without a word, though it was sent alone. Never rejects. */
export async function examine(open: () => Promise<Session>, message: Outgoing): Promise<Finding> {
  const first = await isAnswered(open, message);
  if (first !== false) return first === true ? 'refused' : 'unknown';
  // A broker that goes away just now ends every connection: one that carries nothing must live, and this one end again.
  if ((await isAnswered(open)) !== true) return 'unknown';
  const second = await isAnswered(open, message);
  if (second === undefined) return 'unknown';
  return second ? 'refused' : 'unreadable';
}

/** The same over short connections to the server of this one. */
export function examineBeside(
  beside: Session,
  message: Outgoing,
  log: Logger,
  signal: AbortSignal,
): Promise<Finding> {
  return examine(() => openBeside(beside, log, signal), message);
}

/** Does a connection survive a transaction with the message in it? Undefined when that cannot be told. */
async function isAnswered(open: () => Promise<Session>, message?: Outgoing): Promise<boolean | undefined> {
  let session: Session;
  try {
    session = await open();
  } catch {
    return undefined;
  }
  try {
    const transaction = session.begin();
    if (message !== undefined)
      session.sendInTransaction(transaction, linesFor(message, session.dialect), message.body);
    await session.abort(transaction);
    void session.close();
    return true;
  } catch {
    return (await session.closed).kind === 'transport' ? false : undefined;
  }
}

/** The error of a message that is over a limit of the broker; `reason` is how its connection ended. */
export function tooLarge(message: Outgoing, reason: string): PubsubError {
  const { bytes, headers } = sizeOf(message);
  const [, correlationId] = /^correlation-id:(.*)$/m.exec(message.lines) ?? [];
  const which = correlationId === undefined ? '' : ` (correlation-id ${printable(correlationId)})`;
  return new PubsubError(
    'message-too-large',
    `a message of ${bytes} bytes and ${headers} headers${which} is over a limit of the broker: ${reason}; RabbitMQ 4 takes ` +
      'frames of 4 MB (stomp.max_frame_size), from 4.3 on 100 headers',
  );
}

/** Why a connection that ended without a word may have done so. */
export const wordless =
  'the queue may be full and reject what comes, or the message over a limit of the broker (4 MB on RabbitMQ 4)';
