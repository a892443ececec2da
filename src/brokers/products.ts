/** Which product is at the other end of a connection. */
import { activemq } from './activemq.js';
import { artemis } from './artemis.js';
import type { Dialect } from './dialect.js';
import { rabbitmq } from './rabbitmq.js';

/** The broker for tests is made after RabbitMQ. */
const embedded: Dialect = { ...rabbitmq, name: 'embedded', declaresLater: false };

const dialects = { rabbitmq, activemq, artemis, embedded };

/** Un-acked messages that one subscription gets at most, on the product that gives it most. */
export const mostHeldByAny = Math.max(...Object.values(dialects).map(({ mostHeld }) => mostHeld));

/** The dialect of a CONNECTED `server` header, or the one forced; RabbitMQ when the header is hidden or unknown. */
export function detectDialect(
  server: string | undefined,
  override: 'auto' | 'rabbitmq' | 'activemq' | 'artemis',
): Dialect {
  if (override !== 'auto') return dialects[override];
  if (server?.startsWith('ActiveMQ-Artemis') === true) return artemis;
  if (server?.startsWith('ActiveMQ') === true) return activemq;
  if (server?.startsWith('stomp-pubsub') === true) return embedded;
  return rabbitmq;
}
