/**
 * A callback that publishes: an invoice for each order.
 *
 *     npx pubsub /queue/orders ./examples/invoices#onOrder
 *     npx publish /queue/orders '{"id":1,"total":9.5}'
 *     npx pubsub peek invoices
 */
import type { Payload } from 'stomp-pubsub';
import type { Order } from './orders.js';

export async function onOrder({ body, publish, ack, nack }: Payload<Order>): Promise<void> {
  // To DLQ.orders: that is where what nobody can bill belongs. The log has a line of it, without a stack.
  if (body.total <= 0) {
    await nack();
    return;
  }
  // Collected; nothing is sent yet. Each carries the correlation id of the order.
  publish('/queue/invoices', { order: body.id, amount: body.total });
  publish('/topic/VirtualTopic.billed', { order: body.id }, { headers: { tenant: '7' } });
  // Sends both, and the order leaves its queue when the broker has confirmed them: none is lost, whatever crashes.
  await ack();
}
