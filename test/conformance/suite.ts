/** One suite for every broker, unchanged. What is not common is skipped by the name of a capability. */
import { describe } from 'node:test';
import { brokerUnderTest, type BrokerName } from '../support/brokers.js';
import { consumingBehaviours } from './consuming.js';
import { deadLetterBehaviours } from './dead-letters.js';
import { forwardingBehaviours } from './forwarding.js';
import { observingBehaviours } from './observing.js';
import { publishingBehaviours } from './publishing.js';
import { queueTypeBehaviours } from './queue-types.js';
import { retryBehaviours } from './retries.js';
import { topicBehaviours } from './topics.js';
import { wireBehaviours } from './wire.js';

/** Registers the suite for the broker of that name, when this run has it. */
export function conformance(name: BrokerName): void {
  const broker = brokerUnderTest(name);
  if (broker === undefined) {
    describe(`conformance: ${name}`, { skip: 'not in this run' }, () => undefined);
    return;
  }
  describe(`conformance: ${name}`, { concurrency: 4 }, () => {
    describe('consuming', { concurrency: 4 }, () => consumingBehaviours(broker));
    describe('dead letters', { concurrency: 4 }, () => deadLetterBehaviours(broker));
    describe('forwarding', { concurrency: 4 }, () => forwardingBehaviours(broker));
    describe('observing', { concurrency: 4 }, () => observingBehaviours(broker));
    describe('retries', { concurrency: 4 }, () => retryBehaviours(broker));
    describe('topics', { concurrency: 4 }, () => topicBehaviours(broker));
    describe('queue types', { concurrency: 4 }, () => queueTypeBehaviours(broker));
    describe('publishing', { concurrency: 4 }, () => publishingBehaviours(broker));
    describe('wire', { concurrency: 4 }, () => wireBehaviours(broker));
  });
}
