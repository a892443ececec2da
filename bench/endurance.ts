/** What the embedded broker holds: a million messages in one queue, a thousand connections that do nothing. */
import { startEmbeddedProcess } from './embedded-broker.js';
import { consumeAll, publishAll, RawClient } from './raw-client.js';
import { makeBody } from './task.js';

const MESSAGES = 1_000_000;
const CONNECTIONS = 1000;
const WINDOW = 1000;

/** Resolves with the rows of a table: what was done, how fast, and the broker's memory after it. */
export async function measureEndurance(): Promise<string[][]> {
  const broker = await startEmbeddedProcess();
  const rows: string[][] = [];
  const measure = async (what: string, count: number, work: () => Promise<void>) => {
    const startMs = performance.now();
    await work();
    const rate = Math.round(count / ((performance.now() - startMs) / 1000)).toLocaleString('en');
    const { now, most } = broker.memoryMib();
    rows.push([what, count === 0 ? '' : `[${rate}/s]`, `${Math.round(now)} MiB`, `${Math.round(most)} MiB`]);
  };
  try {
    await measure('started', 0, () => Promise.resolve());
    const client = await RawClient.open(broker);
    await measure('1,000,000 messages of 100 bytes published to one queue', MESSAGES, () =>
      publishAll(client, 'endurance', { count: MESSAGES, window: WINDOW }, makeBody),
    );
    await measure('all of them consumed, prefetch 50', MESSAGES, () =>
      consumeAll(client, 'endurance', { count: MESSAGES, prefetch: 50 }),
    );
    const idle: RawClient[] = [];
    await measure('1,000 idle connections opened', CONNECTIONS, async () => {
      while (idle.length < CONNECTIONS) idle.push(await RawClient.open(broker));
    });
    await measure('10,000 messages published beside them', 10_000, () =>
      publishAll(client, 'beside', { count: 10_000, window: 100 }, makeBody),
    );
    await Promise.all([client, ...idle].map((one) => one.close()));
  } finally {
    await broker.stop();
  }
  return [['embedded broker', '[rate]', 'memory', 'most so far'], ...rows];
}
