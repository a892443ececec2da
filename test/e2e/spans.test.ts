/** Spans by OpenTelemetry: one trace over all that is done with a message and because of it, in whatever process. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { brokerUnderTest, type BrokerUnderTest } from '../support/brokers.js';
import { put, drainQueue } from '../support/messages.js';
import { packageRoot, run, type Running } from '../support/process.js';
import { until } from '../support/until.js';
import { anyBroker, printed, published, skipWithout, startPubsub, stopPubsub, unique } from './commands.js';
import { consumer, ownApi, producer, tracedProject } from './traced.js';

const SOON_MS = 30_000;
const ofProjects = (name: string) => join(packageRoot, 'test/projects/node_modules', name);
const apis = [
  ['1.4', ofProjects('otel-api-1-4')],
  ['1.9', ownApi],
  ['the newest', ofProjects('otel-api-newest')],
] as const;

const orders = `
export async function onOrder(payload) {
  console.log('at it');
  if (payload.headers['x-attempt'] === undefined && process.env.IS_REDRIVEN === undefined) throw new RangeError('no stock');
  if (process.env.IS_REDRIVEN === undefined) return payload.nack();
  payload.publish('/queue/' + payload.body.next, {});
  await payload.ack();
}
export const onInvoice = (payload) => payload.ack();
export const leave = () => process.exit(3);
export const forward = async (payload) => {
  payload.publish('/queue/' + payload.headers.next, {});
  console.log('settled', await payload.ack());
};
export const throwSlyly = () => {
  throw Object.defineProperty(new Error('sly'), 'name', { get() { throw new Error('nasty'); } });
};
export const discard = (payload) => {
  payload.publish('/queue/nowhere', {});
  return payload.nack();
};
`;

/** Publish, two attempts, a dead letter, a redrive, a forward and its consumer: each in a process of its own. */
async function oneTrace(at: BrokerUnderTest, flags: readonly string[], api: string): Promise<void> {
  const { env, spans, named, options, callback } = tracedProject({ 'callbacks.mjs': orders }, api);
  const [queue, next] = [unique('spans'), unique('next')];
  const retried = [...flags, '--retries', '1', '--retry-delay', '300ms'];
  const first = await startPubsub(at, queue, callback('onOrder'), { ...options, flags: retried });
  await published(at, [`/queue/${queue}`, JSON.stringify({ next })], options);
  await first.says('dead-lettered');
  await stopPubsub(first);
  const redriving = run('pubsub', ['redrive', queue, '--count', '1'], {
    ...options,
    env: { ...env, ...at.env },
  });
  assert.equal((await redriving.exit()).code, 0, redriving.stderr);
  const again = { ...options, env: { ...env, IS_REDRIVEN: '1' }, flags };
  const [second, third] = await Promise.all([
    startPubsub(at, queue, callback('onOrder'), again),
    startPubsub(at, next, callback('onInvoice'), { ...options, flags }),
  ]);
  await until(() => named(`process ${next}`).length === 1, SOON_MS, 'the span of the forward');
  await Promise.all([stopPubsub(second), stopPubsub(third)]);

  const [sent] = named(`send /queue/${queue}`);
  const attempts = named(`process ${queue}`);
  const [forward] = named(`send /queue/${next}`);
  const [invoice] = named(`process ${next}`);
  assert.ok(sent !== undefined && forward !== undefined && invoice !== undefined);
  assert.deepEqual(
    attempts.map(({ attributes }) => attributes['error.type']),
    ['RangeError', 'nack', undefined],
  );
  for (const attempt of attempts) assert.deepEqual([attempt.parentId, attempt.kind], [sent.spanId, consumer]);
  assert.deepEqual([sent.parentId, sent.kind], [undefined, producer]);
  assert.deepEqual([forward.parentId, invoice.parentId], [attempts[2]!.spanId, forward.spanId]);
  assert.equal(new Set(spans().map(({ traceId }) => traceId)).size, 1);
  assert.equal(spans().length, 6);
  const line = second.logLines.find(({ msg }) => msg === 'at it');
  assert.deepEqual([line?.traceId, line?.spanId], [sent.traceId, attempts[2]!.spanId]);
  const { attributes } = attempts[2]!;
  assert.equal(attributes['messaging.destination.name'], queue);
  assert.equal(attributes['messaging.operation.name'], 'process');
  assert.ok(typeof attributes['messaging.message.id'] === 'string');
  assert.equal(attributes['messaging.message.conversation_id'], line?.correlationId);
}

for (const name of ['rabbitmq', 'activemq', 'embedded'] as const) {
  const at = brokerUnderTest(name);
  describe(`one trace on ${name}`, { ...skipWithout(at), concurrency: 2 }, () => {
    for (const [version, api] of apis)
      for (const flags of [[], ['--inline']]) {
        const skip = existsSync(api) ? {} : { skip: 'npm ci --prefix test/projects installs what it needs' };
        it(`has all that is done with a message, API ${version}, ${flags[0] ?? 'in workers'}`, skip, () =>
          oneTrace(at!, flags, api),
        );
      }
  });
}

