/**
 * Whether a broker delays messages. ActiveMQ without `schedulerSupport="true"` (5.17) delivers at once what should wait,
 * and says so to nobody: a retry would be a hot loop. So a message is delayed and looked at, in a queue of our own that
 * ends with its connection.
 */
import { PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Headers } from '../stomp/frames.js';
import { openBeside } from '../stomp/open.js';
import type { Session } from './connect.js';
import { endError } from '../stomp/session-end.js';

const QUEUE = '/temp-queue/scheduler';
/** A scheduler looks twice a second. */
const LIMIT_MS = 10_000;

/**
 * Rejects with `broker-refused` when the broker has no scheduler, with `connection-lost` when it does not say, and as
 * openSession does. Over a short connection to the same server.
 */
export async function requireScheduler(beside: Session, log: Logger, signal: AbortSignal): Promise<void> {
  const session = await openBeside(beside, log, signal);
  let timer: NodeJS.Timeout | undefined;
  try {
    const delivered = new Promise<Readonly<Headers>>((resolve, reject) => {
      const delivering = session.subscribe({ destination: QUEUE }, '', ({ headers }) => resolve(headers));
      const sending = delivering.then(() =>
        session.request('SEND', { destination: QUEUE, AMQ_SCHEDULED_DELAY: '1' }),
      );
      sending.catch(reject);
      void session.closed.then((end) => reject(endError(end, 'the scheduler did not answer')));
      timer = setTimeout(() => {
        reject(
          new PubsubError('connection-lost', `the scheduler did not answer within ${LIMIT_MS / 1000} s`),
        );
      }, LIMIT_MS);
    });
    // Its own header is there still when it has not read it.
    if ((await delivered).AMQ_SCHEDULED_DELAY !== undefined) {
      throw new PubsubError(
        'broker-refused',
        'the broker has no scheduler, so that it cannot delay a retry: set schedulerSupport="true" on <broker> in ' +
          'activemq.xml, or STOMP_RETRIES=0',
      );
    }
  } finally {
    clearTimeout(timer);
    await session.close();
  }
}
