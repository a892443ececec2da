/**
 * How un-acked messages of several subscriptions get back to their places, on a broker that does not put them there when
 * the connection ends.
 */
import type { Frame } from '../stomp/frames.js';
import type { Session } from './connect.js';

/** How long the messages of the last subscription may take to come again. */
const GIVE_BACK_MS = 5000;

/**
 * Ends several subscriptions, given with how many un-acked messages each has, so that these lie in the queue in their
 * order; resolves when they do. ActiveMQ 5.17 puts what an
 * ended one gives back behind what others gave back before it, in front of the rest, and hands it at once to a subscription
 * that has room. Only the last has: it goes first, and what it held is taken once more and given back at the end.
 */
export async function giveBack(
  session: Session,
  queue: string,
  subscriptions: ReadonlyMap<string, number>,
): Promise<void> {
  const ids = [...subscriptions.keys()];
  const last = ids.pop() ?? '';
  for (const id of [last, ...ids]) await session.request('UNSUBSCRIBE', { id });
  const count = subscriptions.get(last) ?? 0;
  if (count === 0) return;
  let again = 0;
  let id = '';
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(resolve, GIVE_BACK_MS);
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    void session.closed.then(done);
    const receive = ({ headers }: Frame) => {
      id = headers.subscription ?? '';
      if (++again === count) done();
    };
    session.subscribe(session.dialect.takeHeaders(queue, count, false), '', receive).catch(reject);
  });
  await session.request('UNSUBSCRIBE', { id });
}
