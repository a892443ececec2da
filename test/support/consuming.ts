/** A consumer of the product inside a test: started, observed, stopped with its summary. */
import { randomUUID } from 'node:crypto';
import type { TestContext } from 'node:test';
import {
  consume,
  openPublisher,
  type ConnectionEvent,
  type ConsumeOptions,
  type ConsumeSummary,
  type Payload,
  type Publisher,
  type PublisherOptions,
  type SettledEvent,
} from '../../src/index.js';
import type { BrokerUnderTest } from './brokers.js';
import { until } from './until.js';

export interface LogLine {
  readonly atMs: number;
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

type Timed<Event> = Event & { readonly atMs: number };

/** Far beyond what a loaded machine needs. */
export const DEADLINE_MS = 60_000;

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
  /** What it told its observer, in order. */
  readonly events: readonly (Timed<SettledEvent> | Timed<ConnectionEvent>)[];
  /** Resolves with the first attempt that ended, in one of these ways if given, since the last one that was awaited. */
  settled(...outcomes: SettledEvent['outcome'][]): Promise<Timed<SettledEvent>>;
  /** Resolves with the first turn of the connection of that kind since the last one that was awaited. */
  turned(kind: ConnectionEvent['kind']): Promise<Timed<ConnectionEvent>>;
  /** Resolves with the first log line that has these fields, counting from the last one that was awaited. */
  logged(...fields: string[]): Promise<LogLine>;
  /** Drains. */
  stop(): Promise<ConsumeSummary>;
  /** Rejects as consume does. */
  readonly ended: Promise<ConsumeSummary>;
}

type Options = Partial<Omit<ConsumeOptions, 'callback' | 'destination'>>;

/**
 * Starts consuming and resolves when subscribed. Stopped at the end of the test if it still runs. With a callback of
 * a module, as `module#export`, no payloads are seen here.
 */
export async function startConsuming(
  t: TestContext,
  broker: BrokerUnderTest,
  destination: string,
  callback: ((payload: Payload) => unknown) | string,
  options: Options = {},
): Promise<Consuming> {
  const consuming = launchConsuming(t, broker, destination, callback, options);
  await Promise.race([consuming.turned('subscribed'), consuming.ended]);
  return consuming;
}

/** The last of them, for the message of a test that waited in vain. */
const printed = (lines: readonly object[]): string => JSON.stringify(lines.slice(-20)).slice(0, 4000);

/** Starts consuming, subscribed or not. */
export function launchConsuming(
  t: TestContext,
  broker: BrokerUnderTest,
  destination: string,
  callback: ((payload: Payload) => unknown) | string,
  options: Options = {},
): Consuming {
  const stop = new AbortController();
  const payloads: Payload[] = [];
  const log: LogLine[] = [];
  const write = (level: LogLine['level']) => (fields: object, message: string) => {
    log.push({ atMs: performance.now(), level, message, fields: fields as Record<string, unknown> });
  };
  const events: (Timed<SettledEvent> | Timed<ConnectionEvent>)[] = [];
  const ended = consume({
    ...settingsOf(broker),
    gracefulWaitSeconds: 30,
    waitToConnectSeconds: 1,
    ...options,
    destination,
    signal: stop.signal,
    onSettled: (event) => {
      events.push({ ...event, atMs: performance.now() });
      return options.onSettled?.(event);
    },
    onConnection: (event) => {
      events.push({ ...event, atMs: performance.now() });
      return options.onConnection?.(event);
    },
    log: {
      debug: write('debug'),
      info: write('info'),
      warn: write('warn'),
      error: write('error'),
      isLevelEnabled: () => true,
    },
    callback: typeof callback === 'string' ? callback : observed(callback, payloads),
  });
  ended.catch(() => undefined);
  t.after(() => {
    stop.abort();
    return ended.catch(() => undefined);
  });
  const settled = follow(events, (event): event is Timed<SettledEvent> => 'outcome' in event);
  const turned = follow(events, (event): event is Timed<ConnectionEvent> => 'kind' in event);
  const logged = follow(log, (line): line is LogLine => 'fields' in line);
  return {
    payloads,
    log,
    events,
    ended,
    received: async (count) => {
      await until(
        () => payloads.length >= count,
        DEADLINE_MS,
        () => `${count} payloads; came: ${payloads.length}; ${printed(events)}; ${printed(log)}`,
      );
      return payloads;
    },
    settled: (...outcomes) =>
      settled(
        ({ outcome }) => outcomes.length === 0 || outcomes.includes(outcome),
        `an attempt that ends as ${outcomes.join(' or ') || 'it will'}`,
      ),
    turned: (kind) => turned((event) => event.kind === kind, `a connection that is ${kind}`),
    logged: (...fields) =>
      logged((line) => fields.every((field) => field in line.fields), `a line with ${fields.join(', ')}`),
    stop: () => {
      stop.abort();
      return ended;
    },
  };
}

/** The same function, by its own name, which notes what it is called with. */
function observed(callback: (payload: Payload) => unknown, payloads: Payload[]) {
  const noting = (payload: Payload) => {
    payloads.push(payload);
    return callback(payload);
  };
  return Object.defineProperty(noting, 'name', { value: callback.name });
}

/** Waits, each time, for the next of its kind that fits; what came before that is passed over. */
function follow<All, One extends All>(all: readonly All[], isOne: (item: All) => item is One) {
  let awaited = 0;
  return async (fits: (item: One) => boolean, what: string): Promise<One> => {
    const found = await until(
      () => all.findIndex((item, at) => at >= awaited && isOne(item) && fits(item)) + 1,
      DEADLINE_MS,
      () => `${what}; since then there were: ${JSON.stringify(all.slice(awaited))}`,
    );
    awaited = found;
    return all[found - 1] as One;
  };
}

/** The longest time, in ms, from the loss of a connection to the next subscription. */
export function slowestRecovery(events: Consuming['events']): number {
  let lostMs: number | undefined;
  let slowestMs = 0;
  for (const event of events) {
    if (!('kind' in event)) continue;
    if (event.kind === 'lost') lostMs ??= event.atMs;
    if (event.kind !== 'subscribed' || lostMs === undefined) continue;
    slowestMs = Math.max(slowestMs, event.atMs - lostMs);
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
