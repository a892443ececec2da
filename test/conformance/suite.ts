/** One suite for every broker, unchanged. What is not common is skipped by the name of a capability. */
import { describe } from 'node:test';
import { brokerUnderTest, type BrokerName } from '../support/brokers.js';
import { acknowledgingBehaviours } from './acknowledging.js';
import { askingBehaviours } from './asking.js';
import { bodyBehaviours } from './bodies.js';
import { connectingBehaviours } from './connecting.js';
import { consumingBehaviours } from './consuming.js';
import { deadLetterBehaviours } from './dead-letters.js';
import { declaringBehaviours } from './declaring.js';
import { deliveryBehaviours } from './delivering.js';
import { envelopeBehaviours } from './envelopes.js';
import { foreignQueueBehaviours } from './foreign-queues.js';
import { forwardingBehaviours } from './forwarding.js';
import { frameBehaviours } from './frames.js';
import { observingBehaviours } from './observing.js';
import { publishingBehaviours } from './publishing.js';
import { queueTypeBehaviours } from './queue-types.js';
import { retryBehaviours } from './retries.js';
import { topicBehaviours } from './topics.js';
import { traceBehaviours } from './traces.js';
import { transactionBehaviours } from './transactions.js';

/** Registers the suite for the broker of that name, when this run has it. */
export function conformance(name: BrokerName): void {
  const broker = brokerUnderTest(name);
  if (broker === undefined) {
    describe(`conformance: ${name}`, { skip: 'not in this run' }, () => undefined);
    return;
  }
  /** What the product does on every broker. */
  const product = {
    consuming: consumingBehaviours,
    bodies: bodyBehaviours,
    'dead letters': deadLetterBehaviours,
    'what dead letters say': envelopeBehaviours,
    forwarding: forwardingBehaviours,
    observing: observingBehaviours,
    'asking for answers': askingBehaviours,
    retries: retryBehaviours,
    topics: topicBehaviours,
    traces: traceBehaviours,
    'queue types': queueTypeBehaviours,
    'a queue of others': foreignQueueBehaviours,
    publishing: publishingBehaviours,
  };
  /** What the product relies on, frame by frame: every broker it runs on must answer like this. */
  const wire = {
    connecting: connectingBehaviours,
    frames: frameBehaviours,
    acknowledging: acknowledgingBehaviours,
    delivering: deliveryBehaviours,
    transactions: transactionBehaviours,
    declaring: declaringBehaviours,
  };
  describe(`conformance: ${name}`, { concurrency: 4 }, () => {
    for (const [topic, behaviours] of Object.entries({ ...product, ...wire }))
      describe(topic, { concurrency: 4 }, () => behaviours(broker));
  });
}
