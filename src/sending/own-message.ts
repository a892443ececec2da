/**
 * What ActiveMQ does with a message that is refused, found out with one of our own, in a queue of its own. It is a policy of
 * the broker (`deadLetterStrategy`), which no STOMP client can ask for. Selectors keep those who ask at once apart.
 */
import { randomUUID } from 'node:crypto';
import { sharedDeadLetterQueue } from '../brokers/activemq.js';
import { CHECK_QUEUE } from '../brokers/limits.js';
import type { Logger } from '../log.js';
import type { Frame } from '../stomp/frames.js';
import { openBeside } from '../stomp/open.js';
import { endError } from '../stomp/session-end.js';
import type { Session } from './connect.js';

const MARK = 'stompPubsubCheck';
const LIMIT_MS = 10_000;
/** It removes what we could not. */
const LIFETIME_MS = 60_000;

/**
 * The queue that a refused message goes to: `DLQ.` and the name of its own, or the one of all; undefined when it comes to
 * neither. Rejects with `broker-refused` when we may not do this, and as openBeside does.
 */
export async function refusedMessageGoesTo(
  beside: Session,
  log: Logger,
  signal: AbortSignal,
): Promise<string | undefined> {
  const session = await openBeside(beside, log, signal);
  const id = randomUUID();
  const take = (queue: string, receive: (message: Frame) => void) =>
    session.subscribe(
      { destination: `/queue/${queue}`, selector: `${MARK} = '${id}'`, 'activemq.prefetchSize': '1' },
      '',
      receive,
    );
  let timer: NodeJS.Timeout | undefined;
  try {
    const found = new Promise<string | undefined>((resolve, reject) => {
      timer = setTimeout(() => resolve(undefined), LIMIT_MS);
      void session.closed.then((end) => reject(endError(end, 'the dead-letter strategy cannot be told')));
      const arrive = (queue: string) => (message: Frame) => {
        session
          .request('ACK', { id: message.headers.ack ?? '' })
          .then(() => resolve(queue))
          .catch(reject);
      };
      const refuse = ({ headers }: Frame) => {
        session.request('NACK', { id: headers.ack ?? '' }).catch(reject);
      };
      const begin = async () => {
        for (const queue of [`DLQ.${CHECK_QUEUE}`, sharedDeadLetterQueue]) await take(queue, arrive(queue));
        await take(CHECK_QUEUE, refuse);
        const headers = { persistent: 'true', expires: String(Date.now() + LIFETIME_MS), [MARK]: id };
        await session.request('SEND', { destination: `/queue/${CHECK_QUEUE}`, ...headers });
      };
      begin().catch(reject);
    });
    return await found;
  } finally {
    clearTimeout(timer);
    await session.close();
  }
}
