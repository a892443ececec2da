/**
 * Frames over the limit of the broker, which RabbitMQ 4 has and 3.10 has not: the connection that carries one ends without
 * a word. What is too long is told apart from a broker that is away, and everything else arrives.
 */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { startEmbeddedBroker, type EmbeddedBroker } from '../../src/embedded/broker.js';
import { brokerUnderTest, describeBroker } from '../support/brokers.js';
import { startConsuming, uniqueName } from '../support/consuming.js';
import { Ledger } from '../support/ledger.js';
import { drainQueue } from '../support/messages.js';
import { run } from '../support/process.js';
import { until } from '../support/until.js';

const LIMIT = 10_000;
/** Less than the 60 s for which a broker that is away is tried. */
const COMPLETE_MS = 45_000;
/** The line of it, counted from 1. */
const LONG_AT = 13;
const skip = brokerUnderTest('embedded') === undefined && 'not in this run';

async function start(t: TestContext) {
  const login = { user: 'app', password: 'secret' };
  const embedded: EmbeddedBroker = await startEmbeddedBroker({ ...login, maxFrameBytes: LIMIT });
  t.after(() => embedded.close());
  const { host, port } = embedded;
  const broker = describeBroker({ name: 'embedded', version: 'limited', host, port, ...login });
  return { embedded, broker };
}

const numberOf = (body: Buffer) => (JSON.parse(body.toString()) as { n: number }).n;
const padded = (body: { n: number }, isLong: boolean) =>
  isLong ? { ...body, padding: 'x'.repeat(LIMIT) } : body;
const isLongLine = (_body: unknown, index: number) => index + 1 === LONG_AT;

describe('a frame over the limit of the broker', { skip, concurrency: true }, () => {
  const lines = (ledger: Ledger) =>
    ledger
      .bodies()
      .map((body, index) => `${JSON.stringify(padded(body, isLongLine(body, index)))}\n`)
      .join('');

  test('is refused at once by its line, with its size', async (t) => {
    const { broker } = await start(t);
    const [queue, ledger] = [uniqueName(t), new Ledger(30)];
    const args = [`/queue/${queue}`, '--lines', '--window', '5'];
    const publishing = run('publish', args, { env: broker.env, input: lines(ledger) });
    assert.deepEqual(await publishing.exit(COMPLETE_MS), { code: 4, signal: null });
    const said = new RegExp(`line ${LONG_AT}: a message of (\\d+) bytes .*over a limit`).exec(
      publishing.stderr,
    );
    assert.ok(Number(said?.[1]) > LIMIT, publishing.stderr);
    const resumeFrom = /--resume-from (\d+)/.exec(publishing.stderr)?.[1];
    assert.equal(Number(resumeFrom), LONG_AT - 1, publishing.stderr);
    for (const { body } of await drainQueue(broker, queue)) ledger.count(numberOf(body));
    // What came before it is there.
    assert.ok(ledger.processed >= LONG_AT - 1, `${ledger.processed} arrived`);
  });

  test('is left out with --skip-invalid, and all other lines arrive', async (t) => {
    const { broker } = await start(t);
    const [queue, ledger] = [uniqueName(t), new Ledger(30)];
    const args = [`/queue/${queue}`, '--lines', '--skip-invalid', '--window', '5'];
    const publishing = run('publish', args, { env: broker.env, input: lines(ledger) });
    assert.deepEqual(await publishing.exit(COMPLETE_MS), { code: 0, signal: null }, publishing.stderr);
    const told = publishing.logLines.filter(({ msg }) => msg === 'line left out').map(({ line }) => line);
    assert.deepEqual(told, [LONG_AT]);
    for (const { body } of await drainQueue(broker, queue)) ledger.count(numberOf(body));
    ledger.count(LONG_AT - 1);
    ledger.report(t, broker);
    assert.equal(ledger.lost, 0);
    ledger.assertRepeatedAtMost(5);
  });

  test('that a callback forwards dead-letters its message alone', async (t) => {
    const { broker, embedded } = await start(t);
    const [queue, ledger] = [uniqueName(t), new Ledger(10)];
    const consuming = await startConsuming(
      t,
      broker,
      `/queue/${queue}`,
      async (payload) => {
        const { n } = payload.body as { n: number };
        payload.publish(`/queue/${queue}-to`, padded({ n }, n === 4));
        await payload.ack();
      },
      { concurrency: 10 },
    );
    for (const body of ledger.bodies()) put(embedded, queue, body);
    for (let count = 0; count < ledger.published; count++) await consuming.settled('acked', 'dead-lettered');
    const { acked, deadLettered, released } = await consuming.stop();
    assert.deepEqual([acked, deadLettered, released], [9, 1, 0]);
    const [dead, ...others] = await drainQueue(broker, `DLQ.${queue}`);
    assert.deepEqual([numberOf(dead!.body), others], [4, []]);
    assert.equal(dead!.headers['x-failure-reason'], 'forward-refused');
    assert.match(String(dead!.headers['x-failure-message']), /over a limit of the broker/);
    ledger.count(4);
    for (const { body } of await drainQueue(broker, `${queue}-to`)) ledger.count(numberOf(body));
    ledger.report(t, broker);
    assert.equal(ledger.lost, 0);
    // Those that were under way beside it, once.
    ledger.assertRepeatedAtMost(9);
  });

  test('that a dead letter would be is dead-lettered by NACK, which is not confirmed', async (t) => {
    const { broker, embedded } = await start(t);
    const [queue, ledger] = [uniqueName(t), new Ledger(10)];
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, (payload) => payload.nack(), {
      concurrency: 10,
    });
    for (const body of ledger.bodies()) put(embedded, queue, padded(body, body.n === 4));
    for (let count = 0; count < ledger.published; count++) await consuming.settled('dead-lettered');
    await consuming.stop();
    const unconfirmed = consuming.log.filter(({ fields }) => fields.isConfirmed === false);
    assert.equal(unconfirmed.length, 1);
    assert.match(String(unconfirmed[0]?.fields.detail), /its copy was refused: a message of \d+ bytes/);
    const dead = await until(
      async () => {
        const messages = await drainQueue(broker, `DLQ.${queue}`);
        return messages.length > 0 && messages;
      },
      COMPLETE_MS,
      'dead letters',
    );
    for (const { body, headers } of dead) {
      ledger.count(numberOf(body));
      assert.equal(headers['x-failure-reason'], numberOf(body) === 4 ? undefined : 'nack');
    }
    ledger.report(t, broker);
    assert.equal(ledger.lost, 0);
    ledger.assertRepeatedAtMost(9);
  });

  /** Past the limit, as what comes by AMQP is. */
  function put(embedded: EmbeddedBroker, queue: string, body: unknown): void {
    const destination = `/queue/${queue}`;
    const declaring = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': `DLQ.${queue}` };
    embedded.publish(destination, JSON.stringify(body), { 'correlation-id': 'c', ...declaring });
  }
});
