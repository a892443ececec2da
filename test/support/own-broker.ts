/**
 * A broker that belongs to one test or one run: a BrokerUnderTest with the means to break it. Hides how a start that
 * lost its port to somebody else is tried again, and how readiness is asked for: a CONNECT that is answered.
 */
import { type BrokerFacts, type BrokerUnderTest, describeBroker } from './brokers.js';
import { connectRaw } from './raw-client.js';
import type { Downfall, ServerProcess } from './server-process.js';

export interface OwnBroker extends BrokerUnderTest, AsyncDisposable {
  readonly facts: BrokerFacts;
  /** Takes the broker down (`kill` unless said otherwise); its data and its port are kept. */
  down(how?: Downfall): Promise<void>;
  /** Starts it again; resolves when it answers a CONNECT. */
  up(): Promise<void>;
  /** down and up. */
  restart(how?: Downfall): Promise<void>;
  /** Stops the process where it stands: connections stay open and nobody answers. */
  pause(): void;
  resume(): void;
  /** The end: no process, no directory is left. May be called again. */
  stop(): Promise<void>;
  logTail(): string;
}

/** What a product must say for itself: a server, not yet up, and how to log in. */
export interface Draft {
  readonly facts: Omit<BrokerFacts, 'version'>;
  readonly makeServer: (isReady: () => Promise<boolean>) => ServerProcess;
}

const START_ATTEMPTS = 3;

/** Starts what `draft` describes and resolves when it is ready. `draft` is asked anew when a port was taken. */
export async function startOwn(draft: () => Promise<Draft>): Promise<OwnBroker> {
  for (let attempt = 1; ; attempt++) {
    const { facts, makeServer } = await draft();
    let version = 'unknown';
    const server = makeServer(async () => {
      const client = await connectRaw({ ...facts }, { deadlineMs: 20_000 });
      version = client.serverVersion;
      client.destroy();
      return true;
    });
    try {
      await server.up();
    } catch (error) {
      const log = server.logTail();
      await server.stop();
      if (attempt < START_ATTEMPTS && /eaddrinuse|address already in use/i.test(log)) continue;
      throw error;
    }
    return ownBroker({ ...facts, version }, server);
  }
}

function ownBroker(facts: BrokerFacts, server: ServerProcess): OwnBroker {
  return {
    ...describeBroker(facts),
    facts,
    down: (how = 'kill') => server.down(how),
    up: () => server.up(),
    restart: async (how = 'kill') => {
      await server.down(how);
      await server.up();
    },
    pause: () => server.pause(),
    resume: () => server.resume(),
    stop: () => server.stop(),
    logTail: () => server.logTail(),
    [Symbol.asyncDispose]: () => server.stop(),
  };
}
