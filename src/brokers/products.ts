/** Which product is at the other end of a connection. */
import { activemq } from './activemq.js';
import { artemis } from './artemis.js';
import type { Dialect } from './dialect.js';
import { rabbitmq, rabbitmqWithFewHeaders } from './rabbitmq.js';

/** The broker for tests is made after RabbitMQ; it has no streams. */
const embedded: Dialect = { ...rabbitmq, name: 'embedded', subscriptionHeaders: [] };

/** Un-acked messages that one subscription gets at most, on the product that gives it most. */
export const mostHeldByAny = Math.max(...[rabbitmq, activemq, artemis].map(({ mostHeld }) => mostHeld));

/** The dialect of a CONNECTED `server` header, or the one forced; RabbitMQ when the header is hidden or unknown. */
export function detectDialect(
  server: string | undefined,
  override: 'auto' | 'rabbitmq' | 'activemq' | 'artemis',
): Dialect {
  switch (override) {
    case 'activemq':
      return activemq;
    case 'artemis':
      return artemis;
    case 'rabbitmq':
      return rabbitmqOf(server);
    case 'auto':
      if (server?.startsWith('ActiveMQ-Artemis') === true) return artemis;
      if (server?.startsWith('ActiveMQ') === true) return activemq;
      if (server?.startsWith('stomp-pubsub') === true) return embedded;
      return rabbitmqOf(server);
  }
}

/** Those between 4.0 and 4.3 have not been measured: they are taken for the stricter one. */
function rabbitmqOf(server: string | undefined): Dialect {
  const [, major = '0', minor = '0'] = /^RabbitMQ\/(\d+)\.(\d+)/.exec(server ?? '') ?? [];
  return Number(major) * 1000 + Number(minor) > 4000 ? rabbitmqWithFewHeaders : rabbitmq;
}
