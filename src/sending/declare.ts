/**
 * Brings queues into being without touching their messages. RabbitMQ declares a queue when a SEND names it, even inside
 * a transaction that is then aborted (3.10.8): BEGIN, SEND, ABORT declares and sends nothing. Subscribing, as
 * django-stomp does, would deliver the queue's messages for a moment and mark them as redelivered.
 */
import { PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import { existsOtherwise } from '../brokers/diagnoses.js';
import { existingQueue, type Declaration } from '../brokers/queues.js';
import { openBeside } from '../stomp/open.js';
import type { Session } from './connect.js';
import { endError } from '../stomp/session-end.js';

/** A broker that takes this long accepts no publishing for now; it has processed the first SEND all the same. */
const DECLARE_TIMEOUT_MS = 5000;

interface DeclareOptions {
  /** Else a broker that does not answer in time, for a memory alarm, is taken at its silence. */
  readonly isCertain?: boolean;
}

/**
 * Declares over a short connection of its own to the same server: a memory alarm stops RabbitMQ from reading a
 * connection that has sent a SEND, and the consumer's ACKs must keep flowing then. Resolves when the queues are there: a
 * dead letter that comes before its queue is lost. Rejects with `broker-refused` (other arguments, no permission),
 * `broker-unreachable` or `connection-lost`.
 */
export async function declareQueues(
  beside: Session,
  declarations: readonly Declaration[],
  log: Logger,
  signal: AbortSignal,
  { isCertain = false }: DeclareOptions = {},
): Promise<void> {
  if (declarations.length === 0) return;
  const queues = declarations.map(({ destination }) => destination);
  const session = await openBeside(beside, log, signal, isCertain ? undefined : DECLARE_TIMEOUT_MS);
  try {
    const transaction = session.begin();
    for (const { destination, headers } of declarations) {
      session.sendWithoutReceipt('SEND', {
        destination,
        ...headers,
        transaction: transaction.id,
        'content-length': '0',
      });
    }
    await session.abort(transaction);
    if (session.dialect.declaresLater) {
      // RabbitMQ 3.10.8 confirms before it has declared. A message to a queue that cannot exist, which it drops, is
      // confirmed only when all before it is done.
      const destination = existingQueue(`declared-${session.id}`);
      await session.request('SEND', { destination, 'content-length': '0' });
    }
    await session.close();
    const end = await session.closed;
    if (end.kind === 'broker') throw endError(end, `cannot declare ${queues.join(', ')}`);
  } catch (error) {
    if (isCertain || session.isOpen || (await session.closed).kind !== 'unconfirmed') throw error;
    log.warn(
      { err: error, queues },
      'the broker did not confirm that the queues exist; going on all the same',
    );
  }
}

const ATTEMPTS = 10;

/**
 * Makes sure that there is such a queue: `declared` with these arguments, now or before, or with `other` ones. Rejects as
 * declareQueues does, and when the broker does not say.
 */
export async function ensureQueue(
  beside: Session,
  declaration: Declaration,
  log: Logger,
): Promise<'declared' | 'other'> {
  const never = new AbortController().signal;
  for (let attempt = 1; ; attempt++) {
    try {
      await declareQueues(beside, [declaration], log, never, { isCertain: true });
      return 'declared';
    } catch (error) {
      if (!(error instanceof PubsubError)) throw error;
      if (existsOtherwise(error.message)) return 'other';
      // So RabbitMQ 3.10.8 answers while its channel is dying of the refusal, which it then keeps to itself.
      if (attempt === ATTEMPTS || !error.message.includes('Processing error')) throw error;
    }
  }
}
