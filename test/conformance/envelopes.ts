/** What a dead letter says of its death, for each reason, and what `redrive` makes of it: the message as it was sent. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { it, type TestContext } from 'node:test';
import type { Payload } from '../../src/index.js';
import type { Frame } from '../../src/stomp/frames.js';
import { needs, type BrokerUnderTest } from '../support/brokers.js';
import { publisherTo, startConsuming, uniqueName } from '../support/consuming.js';
import { reaches, handOverSteps } from '../support/hand-over.js';
import { drainQueue, firstIn, put } from '../support/messages.js';
import { packageRoot, run } from '../support/process.js';
import { startProxy } from '../support/proxy.js';
import type { RawHeaders } from '../support/raw-client.js';

/** What the sender gave it; the last ones are what 0.1 and an earlier death left behind. */
const sent: RawHeaders = { 'correlation-id': 'c-1', tenant: 'a:b\\', 'content-type': 'text/x-odd' };
const left: RawHeaders = { 'x-attempt': '2', 'x-last-error': 'Error: old', 'x-failure-reason': 'old' };

interface Case {
  readonly name: string;
  readonly reason: string;
  readonly body?: string | Uint8Array;
  readonly headers?: RawHeaders;
  readonly callback: ((payload: Payload) => unknown) | string;
  readonly options?: Parameters<typeof startConsuming>[4];
  readonly error?: string;
  readonly message?: RegExp;
}

const inWorkers = join(packageRoot, 'test/fixtures/callbacks/workers.mjs#act');
const nack = (payload: Payload) => payload.nack();

const casesOf = ({ refusedDestination }: BrokerUnderTest): Case[] => [
  { name: 'nack()', reason: 'nack', callback: nack },
  {
    name: 'a throw',
    reason: 'callback-failed',
    callback: function charge() {
      throw new RangeError('not\nin \u0007range\u202e ß');
    },
    error: 'RangeError',
    message: /^not in range ß$/,
  },
  {
    name: 'a throw of text',
    reason: 'callback-failed',
    callback: () => {
      // eslint-disable-next-line @typescript-eslint/only-throw-error -- callbacks do such things
      throw 'x'.repeat(5000);
    },
    message: /^x{1000}$/,
  },
  {
    name: 'a return without ack() or nack()',
    reason: 'unsettled',
    callback: () => 'forgotten',
    message: /returned without/,
  },
  {
    name: 'a body that is no JSON',
    reason: 'malformed-body',
    body: Buffer.from('{"a":\0\r\n'),
    callback: nack,
    message: /JSON/,
  },
  {
    name: 'no correlation id',
    reason: 'missing-correlation-id',
    headers: { 'correlation-id': undefined },
    callback: nack,
    message: /no correlation-id/,
  },
  {
    name: 'what it publishes is refused',
    reason: 'forward-refused',
    callback: (payload) => {
      payload.publish(refusedDestination, 1);
      return payload.ack();
    },
    message: /the broker says/,
  },
  {
    name: 'a time limit',
    reason: 'timeout',
    callback: () => new Promise(() => undefined),
    options: { timeoutSeconds: 0.1 },
    message: /time limit of 0\.1 s/,
  },
  {
    name: 'an exit',
    reason: 'callback-exited',
    body: '"exits"',
    callback: inWorkers,
    message: /process\.exit\(7\)/,
  },
  {
    name: 'an error nobody catches',
    reason: 'callback-crashed',
    body: '"throws from a timer"',
    callback: inWorkers,
    error: 'TypeError',
    message: /^from a timer$/,
  },
  {
    name: 'a heap that is exhausted',
    reason: 'out-of-memory',
    body: '"exhausts its heap"',
    callback: inWorkers,
    options: { workerHeapMb: 48 },
    message: /memory|heap/i,
  },
];

