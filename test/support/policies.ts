/** What an operator of RabbitMQ sets by policy, and STOMP can neither set nor see. Hides how rabbitmqctl is told. */
import type { BrokerUnderTest } from './brokers.js';

/** Beyond `most` waiting messages: refused, which ends the connection that sent one; `-dlx` dead-letters what is moved there, too. */
export type Overflow = 'reject-publish' | 'reject-publish-dlx';

/** From then on the queue of that name takes no more than `most` messages that wait. Resolves when that holds. */
export async function bound(
  broker: BrokerUnderTest,
  queue: string,
  most: number,
  overflow: Overflow = 'reject-publish',
): Promise<void> {
  await setPolicy(broker, queue, `^${queue.replaceAll('.', '\\.')}$`, { 'max-length': most, overflow });
}

/** The queue takes any number again. */
export async function unbound(broker: BrokerUnderTest, queue: string): Promise<void> {
  await broker.ctl!('clear_policy', queue);
}

/** Sets a policy for all queues whose name the pattern matches. */
export async function setPolicy(
  broker: BrokerUnderTest,
  name: string,
  pattern: string,
  definition: object,
): Promise<void> {
  await broker.ctl!('set_policy', name, pattern, JSON.stringify(definition), '--apply-to', 'queues');
}
