/** The callbacks of the README: what a message's callback may do. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Payload } from 'stomp-pubsub';

/** Tells the broker that the message is done. */
export async function ack(payload: Payload): Promise<void> {
  console.log('received', payload.body);
  await payload.ack();
}

/** Puts the message into the dead-letter queue. */
export async function nack(payload: Payload): Promise<void> {
  console.log('refusing', payload.body);
  await payload.nack();
}

/** Throws: that dead-letters the message too. */
export function fail(payload: Payload): void {
  throw new Error(`cannot process ${JSON.stringify(payload.body)}`);
}

/** Takes a while; gives up when the consumer is stopped and has waited long enough. */
export async function slow(payload: Payload): Promise<void> {
  await delay(1000, undefined, { signal: payload.signal });
  await payload.ack();
}
