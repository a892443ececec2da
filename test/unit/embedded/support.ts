/** A broker for one test, and a clock that only the test turns. */
import type { TestContext } from 'node:test';
import {
  type Clock,
  type EmbeddedBroker,
  type EmbeddedBrokerOptions,
  startEmbeddedBroker,
} from '../../../src/embedded/broker.js';
import { connectRaw, type Login, type RawClient, type RawConnectOptions } from '../../support/raw-client.js';

export class TestClock implements Clock {
  #now = 1000;
  #timers = new Set<{ at: number; run: () => void }>();

  now(): number {
    return this.#now;
  }

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.#now + ms, run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Runs the timers that come due, each at its time. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#timers.delete(due);
      this.#now = Math.max(this.#now, due.at);
      due.run();
    }
    this.#now = end;
  }
}

export interface BrokerAndClients {
  readonly broker: EmbeddedBroker;
  readonly login: Login;
  readonly connect: (options?: RawConnectOptions) => Promise<RawClient>;
}

/** Started for this test and closed with its clients at its end. */
export async function brokerFor(
  context: TestContext,
  options: EmbeddedBrokerOptions = {},
): Promise<BrokerAndClients> {
  const broker = await startEmbeddedBroker(options);
  const clients: RawClient[] = [];
  context.after(async () => {
    for (const client of clients) client.destroy();
    await broker.close();
  });
  const { host, port } = broker;
  const login: Login = {
    name: 'embedded',
    host,
    port,
    user: options.user ?? 'guest',
    password: options.password ?? 'guest',
  };
  const connect = async (connectOptions: RawConnectOptions = {}): Promise<RawClient> => {
    const client = await connectRaw(login, connectOptions);
    clients.push(client);
    return client;
  };
  return { broker, login, connect };
}
