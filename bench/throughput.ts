/**
 * Messages per second and processor time per message, ours against the raw client, on one broker. The two take turns,
 * the first of a round being the second of the next, and each round yields one ratio: what slows the machine down for a
 * while slows both down. Every measurement is a process of its own.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { consumeAll, type Login, publishAll, RawClient } from './raw-client.js';
import { describeRatios, median } from './statistics.js';
import {
  makeBody,
  makeHeaders,
  queuesOf,
  type Client,
  type Measurement,
  type Peer,
  type Task,
} from './task.js';

export interface Scenario {
  readonly name: string;
  readonly work: 'consume' | 'publish';
  readonly window: number;
  readonly clients: readonly [measured: Client, against: Client];
  /** Default: 100. */
  readonly bodyBytes?: number;
}

/** What peers are measured in, each against the raw client. */
export const peerScenarios = (peer: Peer): readonly Scenario[] => [
  { name: `${peer}: consume, prefetch 1 / raw`, work: 'consume', window: 1, clients: [peer, 'raw'] },
  { name: `${peer}: consume, prefetch 50 / raw`, work: 'consume', window: 50, clients: [peer, 'raw'] },
  { name: `${peer}: confirmed publish, 100 / raw`, work: 'publish', window: 100, clients: [peer, 'raw'] },
];

/** Where messages go to and come from. */
export interface Target extends Login {
  /** A queue never runs empty: it has its last message without end. */
  readonly isEndless?: boolean;
}

export const scenarios: readonly Scenario[] = [
  { name: 'consume inline, prefetch 1 / raw', work: 'consume', window: 1, clients: ['ours', 'raw'] },
  { name: 'consume inline, prefetch 50 / raw', work: 'consume', window: 50, clients: ['ours', 'raw'] },
  { name: 'consume inline, prefetch 500 / raw', work: 'consume', window: 500, clients: ['ours', 'raw'] },
  {
    ...{ name: 'consume inline, prefetch 50, 10 kB / raw', work: 'consume', window: 50, bodyBytes: 10_000 },
    clients: ['ours', 'raw'],
  },
  {
    ...{ name: 'consume inline, prefetch 10, 1 MB / raw', work: 'consume', window: 10, bodyBytes: 1_000_000 },
    clients: ['ours', 'raw'],
  },
  {
    ...{ name: 'consume inline with metrics, prefetch 50 / without', work: 'consume', window: 50 },
    clients: ['metered', 'ours'],
  },
  { name: 'consume in a worker, prefetch 1 / raw', work: 'consume', window: 1, clients: ['workers', 'raw'] },
  {
    name: 'consume in a worker, prefetch 50 / inline',
    work: 'consume',
    window: 50,
    clients: ['workers', 'ours'],
  },
  {
    name: 'consume in a worker, prefetch 50 / raw',
    work: 'consume',
    window: 50,
    clients: ['workers', 'raw'],
  },
  {
    ...{ name: 'consume in a worker, prefetch 50, 50 kB / inline', work: 'consume', window: 50 },
    ...{ bodyBytes: 50_000, clients: ['workers', 'ours'] },
  },
  {
    ...{ name: 'consume in a worker, prefetch 4, 10 MB / inline', work: 'consume', window: 4 },
    ...{ bodyBytes: 10_000_000, clients: ['workers', 'ours'] },
  },
  {
    ...{ name: 'consume in a worker with metrics, prefetch 50 / without', work: 'consume', window: 50 },
    clients: ['metered workers', 'workers'],
  },
  { name: 'confirmed publish, window 1 / raw', work: 'publish', window: 1, clients: ['ours', 'raw'] },
  { name: 'confirmed publish, window 100 / raw', work: 'publish', window: 100, clients: ['ours', 'raw'] },
  { name: 'confirmed publish, window 1000 / raw', work: 'publish', window: 1000, clients: ['ours', 'raw'] },
];

