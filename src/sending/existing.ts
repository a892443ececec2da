/**
 * Queues that others declared, used as they are: by a name that declares nothing, and by which a SEND to a queue that is
 * not there is confirmed and dropped (RabbitMQ). So such a queue is looked for first, by a subscription that is handed
 * nothing, over a connection that is closed at once: also of a stream, and of a quorum queue near its delivery limit
 * (3.10.8). It is looked for again before the first message over each connection, so that no look is older than FRESH_MS.
 */
import { existingQueue, existingQueueOf } from '../brokers/queues.js';
import { PubsubError, reasonOf } from '../errors.js';
import type { Logger } from '../log.js';
import { openBeside } from '../stomp/open.js';
import type { Session } from './connect.js';

/**
 * Resolves when there is a queue of that name, on the server of this session, and on brokers that make a queue when it is
 * first used. Rejects with `broker-refused` when there is none, or the user may not read it, so that nobody can tell, and
 * with `broker-unreachable` or `connection-lost`. A subscription needs the permission to read; a queue that is deleted with
 * its last consumer (auto-delete) goes by the look if nobody else consumes from it.
 */
export async function requireQueue(
  beside: Session,
  queue: string,
  log: Logger,
  signal?: AbortSignal,
): Promise<void> {
  if (!beside.dialect.comparesArguments) return;
  const session = await openBeside(beside, log, signal);
  try {
    const headers = { destination: existingQueue(queue), 'prefetch-count': '-1' };
    await session.subscribe(headers, '', () => undefined);
  } catch (error) {
    if (!(error instanceof PubsubError)) throw error;
    // One that is another's alone is there, too.
    if (!session.isOpen && (await session.closed).meaning === 'other-queue') return;
    throw new PubsubError(
      error.code,
      `the queue ${queue} must be there and readable, or what is sent to it would be confirmed and lost: ${reasonOf(error)}`,
      { cause: error },
    );
  } finally {
    await session.close();
  }
}

/** The same for a destination of a message; nothing for one that is declared by its SEND. */
export async function requireTarget(
  beside: Session,
  destination: string,
  log: Logger,
  signal?: AbortSignal,
): Promise<void> {
  const queue = existingQueueOf(destination);
  if (queue !== undefined) await requireQueue(beside, queue, log, signal);
}
