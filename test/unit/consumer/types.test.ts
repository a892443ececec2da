/** What the compiler makes of callbacks: this file compiles, or a user's does not. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { z } from 'zod';
import { consume, type Callback, type ConsumeOptions, type Payload } from '../../../src/index.js';
import { consumeOnce } from '../../../src/testing.js';

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
const isOf =
  <A>() =>
  <B>(_value: B, same: Same<A, B>) =>
    assert.equal(same, true);

it('a callback without a parameter has a body that is to be looked at, and one with has its own', () => {
  const onAny: Callback = async ({ body, ack }) => {
    isOf<unknown>()(body, true);
    await ack();
  };
  const onText: Callback<string> = ({ body, ack }) => (body.length > 0 ? ack() : undefined);
  const list: Callback<{ id: number }>[] = [onAny, (payload) => payload.body.id];
  // @ts-expect-error -- it would be called with anything
  const wrong: Callback = onText;
  assert.equal(list.length + Number(wrong === onAny), 2);
});

it('consume gives a function the body that its settings and its schema say', () => {
  const base = { destination: '/queue/x' };
  const schema = z.object({ id: z.coerce.number() });
  const calls = [
    () => consume({ ...base, body: 'text', callback: ({ body }) => body.toUpperCase() }),
    () => consume({ ...base, body: 'bytes', callback: ({ body }) => body.byteLength }),
    () => consume({ ...base, callback: ({ body }) => isOf<unknown>()(body, true) }),
    () => consume({ ...base, callback: ({ body }: Payload<{ id: number }>) => body.id }),
    () => consume({ ...base, schema, callback: ({ body }) => isOf<{ id: number }>()(body, true) }),
    () => consumeOnce(({ body }) => isOf<{ id: number }>()(body, true), { body: {}, schema }),
    (options: ConsumeOptions) => consume(options),
  ];
  assert.equal(calls.length, 7);
});

it('a schema of a function is used by consumeOnce, and refused for a module', async () => {
  const schema = z.object({ id: z.coerce.number() });
  let seen: unknown;
  const callback: Callback<{ id: number }> = ({ body, ack }) => {
    seen = body;
    return ack();
  };
  assert.equal((await consumeOnce(callback, { body: { id: '7' }, schema })).outcome, 'acked');
  assert.deepEqual(seen, { id: 7 });
  const { outcome, reason } = await consumeOnce(callback, { body: { id: 'x' }, schema });
  assert.deepEqual([outcome, reason], ['dead-lettered', 'schema-mismatch']);
  const misused = { destination: '/queue/x', callback: './x#y', schema };
  await assert.rejects(consume(misused), { code: 'invalid-usage', message: /beside its callback/ });
  const none = { destination: '/queue/x', callback, schema: {} as typeof schema };
  await assert.rejects(consume(none), { code: 'callback-schema-invalid' });
});

it('consumeOnce tells what was published as it was sent', async () => {
  const { published } = await consumeOnce(
    (payload) => {
      payload.publish('/queue/a', 'a,b', { contentType: 'text/csv' });
      payload.publish('/queue/b', 'a,b');
      return payload.ack();
    },
    { body: Buffer.from('x'), settings: { body: 'text' } },
  );
  assert.deepEqual(
    published?.map(({ body }) => body),
    ['a,b', 'a,b'],
  );
});