/** Puts a message into the queue and lets it die there; resolves with its dead letter, which stays where it is. */
async function letDie(
  t: TestContext,
  broker: BrokerUnderTest,
  queue: string,
  { body = '{"n": 1.0}', headers, callback, options, reason }: Case,
): Promise<Frame> {
  const consuming = await startConsuming(t, broker, `/queue/${queue}`, callback, options);
  await put(broker, `/queue/${queue}`, body, { ...sent, ...left, ...headers });
  assert.equal((await consuming.settled('dead-lettered')).reason, reason);
  assert.equal((await consuming.stop()).deadLettered, 1);
  const dead = await firstIn(broker, `DLQ.${queue}`);
  assert.deepEqual(dead.body, Buffer.from(body));
  return dead;
}

/** Of a dead letter, by what follows `x-failure-`. */
function failureOf({ headers }: Frame): Record<string, string> {
  const ours = Object.entries(headers).filter(([name]) => name.startsWith('x-failure-'));
  return Object.fromEntries(ours.map(([name, value]) => [name.slice('x-failure-'.length), value]));
}

/** Ends when it has sent one message back, or has left one where it is. */
async function redrive(broker: BrokerUnderTest, queue: string) {
  const running = run('pubsub', ['redrive', queue, '--count', '1', '--idle', '60'], { env: broker.env });
  const stop = () => running.signal('SIGTERM');
  running.says('message left').then(stop, () => undefined);
  assert.deepEqual(await running.exit(), { code: 0, signal: null }, running.stderr);
  return JSON.parse(running.stdout) as Record<string, unknown>;
}

/** It is in its queue again, as it was sent, and nothing tells of its death. */
async function assertRedriven(
  broker: BrokerUnderTest,
  queue: string,
  { body = '{"n": 1.0}', headers }: Partial<Case> = {},
): Promise<void> {
  const result = await redrive(broker, queue);
  assert.deepEqual([result.redriven, result.to], [1, { [queue]: 1 }]);
  const [back, ...more] = await drainQueue(broker, queue, { atLeast: 1 });
  assert.equal(more.length, 0);
  assert.deepEqual(back!.body, Buffer.from(body));
  for (const [name, value] of Object.entries({ ...sent, ...headers }))
    assert.equal(back!.headers[name], value, name);
  const death = /^(?:x-failure-.*|x-last-error|x-attempt|x-(?:first|last)-death-.*|original-destination)$/;
  assert.deepEqual(
    Object.keys(back!.headers).filter((name) => death.test(name)),
    [],
  );
  assert.deepEqual(await drainQueue(broker, `DLQ.${queue}`), []);
}

