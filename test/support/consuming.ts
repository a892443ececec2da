/** A consumer of the product inside a test: started, watched through its log, stopped with its summary. */
import { randomUUID } from 'node:crypto';
import type { TestContext } from 'node:test';
import {
  consume,
  openPublisher,
  type ConsumeOptions,
  type ConsumeSummary,
  type Payload,
  type Publisher,
  type PublisherOptions,
} from '../../src/index.js';
import type { BrokerUnderTest } from './brokers.js';
import { until } from './until.js';

export interface LogLine {
  readonly atMs: number;
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Far beyond what a loaded machine needs. */
export const DEADLINE_MS = 20_000;

/** The settings by which the product finds this broker. */
export function settingsOf({ host, port, user, password, vhost }: BrokerUnderTest) {
  return { host, port, user, password, ...(vhost === undefined ? {} : { vhost }) };
}

/** A destination nobody else uses, that tells which test it is of. */
export function uniqueName(t: TestContext): string {
  const words = t.name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, 40);
  return `${words}-${randomUUID().slice(0, 8)}`;
}

export interface Consuming {
  /** What the callback was called with, in order. */
  readonly payloads: Payload[];
  readonly log: LogLine[];
  /** Resolves when so many payloads have come. */
  received(count: number): Promise<Payload[]>;
  /** Resolves with the first log line of that text, counting from the last one that was awaited. */
  logged(message: string): Promise<LogLine>;
  /** Drains. */
  stop(): Promise<ConsumeSummary>;
  /** Rejects as consume does. */
  readonly ended: Promise<ConsumeSummary>;
}

type Options = Partial<Omit<ConsumeOptions, 'callback' | 'destination'>>;

/** Starts consuming and resolves when subscribed. Stopped at the end of the test if it still runs. */
export async function startConsuming(
  t: TestContext,
  broker: BrokerUnderTest,
  destination: string,
  callback: (payload: Payload) => unknown,
  options: Options = {},
): Promise<Consuming> {
  const consuming = launchConsuming(t, broker, destination, callback, options);
  await Promise.race([consuming.logged('consuming'), consuming.ended]);
  return consuming;
}

/** Starts consuming, subscribed or not. */
export function launchConsuming(
  t: TestContext,
  broker: BrokerUnderTest,
  destination: string,
  callback: (payload: Payload) => unknown,
  options: Options = {},
): Consuming {
  const stop = new AbortController();
  const payloads: Payload[] = [];
  const log: LogLine[] = [];
  const write = (level: LogLine['level']) => (fields: object, message: string) => {
    log.push({ atMs: performance.now(), level, message, fields: fields as Record<string, unknown> });
  };
  const ended = consume({
    ...settingsOf(broker),
    gracefulWaitSeconds: 10,
    waitToConnectSeconds: 1,
    ...options,
    destination,
    signal: stop.signal,
    log: {
      debug: write('debug'),
      info: write('info'),
      warn: write('warn'),
      error: write('error'),
      isLevelEnabled: () => true,
    },
    callback: (payload: Payload) => {
      payloads.push(payload);
      return callback(payload);
    },
  });
  ended.catch(() => undefined);
  t.after(() => {
    stop.abort();
    return ended.catch(() => undefined);
  });
  let awaited = 0;
  return {
    payloads,
    log,
    ended,
    received: async (count) => {
      await until(
        () => payloads.length >= count,
        DEADLINE_MS,
        () => `${count} payloads; came: ${payloads.length}`,
      );
      return payloads;
    },
    logged: async (message) => {
      const index = await until(
        () => log.findIndex((line, at) => at >= awaited && line.message === message) + 1,
        DEADLINE_MS,
        () =>
          `"${message}" in the log; there is: ${JSON.stringify(log.slice(awaited).map((line) => line.message))}`,
      );
      awaited = index;
      return log[index - 1]!;
    },
    stop: () => {
      stop.abort();
      return ended;
    },
  };
}

/** The longest time, in ms, from the loss of a connection to the next subscription, of a consumer's log. */
export function slowestRecovery(log: readonly LogLine[]): number {
  let lostMs: number | undefined;
  let slowestMs = 0;
  for (const { message, atMs } of log) {
    if (message === 'no connection to the broker; trying again') lostMs ??= atMs;
    if (message !== 'consuming' || lostMs === undefined) continue;
    slowestMs = Math.max(slowestMs, atMs - lostMs);
    lostMs = undefined;
  }
  return slowestMs;
}

/** A publisher to that broker, closed at the end of the test. */
export function publisherTo(
  t: TestContext,
  broker: BrokerUnderTest,
  options: PublisherOptions = {},
): Publisher {
  const publisher = openPublisher({ ...settingsOf(broker), ...options });
  t.after(() => publisher.close());
  return publisher;
}
