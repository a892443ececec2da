/** A callback to be tested, in JavaScript: its types are in a comment. */

/** @type {import('stomp-pubsub').Callback<{ id?: number }>} */
export async function onOrder({ body, publish, ack }) {
  if (body.id === undefined) throw new Error('an order without an id');
  publish('/queue/invoices', { order: body.id });
  await ack();
}
