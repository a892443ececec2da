/**
 * A consumer inside a program of yours, which says when to stop.
 *
 *     node --import jiti/register examples/consumer.ts
 *     npx publish /queue/orders '{"id":1,"total":9.5}'
 *
 * Settings that are not given come from the environment: STOMP_SERVER_HOST and so on.
 */
import { consume, log, PubsubError, type Payload } from 'stomp-pubsub';
import type { Order } from './orders.js';

const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());

async function onOrder({ body, ack, signal }: Payload<Order>): Promise<void> {
  // Aborted when the message's time is up, and when a stop has waited long enough: fetch and others take it as well.
  signal.throwIfAborted();
  log.info({ order: body.id }, 'order received');
  await ack();
}

try {
  // Resolves when the signal is aborted and the messages in flight are settled.
  const { acked, deadLettered } = await consume<Order>({
    destination: '/queue/orders',
    callback: onOrder,
    concurrency: 10,
    signal: stop.signal,
  });
  console.log(`${acked} orders processed, ${deadLettered} in DLQ.orders`);
} catch (error) {
  // A wrong password, a missing permission: what waiting does not cure. A broker that is away is waited for.
  if (!(error instanceof PubsubError)) throw error;
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = error.exitStatus;
}