export function envelopeBehaviours(broker: BrokerUnderTest): void {
  for (const given of casesOf(broker)) {
    it(`${given.name}: its dead letter tells all of it, and goes back as it was`, async (t) => {
      const queue = uniqueName(t);
      const sinceMs = Date.now();
      const dead = await letDie(t, broker, queue, given);
      for (const [name, value] of Object.entries({ ...sent, ...given.headers }))
        assert.equal(dead.headers[name], value, name);
      assert.equal(dead.headers['original-destination'], `/queue/${queue}`);
      assert.equal(dead.headers['x-last-error'], undefined);
      const { at = '', message = '', error, ...rest } = failureOf(dead);
      assert.match(at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      assert.ok(Date.parse(at) >= sinceMs && Date.parse(at) <= Date.now(), at);
      assert.match(message, given.message ?? /^$/);
      assert.equal(error, given.error);
      const { callback } = given;
      const name = typeof callback === 'string' ? callback : callback.name;
      assert.deepEqual(rest, {
        reason: given.reason,
        attempts: '2',
        ...(name === '' ? {} : { callback: name }),
      });
      await assertRedriven(broker, queue, given);
    });
  }

  it('a message too large to be read goes back whole, too', needs(broker, 'nackKeeps'), async (t) => {
    const queue = uniqueName(t);
    const body = `"${'x'.repeat(5000)}"`;
    const options = { maxMessageBytes: 4096 };
    await letDie(t, broker, queue, { name: t.name, reason: 'too-large', body, callback: nack, options });
    await assertRedriven(broker, queue, { body });
  });

  it('STOMP_FAILURE_MESSAGE=false keeps what was thrown out of the dead letter', async (t) => {
    const queue = uniqueName(t);
    const callback = () => {
      throw new RangeError('secret');
    };
    const options = { tellsFailure: false };
    const dead = await letDie(t, broker, queue, {
      name: t.name,
      reason: 'callback-failed',
      callback,
      options,
    });
    assert.deepEqual(Object.keys(failureOf(dead)).sort(), ['at', 'attempts', 'callback', 'reason']);
  });

  it('a dead letter of a virtual topic goes back to the queue of its application', async (t) => {
    const topic = `VirtualTopic.${uniqueName(t)}`;
    const [failing, other] = [`Consumer.a.${topic}`, `Consumer.b.${topic}`];
    const consuming = await startConsuming(t, broker, failing, nack);
    const others = await startConsuming(t, broker, other, (payload) => payload.ack());
    await publisherTo(t, broker).send(`/topic/${topic}`, { n: 1 });
    await Promise.all([consuming.settled('dead-lettered'), others.settled('acked')]);
    await Promise.all([consuming.stop(), others.stop()]);
    const dead = await firstIn(broker, `DLQ.${failing}`);
    assert.equal(dead.headers['original-destination'], `/queue/${failing}`);
    const result = await redrive(broker, failing);
    assert.deepEqual(result.to, { [failing]: 1 });
    assert.equal((await drainQueue(broker, failing, { atLeast: 1 })).length, 1);
    assert.deepEqual(await drainQueue(broker, other), []);
  });

  it('a dead letter of a topic goes back to its queue, and stays where the topic has none', async (t) => {
    const topic = uniqueName(t);
    const hasQueue = broker.capabilities.queueArguments;
    const consuming = await startConsuming(t, broker, `/topic/${topic}`, nack);
    await publisherTo(t, broker).send(`/topic/${topic}`, { n: 1 });
    await consuming.settled('dead-lettered');
    await consuming.stop();
    const dead = await firstIn(broker, `DLQ.${topic}`);
    assert.equal(dead.body.toString(), '{"n":1}');
    assert.equal(dead.headers['original-destination'], `${hasQueue ? '/queue/' : '/topic/'}${topic}`);
    const { redriven, unknown } = await redrive(broker, topic);
    assert.deepEqual([redriven, unknown], hasQueue ? [1, 0] : [0, 1]);
    const where = hasQueue ? topic : `DLQ.${topic}`;
    assert.equal((await drainQueue(broker, where, { atLeast: 1 })).length, 1);
  });

  it('nobody is told of a dead letter before its copy is confirmed, though nack() resolves at once', async (t) => {
    await using proxy = await startProxy(broker);
    const { host, port } = proxy;
    const queue = uniqueName(t);
    const settlements: string[] = [];
    const consuming = await startConsuming(
      t,
      { ...broker, host, port },
      `/queue/${queue}`,
      async (payload) => {
        settlements.push(await payload.nack());
      },
    );
    const isHeld = reaches(
      proxy,
      handOverSteps.find(({ name }) => name === 'before its receipt')!,
    );
    await put(broker, `/queue/${queue}`, '1', sent);
    await isHeld;
    // The broker has taken the copy, and we do not know.
    assert.equal((await firstIn(broker, `DLQ.${queue}`)).headers['x-failure-reason'], 'nack');
    const isTold = () =>
      consuming.events.some((event) => 'outcome' in event) ||
      consuming.log.some(({ fields }) => 'deadLetterQueue' in fields && 'reason' in fields);
    assert.deepEqual([settlements, isTold()], [['sent'], false]);
    proxy.resume();
    assert.equal((await consuming.settled('dead-lettered')).reason, 'nack');
    assert.equal((await consuming.logged('deadLetterQueue', 'reason')).level, 'error');
    assert.equal((await consuming.stop()).deadLettered, 1);
    assert.equal((await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 })).length, 1);
    assert.deepEqual(await drainQueue(broker, queue), []);
  });
}
