/**
 * What a message costs against how large it is, how many headers it has, how many are in flight, how many come in one run
 * and how many consumers share the process: processor time, and the most memory. Nothing may grow faster than what it is
 * for. Against the flooding server, which always has a message.
 */
import { randomBytes } from 'node:crypto';
import type { Task, Work } from './task.js';
import { measure, type Target } from './throughput.js';

type Shape = Pick<Task, 'window' | 'bodyBytes' | 'moreHeaders' | 'consumers' | 'messages'>;

interface Axis {
  readonly name: string;
  readonly values: readonly number[];
  readonly shapeOf: (value: number) => Partial<Shape>;
}

const MOST = 60_000;

const axes: readonly Axis[] = [
  {
    name: 'bytes of the body',
    values: [100, 1000, 10_000, 100_000, 1_000_000],
    shapeOf: (bodyBytes) => ({ bodyBytes, messages: Math.min(MOST, Math.ceil(300_000_000 / bodyBytes)) }),
  },
  {
    name: 'more headers',
    values: [0, 10, 50, 200],
    shapeOf: (moreHeaders) => ({
      moreHeaders,
      messages: Math.min(MOST, Math.ceil(1_000_000 / (moreHeaders + 10))),
    }),
  },
  { name: 'in flight', values: [1, 10, 100, 1000], shapeOf: (window) => ({ window }) },
  {
    name: 'messages in one run',
    values: [1000, 10_000, 100_000, 1_000_000],
    shapeOf: (messages) => ({ messages }),
  },
  {
    name: 'consumers in one process',
    values: [1, 4, 16, 64],
    shapeOf: (consumers) => ({ consumers, window: 10 }),
  },
];

/** Resolves with the cells of all rows, after that of the heads. */
export async function measureGrowth(login: Target): Promise<string[][]> {
  const head = ['', 'value', 'consume [us]', '[MiB]', 'publish [us]', '[MiB]'];
  const rows: string[][] = [];
  for (const { name, values, shapeOf } of axes) {
    for (const value of values) {
      const cells = [name, value.toLocaleString('en')];
      for (const work of ['consume', 'publish'] as const)
        cells.push(...(await measureShape(login, work, shapeOf(value))));
      rows.push(cells);
    }
  }
  return [head, ...rows];
}

async function measureShape(login: Target, work: Work, shape: Partial<Shape>): Promise<string[]> {
  if (work === 'publish' && shape.consumers !== undefined) return ['', ''];
  const all = { window: 50, messages: MOST, ...shape };
  const queue = `bench-${randomBytes(6).toString('hex')}`;
  const { cpuMicrosPerMessage, mostMib } = await measure({
    ...{ client: 'ours', work, login, queue, warmUp: Math.ceil(all.messages / 2) },
    ...all,
  });
  return [cpuMicrosPerMessage.toFixed(1), Math.round(mostMib).toString()];
}
