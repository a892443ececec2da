/**
 * What a message costs that is sent on before it is acked, against one that is only acked: dead-lettered, tried again and
 * forwarded by a callback, moved and redriven by an operator. All works of a group take turns, in each round another one
 * first, so that what slows the machine down for a while slows all of them down.
 */
import { randomBytes } from 'node:crypto';
import type { Login } from './raw-client.js';
import type { Client, Measurement, Work } from './task.js';
import { compareMeasurements, type Effort, measure } from './throughput.js';

interface Group {
  readonly name: string;
  readonly client: Client;
  readonly window: number;
  /** The first one is what the others are divided by. */
  readonly works: readonly Work[];
}

const works: readonly Work[] = ['consume', 'nack', 'retry', 'forward'];

const groups: readonly Group[] = [
  { name: 'inline, concurrency 1', client: 'ours', window: 1, works },
  { name: 'in a worker, concurrency 1', client: 'workers', window: 1, works },
  {
    name: 'inline, concurrency 50',
    client: 'ours',
    window: 50,
    works: [...works, 'move', 'redrive'],
  },
  { name: 'in a worker, concurrency 50', client: 'workers', window: 50, works },
];

const names: Readonly<Partial<Record<Work, string>>> = {
  nack: 'consume + nack',
  retry: 'consume + one retry',
  forward: 'consume + forward',
  move: 'move-messages',
  redrive: 'redrive',
};

/** Resolves with the cells of one row for each work. */
export async function measureHandOver(login: Login, effort: Effort): Promise<string[][]> {
  const rows: string[][] = [];
  for (const group of groups) rows.push(...(await measureGroup(group, login, effort)));
  return rows;
}

async function measureGroup(
  { name, client, window, works }: Group,
  login: Login,
  { rounds, messages }: Effort,
): Promise<string[][]> {
  const measured = new Map(works.map((work): [Work, Measurement[]] => [work, []]));
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < works.length; turn++) {
      const work = works[(round + turn) % works.length]!;
      const queue = `bench-${randomBytes(6).toString('hex')}`;
      const task = { client, work, login, queue, window, messages, warmUp: Math.ceil(messages / 2) };
      measured.get(work)!.push(await measure(task));
    }
  }
  const [[, alone] = [], ...others] = measured;
  return others.map(([work, all]) => {
    const what = names[work] ?? work;
    return [`${what} / consume ${name}`, ...compareMeasurements(all, alone ?? [])];
  });
}
