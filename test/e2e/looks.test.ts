/**
 * Looks at a quorum queue of RabbitMQ, each of which is a delivery that the broker counts: no number of them loses a
 * message, and what ends them says what to do.
 */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { brokerUnderTest, type BrokerUnderTest } from '../support/brokers.js';
import { put, putAll, queueDepth } from '../support/messages.js';
import { unique } from './commands.js';
import { bodiesIn, operate, startOperator } from './operator.js';

const broker = brokerUnderTest('rabbitmq');
const skip = broker?.ctl === undefined ? { skip: 'no RabbitMQ of our own in this run' } : {};
const quorum = { 'x-queue-type': 'quorum' };
/** RabbitMQ 4 has it where nobody sets another; 3.10 has none. */
const LIMIT = 20;
const WORN = LIMIT / 2;
/** Looks that are not heeded take a message up to here. */
const RENEWED = LIMIT * 0.75;

async function limited(t: TestContext, { ctl }: BrokerUnderTest, queue: string): Promise<void> {
  const policy = `limit-${queue}`;
  const definition = JSON.stringify({ 'delivery-limit': LIMIT });
  await ctl!('set_policy', '--priority', '1', '--apply-to', 'queues', policy, `^${queue}$`, definition);
  t.after(() => ctl!('clear_policy', policy));
}

const texts = (count: number) => Array.from({ length: count }, (_, n) => String(n));

describe('looks at a quorum queue', skip, () => {
  it('lose nothing, however many there are, and end with 4 and what to set after the tenth', async (t) => {
    const queue = unique('looks');
    const dead = `DLQ.${queue}`;
    await putAll(broker!, `/queue/${dead}`, texts(5), quorum);
    await limited(t, broker!, dead);
    const looks = [
      ['peek', dead, '--count', '5'],
      ['redrive', queue, '--dry-run', '--count', '5'],
      ['redrive', queue, '--match', 'tenant=7', '--idle', '1'],
    ];
    const codes: (number | null)[] = [];
    for (let look = 0; look < 30; look++) {
      const running = startOperator(broker!, looks[look % looks.length]!);
      const { code } = await running.exit();
      codes.push(code);
      if (code === 0) continue;
      assert.match(
        running.stderr,
        new RegExp(`^pubsub: error: a message of ${dead} was delivered 1\\d times`, 'm'),
      );
      assert.match(running.stderr, /rabbitmqctl set_policy .* '\^DLQ\\\.' '\{"delivery-limit":1000000\}'/);
    }
    const refused = RENEWED - WORN + 1;
    const expected = [...Array<number>(WORN).fill(0), ...Array<number>(refused).fill(4)];
    assert.deepEqual(codes.slice(0, expected.length), expected);
    // From then on they are new messages, and looked at again.
    assert.equal(codes[expected.length], 0);
    assert.deepEqual((await bodiesIn(broker!, dead, 5)).toSorted(), texts(5));
    assert.equal(await queueDepth(broker!, queue), 0);
  });

  it('go on once the limit is raised as they say', async (t) => {
    const dead = unique('DLQ.looks');
    await put(broker!, `/queue/${dead}`, '1', quorum);
    const peek = ['peek', dead, '--count', '1'];
    for (let look = 0; look < WORN; look++) await startOperator(broker!, peek).exit();
    const refused = startOperator(broker!, peek);
    assert.equal((await refused.exit()).code, 4, refused.stderr);
    const [, policy = '', pattern = '', definition = '', flag = ''] =
      /rabbitmqctl set_policy --apply-to queues (\S+) '(\S+)' '(\S+)'; then say so: (--delivery-limit \d+)/.exec(
        refused.stderr,
      ) ?? [];
    await broker!.ctl!('set_policy', '--apply-to', 'queues', policy, pattern, definition);
    t.after(() => broker!.ctl!('clear_policy', policy));
    const applied = await broker!.ctl!('list_queues', '--no-table-headers', 'name', 'policy');
    assert.match(applied, new RegExp(`^${dead}\t${policy}$`, 'm'));
    for (let look = 0; look < 3; look++) {
      const running = startOperator(broker!, [...peek, ...flag.split(' ')]);
      assert.equal((await running.exit()).code, 0, running.stderr);
      assert.match(running.stdout, /"x-delivery-count":"1\d"/);
    }
  });

  it('do not send a message anew that is too large to be read', async () => {
    const dead = unique('DLQ.looks');
    await put(broker!, `/queue/${dead}`, 'x'.repeat(5000), quorum);
    const peek = ['peek', dead, '--count', '1', '--max-message-bytes', '4096'];
    for (let look = 0; look <= RENEWED + 1; look++) await startOperator(broker!, peek).exit();
    assert.deepEqual(await bodiesIn(broker!, dead, 1), ['x'.repeat(5000)]);
  });

  it('do not count where messages are taken: what was delivered often is sent back', async () => {
    const queue = unique('looks');
    await put(broker!, `/queue/DLQ.${queue}`, '1', quorum);
    for (let look = 0; look <= WORN; look++)
      await startOperator(broker!, ['peek', `DLQ.${queue}`, '--count', '1']).exit();
    assert.equal((await operate(broker!, ['redrive', queue, '--count', '1'])).redriven, 1);
    assert.deepEqual(await bodiesIn(broker!, queue, 1), ['1']);
  });
});
