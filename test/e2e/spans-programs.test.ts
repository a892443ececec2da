/** Spans of programs: the consumer records that of the attempt, and what the program records itself is below it. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { put } from '../support/messages.js';
import { run } from '../support/process.js';
import { until } from '../support/until.js';
import { anyBroker, skipWithout, stopPubsub, unique } from './commands.js';
import { consumer as consumerKind, tracedProject } from './traced.js';

const SOON_MS = 30_000;
const [traceId, spanId] = ['4'.repeat(32), '7'.repeat(16)];
const traceparent = `00-${traceId}-${spanId}-01`;
const headers = { 'correlation-id': 'c-1', traceparent, tracestate: 'vendor=1', baggage: 'tenant=7' };
/** Of whoever started the consumer, and of no message. */
const stale = { TRACEPARENT: `00-${'1'.repeat(32)}-${'2'.repeat(16)}-01`, TRACESTATE: 'x=1', BAGGAGE: 'y=2' };

/** Has a span of its own, as OpenTelemetry reads a context from variables. */
const instrumented = `#!/usr/bin/env node
import api from '@opentelemetry/api';
const { TRACEPARENT: traceparent, TRACESTATE: tracestate, BAGGAGE: baggage } = process.env;
const parent = api.propagation.extract(api.ROOT_CONTEXT, { traceparent, tracestate, baggage });
const tenant = api.propagation.getBaggage(parent)?.getEntry('tenant')?.value;
api.trace.getTracer('job').startSpan('work', { attributes: { tenant } }, parent).end();
console.log('worked');
`;

const shell = `#!/bin/sh
read -r how
echo "$how" >&2
case "$how" in
  stop) touch "$1/started"; while [ ! -e "$1/gate" ]; do sleep 0.1; done; exit 143 ;;
  kill) kill -KILL $$ ;;
  hang) exec sleep 600 ;;
  tell) env > "$1/env.tmp"; mv "$1/env.tmp" "$1/env" ;;
  *) exit "$how" ;;
esac
`;

