/** The operator's commands take queues of any name, those that this product makes and those of others. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { brokersUnderTest, type BrokerUnderTest } from '../support/brokers.js';
import { put, putAll } from '../support/messages.js';
import { unique } from './commands.js';
import { bodiesIn, IDLE, operate, refused, startOperator } from './operator.js';

/** A name with a slash, as each broker takes it. */
const slashed = ({ name }: BrokerUnderTest): string => (name === 'activemq' ? 'a/b' : 'a%2Fb');

for (const broker of brokersUnderTest()) {
  describe(`queue names: ${broker.name}`, { concurrency: 2 }, () => {
    const names = [
      `DLQ.Consumer.shop.VirtualTopic.${unique('o')}`,
      `DLQ.DLQ.Consumer.shop.VirtualTopic.${unique('o')}`,
      `Consumer.shop.VirtualTopic.${unique('o')}.retry.5000`,
      `VirtualTopic.${unique('o')}`,
      `Consumer..VirtualTopic.${unique('o')}`,
      `DLQ.${unique(slashed(broker))}`,
      `${unique('two words é')} "'`,
    ];
    for (const name of names) {
      it(`peeks at, moves from and to, redrives and empties ${JSON.stringify(name)}`, async () => {
        const [other, dead] = [unique('other'), name.startsWith('DLQ.') ? name : `DLQ.${name}`];
        await putAll(broker, `/queue/${name}`, ['1', '2']);
        const peeking = startOperator(broker, ['peek', name, '--count', '1']);
        assert.equal((await peeking.exit()).code, 0, peeking.stderr);
        assert.equal((JSON.parse(peeking.stdout) as { body: string }).body, '1');
        const both = ['--count', '2'];
        await operate(broker, ['move-messages', `/queue/${name}`, other, ...both]);
        await operate(broker, ['move-messages', other, `/queue/${dead}`, ...both]);
        await operate(broker, ['redrive', name, ...both]);
        const emptied = dead.slice('DLQ.'.length);
        assert.equal((await operate(broker, ['ack-all-messages', emptied, '--yes', ...both])).acked, 2);
      });
    }

    if (broker.capabilities.queueArguments) {
      it('refuses a plain slash with what to write', async () => {
        const { code, complaint } = await refused(broker, ['peek', '/queue/a/b']);
        assert.equal(code, 4);
        assert.match(complaint, /%2F/);
      });

      it('takes a name that means several queues elsewhere for the one it is', async () => {
        const queue = `${unique('a')},b.>`;
        await put(broker, `/queue/${queue}`, '1');
        assert.equal((await operate(broker, ['ack-all-messages', queue, '--yes', ...IDLE])).acked, 1);
      });
    } else {
      it('takes from one queue at a time', async () => {
        const [queue, other] = [unique('one'), unique('two')];
        for (const name of [queue, other]) await put(broker, name, '1');
        for (const name of [`${queue},${other}`, 'one-.>', '>']) {
          const { code, complaint } = await refused(broker, ['ack-all-messages', name, '--yes', ...IDLE]);
          assert.equal(code, 2);
          assert.match(complaint, /means more than one queue on this broker/);
        }
        for (const name of [queue, other]) assert.deepEqual(await bodiesIn(broker, name, 1), ['1']);
      });
    }
  });
}