describe('spans', skipWithout(anyBroker()), () => {
  const broker = anyBroker()!;

  const consumed = async (name: string, flags: readonly string[], extra: Record<string, string> = {}) => {
    const project = tracedProject({ 'callbacks.mjs': orders });
    const queue = unique('spans');
    const env = { ...project.env, ...extra };
    const running: Running = await startPubsub(broker, queue, project.callback(name), {
      ...{ env, cwd: project.folder, flags },
    });
    const traceparent = `00-${'4'.repeat(32)}-${'7'.repeat(16)}-01`;
    const headers = { 'correlation-id': 'c-1', traceparent, baggage: 'tenant=7' };
    return { ...project, running, queue, headers, put: () => put(broker, `/queue/${queue}`, {}, headers) };
  };

  it('of an attempt that ends its worker the next one tells, with the reason', async () => {
    const { running, spans, put: send, queue } = await consumed('leave', []);
    await send();
    await until(() => spans().length === 1, SOON_MS, 'the span of the attempt');
    const [span] = spans();
    assert.equal(span?.name, `process ${queue}`);
    assert.deepEqual([span.traceId, span.parentId], ['4'.repeat(32), '7'.repeat(16)]);
    assert.equal(span.attributes['error.type'], 'callback-exited');
    assert.ok(span.durationMs >= 0 && span.durationMs < 60_000, String(span.durationMs));
    await stopPubsub(running);
  });

  for (const flags of [[], ['--inline']])
    it(`what is recorded is exported before a stop ends ${flags[0] ?? 'the workers'}`, async () => {
      const {
        running,
        spans,
        put: send,
      } = await consumed('onInvoice', flags, {
        ...{ TRACE_BATCH: '1', STOMP_LOG_LEVEL: 'debug' },
      });
      await send();
      await running.says('settled');
      assert.equal(spans().length, 0);
      await stopPubsub(running);
      assert.equal(spans().length, 1);
    });

  it('with STOMP_TRACE_PARENT=link a span begins a trace, and has a link to what sent its message', async () => {
    const { running, spans, put: send } = await consumed('onInvoice', [], { STOMP_TRACE_PARENT: 'link' });
    await send();
    await until(() => spans().length === 1, SOON_MS, 'the span');
    const [span] = spans();
    assert.notEqual(span?.traceId, '4'.repeat(32));
    assert.deepEqual([span?.parentId, span?.links], [undefined, ['7'.repeat(16)]]);
    await stopPubsub(running);
  });

  it('the dead letter keeps what its message came with, baggage too, and what is not sent has no span', async () => {
    const { running, spans, put: send, queue, headers } = await consumed('discard', []);
    await send();
    await running.says('dead-lettered');
    await stopPubsub(running);
    const [dead] = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
    assert.deepEqual([dead?.headers.traceparent, dead?.headers.baggage], [headers.traceparent, 'tenant=7']);
    assert.deepEqual(
      spans().map(({ name }) => name),
      [`process ${queue}`],
    );
  });

  for (const flags of [[], ['--inline']])
    for (const at of ['start', 'end', 'flush'])
      it(`what records may throw at the ${at} of a span: messages go their way ${flags[0] ?? 'in workers'}`, async () => {
        const settings = { TRACE_BROKEN: at, STOMP_LOG_LEVEL: 'debug' };
        const { running, env, folder, queue, headers } = await consumed('forward', flags, settings);
        const next = unique('next');
        const sent = [`/queue/${queue}`, '{}', '--header', `next=${next}`];
        for (let n = 0; n < 3; n++)
          await published(broker, sent, { env: { ...env, ...settings }, cwd: folder });
        await put(broker, `/queue/${queue}`, {}, { ...headers, next });
        await running.says('settled', 4);
        await until(
          () => printed(running).length === 4,
          SOON_MS,
          () => running.stderr,
        );
        assert.deepEqual(printed(running), Array<string>(4).fill('settled sent'));
        const { acked, deadLettered } = await stopPubsub(running);
        assert.deepEqual([acked, deadLettered], [4, 0]);
        assert.match(running.stderr, at === 'flush' ? /no collector/ : /spans are missing/);
        assert.equal((await drainQueue(broker, next, { atLeast: 4 })).length, 4);
      });

  for (const flags of [[], ['--inline']])
    it(`what was thrown and cannot be looked at is dead-lettered once ${flags[0] ?? 'in workers'}`, async () => {
      const { running, put: send } = await consumed('throwSlyly', flags);
      await send();
      const { reason } = await running.says('dead-lettered');
      assert.equal(reason, 'callback-failed');
      const { received, deadLettered } = await stopPubsub(running);
      assert.deepEqual([received, deadLettered], [1, 1]);
    });

  it('an API that is broken is an API that is not there', async () => {
    const project = tracedProject({ 'callbacks.mjs': orders });
    const api = join(project.folder, 'node_modules/@opentelemetry/api');
    rmSync(api);
    mkdirSync(api);
    writeFileSync(join(api, 'package.json'), '{"name":"@opentelemetry/api","main":"index.js"}');
    writeFileSync(join(api, 'index.js'), 'module.exports = {};');
    const queue = unique('spans');
    const running = await startPubsub(broker, queue, project.callback('onInvoice'), {
      ...{ env: project.env, cwd: project.folder },
    });
    await put(broker, `/queue/${queue}`, {}, { 'correlation-id': 'c-1' });
    await until(
      () => running.stderr.includes('spans are missing'),
      SOON_MS,
      () => running.stderr,
    );
    assert.deepEqual([(await stopPubsub(running)).acked], [1]);
  });

  it('an exporter that never answers holds a stop up for 5 s at most', async () => {
    const { running } = await consumed('onInvoice', [], { TRACE_STUCK: '1' });
    await stopPubsub(running);
    assert.match(running.stderr, /spans may be lost/);
  });
});
