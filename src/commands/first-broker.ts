/** What to do about a broker that is not there yet: said once, to a person at a terminal, of this machine alone. */
import type { ConsumerObserver } from '../consumer/events.js';
import { tellPerson } from '../log.js';

const refusedHere = /\bECONNREFUSED (?:127\.0\.0\.1|::1)[:\s]/;

/** For the text of an error that says that this machine refused a connection; undefined for any other. */
export function adviceFor(text: string): string | undefined {
  if (!refusedHere.test(text)) return undefined;
  return (
    'No broker runs here yet? For a first try, pubsub --embedded <destination> <callback> brings one along;\n' +
    'docker compose up --wait starts RabbitMQ, in a checkout of stomp-pubsub or with its docker-compose.yml.'
  );
}

let isTold = false;

/** Tells the advice at the first connection of this process that is refused. */
export function advising(observer: ConsumerObserver): ConsumerObserver {
  return {
    ...observer,
    onConnection: (event) => {
      const advice = event.kind === 'failed' && !isTold ? adviceFor(event.reason ?? '') : undefined;
      if (advice !== undefined) isTold = tellPerson(advice);
      return observer.onConnection?.(event);
    },
  };
}
