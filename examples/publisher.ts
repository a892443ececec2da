/**
 * Publishing from a program of yours: each message confirmed, or several all or none.
 *
 *     node --import jiti/register examples/publisher.ts
 */
import { openPublisher, PubsubError } from 'stomp-pubsub';

// One for the life of a program: it connects when first used, and again when it must.
const publisher = openPublisher();
try {
  // Resolves when the broker has confirmed the message.
  await publisher.send('/queue/orders', { id: 1, total: 9.5 }, { headers: { tenant: '7' } });

  // Together they need no more than one round trip.
  await Promise.all([2, 3, 4].map((id) => publisher.send('/queue/orders', { id, total: 9.5 })));

  // All or none: what the function throws undoes it.
  await publisher.transaction(async (transaction) => {
    await transaction.send('/queue/orders', { id: 5, total: 9.5 });
    await transaction.send('/topic/VirtualTopic.orders', { id: 5 });
  });
  console.log('the broker has confirmed every order');
} catch (error) {
  // not-confirmed: it may or may not have arrived. Nothing is sent twice unless you do it.
  if (!(error instanceof PubsubError)) throw error;
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 1;
} finally {
  await publisher.close();
}
