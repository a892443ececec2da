/**
 * What an operator does before our users come: queues with arguments that STOMP cannot give, and users who may not
 * configure. Hides how RabbitMQ is told: by frames where those are enough, else by rabbitmqctl.
 */
import { randomUUID } from 'node:crypto';
import type { BrokerUnderTest } from './brokers.js';
import { connectRaw, type RawClient, type RawHeaders } from './raw-client.js';

/** Declares a queue with these arguments, and nothing but these; it has no consumer when this resolves. */
export async function declareForeign(
  broker: BrokerUnderTest,
  queue: string,
  headers: RawHeaders = {},
): Promise<void> {
  const client = await declaring(broker, queue, headers);
  await client.disconnect();
}

/** The same, with a consumer that is handed nothing for as long as the client lives. */
export async function declaring(
  broker: BrokerUnderTest,
  queue: string,
  headers: RawHeaders = {},
): Promise<RawClient> {
  const client = await connectRaw(broker);
  await client.subscribe(`/queue/${queue}`, { 'prefetch-count': '-1', ...headers });
  return client;
}

export type Arguments = Readonly<Record<string, string | number | boolean>>;

/** Durable queues with any arguments that RabbitMQ knows, all of them by one rabbitmqctl (about a second). */
export async function declareByOperator(
  broker: BrokerUnderTest,
  queues: Readonly<Record<string, Arguments>>,
): Promise<void> {
  const declarations = Object.entries(queues).map(([name, given]) => {
    const table = Object.entries(given).map(([key, value]) => `{<<"${key}">>, ${erlang(value)}}`);
    const resource = `{resource, <<"/">>, queue, <<"${name}">>}`;
    return `{new, _} = rabbit_amqqueue:declare(${resource}, true, false, [${table.join(', ')}], none, <<"operator">>)`;
  });
  await broker.ctl!('eval', `${declarations.join(', ')}.`);
}

function erlang(value: string | number | boolean): string {
  if (typeof value === 'string') return `longstr, <<"${value}">>`;
  return typeof value === 'number' ? `long, ${value}` : `bool, ${value}`;
}

export interface Permissions {
  readonly configure: string;
  readonly write: string;
  readonly read: string;
}

/** The same broker for a new user, who may do so much: patterns of names, `^$` for none. */
export async function asUserWho(
  broker: BrokerUnderTest,
  { configure, write, read }: Permissions,
): Promise<BrokerUnderTest> {
  const user = `user-${randomUUID().slice(0, 8)}`;
  await broker.ctl!('add_user', user, user);
  await broker.ctl!('set_permissions', '--vhost', '/', user, configure, write, read);
  const env = { ...broker.env, STOMP_SERVER_USER: user, STOMP_SERVER_PASSWORD: user };
  return { ...broker, user, password: user, env };
}