describe('spans of programs', skipWithout(anyBroker()), () => {
  const broker = anyBroker()!;

  const project = () => {
    const traced = tracedProject({ 'job.mjs': instrumented, 'job.sh': shell });
    for (const name of ['job.mjs', 'job.sh']) chmodSync(join(traced.folder, name), 0o755);
    return traced;
  };
  const start = async (
    { folder, env }: Pick<ReturnType<typeof project>, 'folder'> & { env: Record<string, string> },
    program: string,
    flags: readonly string[] = [],
  ) => {
    const queue = unique('programs');
    const args = [queue, ...flags, '--', join(folder, program), folder];
    const running = run('pubsub', args, { cwd: folder, env: { ...broker.env, ...stale, ...env } });
    await running.says('subscribed');
    return { queue, running, send: (body: string) => put(broker, `/queue/${queue}`, body, headers) };
  };

  it('what a program records is below the span of its attempt, with the baggage of its message', async () => {
    const traced = project();
    const { running, send, queue } = await start(traced, 'job.mjs');
    await send('1');
    await until(() => traced.spans().length === 2, SOON_MS, 'both spans');
    const [attempt] = traced.named(`process ${queue}`);
    const [work] = traced.named('work');
    assert.ok(attempt !== undefined && work !== undefined);
    assert.deepEqual([attempt.traceId, attempt.parentId, attempt.kind], [traceId, spanId, consumerKind]);
    assert.deepEqual([work.traceId, work.parentId], [traceId, attempt.spanId]);
    assert.deepEqual([work.attributes.tenant, attempt.status.code], ['7', 0]);
    assert.equal(attempt.attributes['messaging.destination.name'], queue);
    // Its end is the end of its log.
    assert.equal((await stopPubsub(running)).acked, 1);
    const line = running.logLines.find(({ msg }) => msg === 'worked');
    assert.deepEqual([line?.traceId, line?.spanId], [traceId, attempt.spanId]);
  });

  const ends: [how: string, flags: readonly string[], type: string, message: RegExp][] = [
    ['3', [], '3', /^job\.sh ended with status 3: 3$/],
    ['65', [], 'nack', /^job\.sh ended with status 65: 65$/],
    ['kill', [], 'SIGKILL', /^job\.sh was ended by SIGKILL: kill$/],
    ['hang', ['--timeout', '0.5'], 'timeout', /^job\.sh was ended at its time limit of 0\.5 s: hang$/],
  ];
  for (const [how, flags, type, message] of ends)
    it(`an attempt that fails has the reason: ${type}`, async () => {
      const traced = project();
      const { running, send } = await start(traced, 'job.sh', flags);
      let sent = 0;
      // A time limit may be over before the program has said a word: then it is another one's turn.
      await until(
        async () => {
          await send(how);
          await running.says('dead-lettered', ++sent);
          await until(() => traced.spans().length === sent, SOON_MS, 'its span');
          return flags.length === 0 || message.test(traced.spans().at(-1)?.status.message ?? '');
        },
        SOON_MS,
        () => JSON.stringify(traced.spans()),
      );
      await stopPubsub(running);
      const spans = traced.spans();
      assert.equal(spans.length, sent);
      for (const { attributes, status } of spans)
        assert.deepEqual([attributes['error.type'], status.code], [type, 2]);
      assert.match(spans.at(-1)?.status.message ?? '', message);
    });

  it('each attempt has its span, and all are exported before the consumer ends', async () => {
    const traced = project();
    const env = { ...traced.env, TRACE_BATCH: '1' };
    const flags = ['--retries', '1', '--retry-delay', '300ms'];
    const { running, send } = await start({ ...traced, env }, 'job.sh', flags);
    await send('3');
    await running.says('dead-lettered');
    assert.equal(traced.spans().length, 0);
    await stopPubsub(running);
    assert.deepEqual(
      traced.spans().map(({ parentId, attributes }) => [parentId, attributes['error.type']]),
      [
        [spanId, '3'],
        [spanId, '3'],
      ],
    );
  });

  it('that of an attempt that a stop took back says so', async () => {
    const traced = project();
    const { running, send } = await start(traced, 'job.sh');
    await send('stop');
    await until(() => existsSync(join(traced.folder, 'started')), SOON_MS, 'the program');
    running.signal('SIGTERM');
    await running.says('waiting for callbacks');
    writeFileSync(join(traced.folder, 'gate'), '');
    assert.equal((await stopPubsub(running)).released, 1);
    const [span] = traced.spans();
    assert.equal(span?.attributes['error.type'], 'stopped');
  });

  for (const isTraced of [true, false])
    it(`a message of no trace has none of the consumer's own ${isTraced ? 'beside its span' : 'where nothing records'}`, async () => {
      const traced = project();
      const env = isTraced ? traced.env : {};
      const { running, queue } = await start({ ...traced, env }, 'job.sh');
      await put(broker, `/queue/${queue}`, 'tell', { 'correlation-id': 'c-1' });
      const file = join(traced.folder, 'env');
      await until(() => existsSync(file), SOON_MS, 'its environment');
      const told = readFileSync(file, 'utf8').match(/^(?:TRACEPARENT|TRACESTATE|BAGGAGE)=.*$/gm) ?? [];
      await stopPubsub(running);
      const [span] = traced.spans();
      const expected = isTraced ? [`TRACEPARENT=00-${span?.traceId}-${span?.spanId}-01`] : [];
      assert.deepEqual(told, expected);
    });

  it('where nothing records a program gets the context of its message as it came, and so does its log', async () => {
    const traced = project();
    const { running, send } = await start({ ...traced, env: {} }, 'job.sh');
    await send('tell');
    const file = join(traced.folder, 'env');
    await until(() => existsSync(file), SOON_MS, 'its environment');
    const told = readFileSync(file, 'utf8');
    for (const line of [`TRACEPARENT=${traceparent}`, 'TRACESTATE=vendor=1', 'BAGGAGE=tenant=7'])
      assert.ok(told.split('\n').includes(line), line);
    await stopPubsub(running);
    const line = running.logLines.find(({ msg }) => msg === 'tell');
    assert.deepEqual([line?.traceId, line?.spanId, line?.correlationId], [traceId, spanId, 'c-1']);
  });
});
