import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { quorumDeliveryLimit } from '../../../src/brokers/delivery-limit.js';

describe('quorumDeliveryLimit', () => {
  const { deliveriesOf, remedy } = quorumDeliveryLimit;

  it('reads what the broker counted, and nothing of a message that was not delivered before', () => {
    assert.equal(deliveriesOf({ redelivered: 'true', 'x-delivery-count': '12' }), 12);
    assert.equal(deliveriesOf({ redelivered: 'true' }), 0);
    assert.equal(deliveriesOf({ redelivered: 'false', 'x-delivery-count': '12' }), 0);
    for (const count of ['', 'many', '-1', '1e9', '12345678901'])
      assert.equal(deliveriesOf({ redelivered: 'true', 'x-delivery-count': count }), 0);
  });

  it('names a policy for all dead-letter queues, or for the one queue, whatever its name', () => {
    const limit = `'{"delivery-limit":1000000}'`;
    const set = 'rabbitmqctl set_policy --apply-to queues';
    assert.equal(remedy('DLQ.x'), `${set} dlq-delivery-limit '^DLQ\\.' ${limit}`);
    assert.equal(remedy("a.b'c"), `${set} delivery-limit '^a\\.b'\\''c$' ${limit}`);
  });
});
