/**
 * Dead letters, while their connections end between each two steps: the copy is confirmed before its message is acked, so
 * that a message whose ACK is lost comes again and has a copy for each time.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { brokersUnderTest, needs } from '../support/brokers.js';
import { startConsuming, uniqueName } from '../support/consuming.js';
import { handOverSteps, reaches } from '../support/hand-over.js';
import { Ledger } from '../support/ledger.js';
import { drainQueue, putAll } from '../support/messages.js';
import { packageRoot, run } from '../support/process.js';
import { startProxy } from '../support/proxy.js';
import { keepDeclarations, rabbitmqMissing, startRabbitmq } from '../support/rabbitmq.js';
import { until } from '../support/until.js';

const COMPLETE_MS = 120_000;
const CUTS = 50;
const KILLS = 3;
const withId = { 'correlation-id': 'c' };

const numberOf = (body: Buffer) => (JSON.parse(body.toString()) as { n: number }).n;

for (const broker of brokersUnderTest()) {
  describe(`dead-letter faults: ${broker.name}`, { concurrency: 4 }, () => {
    test(
      `connections that end between the receipt of a copy and its ACK, ${CUTS} times`,
      needs(broker, 'returnsWhatWasCut'),
      async (t) => {
        const queue = uniqueName(t);
        await using proxy = await startProxy(broker);
        const behind = { ...broker, host: proxy.host, port: proxy.port };
        const ledger = new Ledger(CUTS);
        await putAll(broker, `/queue/${queue}`, ledger.bodies(), withId);
        let [acks, cuts] = [0, 0];
        // The first ACK of each message is lost, the second arrives.
        const cutAtEverySecondAck = async () => {
          while (cuts < CUTS) {
            const isLost = ({ command }: { command: string }) => command === 'ACK' && acks++ % 2 === 0;
            await proxy.frame('toServer', isLost, { isHeld: true });
            cuts++;
            proxy.cut();
            proxy.resume();
          }
        };
        const cutting = cutAtEverySecondAck();
        const consuming = await startConsuming(t, behind, `/queue/${queue}`, (payload) => payload.nack(), {
          waitToConnectSeconds: 0.1,
        });
        const told = () =>
          consuming.events.filter((event) => 'outcome' in event && event.outcome === 'dead-lettered').length;
        await until(
          () => told() === CUTS * 2,
          COMPLETE_MS,
          () => `${CUTS * 2} dead letters; there are ${told()}`,
        );
        await cutting;
        const { received, released } = await consuming.stop();
        for (const { body } of await drainQueue(broker, `DLQ.${queue}`)) ledger.count(numberOf(body));
        assert.deepEqual(await drainQueue(broker, queue), []);
        ledger.report(t, broker);
        // Each time that one ran has its copy, and was told as such.
        assert.deepEqual([ledger.lost, ledger.repeated], [0, CUTS]);
        assert.deepEqual([received, released], [CUTS * 2, 0]);
      },
    );

    for (const step of handOverSteps) {
      test(`kill -9 ${step.name} of a dead letter`, async (t) => {
        const queue = uniqueName(t);
        await using proxy = await startProxy(broker);
        const env = { ...broker.env, STOMP_SERVER_HOST: proxy.host, STOMP_SERVER_PORT: String(proxy.port) };
        const callback = `${packageRoot}/test/fixtures/callbacks/interop.mjs#consume`;
        const victim = run('pubsub', [`/queue/${queue}`, callback], { env });
        await victim.waitFor(/"msg":"consuming"/);
        const reached = reaches(proxy, step);
        const ledger = new Ledger(2);
        const bodies = ledger.bodies().map((body) => ({ ...body, refuse: true }));
        await putAll(broker, `/queue/${queue}`, bodies, withId);
        await reached;
        await victim.kill();
        // The broker notices the end of its client, as it does without a proxy.
        proxy.cut();
        const consuming = await startConsuming(t, broker, `/queue/${queue}`, (payload) => payload.nack());
        for (let left = step.isLast ? 1 : 2; left > 0; left--) await consuming.settled('dead-lettered');
        await consuming.stop();
        for (const { body } of await drainQueue(broker, `DLQ.${queue}`)) ledger.count(numberOf(body));
        assert.deepEqual(await drainQueue(broker, queue), []);
        ledger.report(t, broker);
        assert.deepEqual([ledger.lost, ledger.repeated], [0, step.repeated]);
      });
    }
  });
}

const isRabbitmq = brokersUnderTest().some(({ name }) => name === 'rabbitmq');
const skip = isRabbitmq ? (rabbitmqMissing() ?? false) : 'not in this run';

test('a broker that is killed between the receipt of a copy and its ACK', { skip }, async (t) => {
  await using broker = await startRabbitmq();
  const queue = uniqueName(t);
  await using proxy = await startProxy(broker);
  const behind = { ...broker, host: proxy.host, port: proxy.port };
  const ledger = new Ledger(200);
  const start = () =>
    startConsuming(t, behind, `/queue/${queue}`, (payload) => payload.nack(), { concurrency: 10 });
  // Declares both queues.
  await (await start()).stop();
  await keepDeclarations(broker);
  await putAll(broker, `/queue/${queue}`, ledger.bodies(), withId);
  const consuming = await start();
  for (let kills = 1; kills <= KILLS; kills++) {
    let acks = 0;
    const isLost = ({ command }: { command: string }) => command === 'ACK' && ++acks > 20;
    await proxy.frame('toServer', isLost, { isHeld: true });
    await broker.down('kill');
    proxy.cut();
    proxy.resume();
    await broker.up();
  }
  const takeAll = async () => {
    for (const { body } of await drainQueue(broker, `DLQ.${queue}`)) ledger.count(numberOf(body));
    return ledger.lost === 0;
  };
  await until(takeAll, COMPLETE_MS, () => `all dead letters; missing: ${ledger.lost}`);
  await consuming.stop();
  await takeAll();
  assert.deepEqual(await drainQueue(broker, queue), []);
  ledger.report(t, broker);
  assert.equal(ledger.lost, 0);
});