export interface Effort {
  readonly rounds: number;
  /** Measured in each process with one at a time, four times as many with more; half as many go before them. */
  readonly messages: number;
}

/** For filling and emptying queues between measurements: as fast as the broker goes. */
const BULK_WINDOW = 1000;
const BULK_BYTES = 10_000_000;

/** Runs all rounds; resolves with the cells of the table's row. */
export async function measureThroughput(
  scenario: Scenario,
  login: Target,
  effort: Effort,
  peer?: Task['peer'],
): Promise<string[]> {
  const { work, window, clients, bodyBytes = 100 } = scenario;
  const [measured, against] = clients;
  const { rounds } = effort;
  // So that a measurement takes as long: a process is warm after seconds, not after messages.
  const messages = Math.ceil((effort.messages * (window === 1 ? 1 : 4)) / Math.max(1, bodyBytes / 5000));
  const queue = `bench-${randomBytes(6).toString('hex')}`;
  const shared = { work, window, login, peer, queue, messages, warmUp: Math.ceil(messages / 2), bodyBytes };
  const ours: Measurement[] = [];
  const others: Measurement[] = [];
  for (let round = 0; round < rounds; round++) {
    const turns = [
      async () => ours.push(await measure({ ...shared, client: measured })),
      async () => others.push(await measure({ ...shared, client: against })),
    ];
    for (const turn of round % 2 === 0 ? turns : turns.reverse()) await turn();
  }
  return [scenario.name, ...compareMeasurements(ours, others)];
}

/** The cells of a row: ratios and figures of rates and of processor time. */
export function compareMeasurements(ours: readonly Measurement[], others: readonly Measurement[]): string[] {
  return [
    ...compare(
      ours,
      others,
      ({ messagesPerSecond }) => messagesPerSecond,
      (rate) => Math.round(rate).toLocaleString('en'),
    ),
    ...compare(
      ours,
      others,
      ({ cpuMicrosPerMessage }) => cpuMicrosPerMessage,
      (micros) => micros.toFixed(1),
    ),
  ];
}

function compare(
  ours: readonly Measurement[],
  others: readonly Measurement[],
  pick: (measurement: Measurement) => number,
  format: (value: number) => string,
): [ratio: string, figures: string] {
  const ratios = ours.map((measurement, round) => pick(measurement) / pick(others[round]!));
  return [
    describeRatios(ratios),
    `[${[ours, others].map((all) => format(median(all.map(pick)))).join(' / ')}]`,
  ];
}

/** Fills the queue that the task takes from, measures, and empties the one that it has filled. */
export async function measure(task: Task): Promise<Measurement> {
  const { bodyBytes = 100, moreHeaders = 0 } = task;
  const { isEndless = false }: Target = task.login;
  const window = Math.max(1, Math.min(BULK_WINDOW, Math.floor(BULK_BYTES / bodyBytes)));
  const bulk = { count: task.warmUp + task.messages, window, prefetch: window };
  const { before, after } = queuesOf(task);
  if (before !== undefined)
    await withRawClient(task.login, (client) => {
      const lines = Object.entries(makeHeaders(moreHeaders)).map(([name, value]) => `${name}:${value}\n`);
      client.moreLines = lines.join('');
      const count = isEndless ? 1 : bulk.count;
      return publishAll(client, before, { ...bulk, count }, (index) => makeBody(index, bodyBytes));
    });
  const { PATH, HOME } = process.env;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [...process.execArgv, join(import.meta.dirname, 'measured-process.js'), JSON.stringify(task)],
    // There is a line of log for each dead letter.
    { env: { PATH, HOME }, maxBuffer: Infinity },
  );
  if (after !== undefined && !isEndless)
    await withRawClient(task.login, (client) => consumeAll(client, after, bulk));
  return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Measurement;
}

async function withRawClient(login: Login, work: (client: RawClient) => Promise<void>): Promise<void> {
  const client = await RawClient.open(login);
  await work(client);
  await client.close();
}
