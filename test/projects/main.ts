// What a project of TypeScript does with the package; it must compile under every kind of module resolution.
import { consume, openPublisher, PubsubError, type Callback, type Payload } from 'stomp-pubsub';
import { consumeOnce, startBroker } from 'stomp-pubsub/testing';

interface Order {
  readonly id: number;
}

export const onAnything: Callback = async ({ body, ack }) => {
  console.log(JSON.stringify(body), typeof body === 'object');
  await ack();
};

export const onOrder: Callback<Order> = async ({ body, publish, ack }) => {
  const id: number = body.id;
  // @ts-expect-error -- an order has no such member: the types are there, and not any
  publish('/queue/invoices', { id, total: body.total });
  await ack();
};

export async function nack(payload: Payload): Promise<void> {
  await payload.nack();
}

export async function main(signal: AbortSignal): Promise<number> {
  const broker = await startBroker();
  const publisher = openPublisher({ host: broker.host, port: broker.port });
  await publisher.send('/queue/orders', { id: 1 }, { signal });
  await publisher.transaction((transaction) => transaction.send('/queue/orders', { id: 2 }), { signal });
  await publisher[Symbol.asyncDispose]();
  const { outcome } = await consumeOnce(onOrder, { body: { id: 1 } });
  try {
    const { acked } = await consume<Order>({ destination: '/queue/orders', callback: onOrder, signal });
    return outcome === 'acked' ? acked : 0;
  } catch (error) {
    return error instanceof PubsubError ? error.exitStatus : 1;
  }
}
