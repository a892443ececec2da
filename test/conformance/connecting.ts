/** Connecting: versions, the answer to CONNECT, heart-beats. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { openPublisher } from '../../src/index.js';
import { startEmbeddedBroker } from '../../src/embedded/broker.js';
import { needs, type BrokerUnderTest } from '../support/brokers.js';
import { settingsOf, uniqueName } from '../support/consuming.js';
import { oddLogin } from '../support/odd-login.js';
import { declaringHeaders, drainQueue } from '../support/messages.js';
import { connectRaw, openRaw } from '../support/raw-client.js';

export function connectingBehaviours(broker: BrokerUnderTest): void {
  for (const version of ['1.0', '1.1', '1.2'] as const) {
    it(`a client of STOMP ${version} is served`, async (t) => {
      const queue = `/queue/${uniqueName(t)}`;
      const client = await connectRaw(broker, { version });
      t.after(() => client.destroy());
      assert.equal(client.frames[0]!.headers.version, version);
      await client.put(queue, 1, declaringHeaders(broker, queue));
      const id = await client.subscribe(queue, { ...declaringHeaders(broker, queue), ack: 'client' });
      const message = await client.next('MESSAGE');
      assert.equal(message.headers.subscription, id);
      assert.equal(message.headers.ack === undefined, version !== '1.2');
      await client.settle('ACK', message);
      await client.disconnect();
      assert.equal((await drainQueue(broker, queue)).length, 0);
    });
  }

  const hasOddLogin = needs(broker, 'oddLogin');
  it('backslashes in login, passcode and virtual host arrive as they are', hasOddLogin, async (t) => {
    const isEmbedded = broker.name === 'embedded';
    if (process.env[`TEST_${broker.name.toUpperCase()}_URL`] !== undefined) {
      t.skip('a broker of the user has no such login');
      return;
    }
    const own = isEmbedded ? await startEmbeddedBroker(oddLogin) : undefined;
    t.after(() => own?.close());
    const { host, port } = own ?? broker;
    const publisher = openPublisher({ ...settingsOf(broker), ...oddLogin, host, port });
    await publisher.send(`/queue/${uniqueName(t)}`, 1);
    await publisher.close();
    const wrong = openPublisher({ ...settingsOf(broker), ...oddLogin, host, port, password: 'p\\nq' });
    await assert.rejects(wrong.send('/queue/x', 1), { code: 'broker-refused' });
    await wrong.close();
  });

  it('CONNECTED names the server', async (t) => {
    const client = await connectRaw(broker);
    t.after(() => client.destroy());
    assert.match(
      client.frames[0]!.headers.server ?? '',
      /^(?:RabbitMQ|ActiveMQ|ActiveMQ-Artemis|stomp-pubsub-embedded)\/[\d.]+/,
    );
  });

  it('heart-beats are answered as asked', async (t) => {
    const client = await connectRaw(broker, { headers: { 'heart-beat': '5000,0' } });
    t.after(() => client.destroy());
    assert.equal(client.frames[0]!.headers['heart-beat'], '0,5000');
  });

  it('STOMP is taken as CONNECT', needs(broker, 'takesStomp'), async (t) => {
    const client = await openRaw(broker);
    t.after(() => client.destroy());
    client.send('STOMP', {
      'accept-version': '1.2',
      host: broker.vhost ?? '/',
      login: broker.user,
      passcode: broker.password,
    });
    const answer = await client.next(({ command }) => command === 'CONNECTED' || command === 'ERROR');
    assert.equal(answer.command, 'CONNECTED');
  });
}
