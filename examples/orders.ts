/**
 * A callback with something to open and to close: it writes each order into a file.
 *
 *     npx pubsub /queue/orders ./examples/orders#onOrder
 *     npx publish /queue/orders '{"id":1,"total":9.5}'
 *
 * Ctrl-C ends it. An order without an id lies in DLQ.orders afterwards.
 */
import { open, type FileHandle } from 'node:fs/promises';
import type { Payload } from 'stomp-pubsub';

/** What is sent to /queue/orders; until it is checked anything may be missing. */
export interface Order {
  readonly id: number;
  readonly total: number;
}

let file: FileHandle;

/** Awaited before the first message. When it throws, the consumer does not start. */
export async function setup(): Promise<void> {
  file = await open(process.env.ORDERS_FILE ?? 'orders.ndjson', 'a');
}

/** Awaited after the last message has been settled. */
export async function teardown(): Promise<void> {
  await file.close();
}

export async function onOrder({ body, ack }: Payload<Partial<Order>>): Promise<void> {
  // What is thrown goes to the log, and the message to DLQ.orders.
  if (body.id === undefined) throw new Error('an order without an id');
  // After a lost connection an order may come twice: its id is written too, so that a reader can tell.
  await file.appendFile(`${JSON.stringify({ id: body.id, total: body.total ?? 0 })}\n`);
  // Last of all: until then the broker keeps the message.
  await ack();
}
