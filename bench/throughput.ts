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
import { makeBody, type Client, type Measurement, type Task } from './task.js';

export interface Scenario {
  readonly name: string;
  readonly work: Task['work'];
  readonly window: number;
  readonly clients: readonly [measured: Client, against: Client];
}

export const scenarios: readonly Scenario[] = [
  { name: 'consume inline, prefetch 1 / raw', work: 'consume', window: 1, clients: ['ours', 'raw'] },
  { name: 'consume inline, prefetch 50 / raw', work: 'consume', window: 50, clients: ['ours', 'raw'] },
  { name: 'consume in a worker, prefetch 1 / raw', work: 'consume', window: 1, clients: ['workers', 'raw'] },
  {
    name: 'consume in a worker, prefetch 50 / inline',
    work: 'consume',
    window: 50,
    clients: ['workers', 'ours'],
  },
  { name: 'confirmed publish, window 100 / raw', work: 'publish', window: 100, clients: ['ours', 'raw'] },
];

export interface Effort {
  readonly rounds: number;
  /** Measured in each process with one at a time, four times as many with more; half as many go before them. */
  readonly messages: number;
}

/** For filling and emptying queues between measurements: as fast as the broker goes. */
const BULK_WINDOW = 1000;

/** Runs all rounds; resolves with the cells of the table's row. */
export async function measureThroughput(scenario: Scenario, login: Login, effort: Effort): Promise<string[]> {
  const { work, window, clients } = scenario;
  const [measured, against] = clients;
  const { rounds } = effort;
  // So that a measurement takes as long: a process is warm after seconds, not after messages.
  const messages = effort.messages * (window === 1 ? 1 : 4);
  const queue = `bench-${randomBytes(6).toString('hex')}`;
  const shared = { work, window, login, queue, messages, warmUp: Math.ceil(messages / 2) };
  const ours: Measurement[] = [];
  const others: Measurement[] = [];
  for (let round = 0; round < rounds; round++) {
    const turns = [
      async () => ours.push(await measure({ ...shared, client: measured })),
      async () => others.push(await measure({ ...shared, client: against })),
    ];
    for (const turn of round % 2 === 0 ? turns : turns.reverse()) await turn();
  }
  return [
    scenario.name,
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

async function measure(task: Task): Promise<Measurement> {
  const bulk = { count: task.warmUp + task.messages, window: BULK_WINDOW, prefetch: BULK_WINDOW };
  if (task.work === 'consume') {
    await withRawClient(task.login, (client) => publishAll(client, task.queue, bulk, makeBody));
  }
  const { PATH, HOME } = process.env;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [...process.execArgv, join(import.meta.dirname, 'measured-process.js'), JSON.stringify(task)],
    { env: { PATH, HOME } },
  );
  if (task.work === 'publish') {
    await withRawClient(task.login, (client) => consumeAll(client, task.queue, bulk));
  }
  return JSON.parse(stdout) as Measurement;
}

async function withRawClient(login: Login, work: (client: RawClient) => Promise<void>): Promise<void> {
  const client = await RawClient.open(login);
  await work(client);
  await client.close();
}
