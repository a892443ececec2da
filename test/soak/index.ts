/**
 * `npm run soak`: random faults, one after the other, against a pair of consumers and a publisher under load. It prints
 * what each kind of fault cost and fails when a message was lost or the memory of the consumer that lived through all of
 * it grew.
 *
 *     npm run soak -- [--minutes <n>] [--broker rabbitmq|activemq] [--seed <n>]
 */
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { formatTable, median } from '../../bench/statistics.js';
import { activemqMissing, startActivemq } from '../support/activemq.js';
import { rabbitmqMissing, startRabbitmq } from '../support/rabbitmq.js';
import { createRandom, faults, pickFault, type Random } from './faults.js';
import { openScene, type Scene } from './scene.js';

const products = [
  { name: 'rabbitmq', missing: rabbitmqMissing, start: startRabbitmq },
  { name: 'activemq', missing: activemqMissing, start: startActivemq },
] as const;

/** Between two faults, so that there is a load to disturb again. */
const CALM_MS = 1000;
const SAMPLE_MS = 1000;
const SAMPLES_PER_MINUTE = 60_000 / SAMPLE_MS;
/** What the memory may grow by from the first minute to the last. */
const MAX_GROWTH = 0.1;

interface Cost {
  times: number;
  repeated: number;
  slowestMs: number;
}

class UsageError extends Error {}

function readOptions(args: string[]) {
  const options = {
    minutes: { type: 'string', default: '10' },
    broker: { type: 'string' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  } as const;
  const { minutes, broker, seed } = parseArgs({ args, options }).values;
  const product = products.find(({ name, missing }) =>
    broker === undefined ? missing() === undefined : name === broker,
  );
  if (product === undefined)
    throw new UsageError(`--broker is one of ${products.map(({ name }) => name).join(', ')}`);
  const missing = product.missing();
  if (missing !== undefined) throw new UsageError(missing);
  if (!(Number(minutes) > 0)) throw new UsageError(`--minutes takes a number above 0, not ${minutes}`);
  if (!/^\d+$/.test(seed)) throw new UsageError(`--seed takes a whole number, not ${seed}`);
  return { product, minutes: Number(minutes), seed: Number(seed) };
}

/** Strikes until the time is over; resolves with the cost of each kind. */
async function strikeAll(scene: Scene, minutes: number, random: Random): Promise<Map<string, Cost>> {
  const costs = new Map(faults.map(({ name }) => [name, { times: 0, repeated: 0, slowestMs: 0 }]));
  const endMs = performance.now() + minutes * 60_000;
  while (performance.now() < endMs) {
    await delay(CALM_MS + random(3 * CALM_MS));
    const fault = pickFault(random);
    const cost = costs.get(fault.name)!;
    const repeatedBefore = scene.ledger.repeated;
    await fault.strike(scene, random);
    const sinceMs = performance.now();
    await scene.recovered();
    const recoveryMs = performance.now() - sinceMs;
    cost.times++;
    cost.slowestMs = Math.max(cost.slowestMs, recoveryMs);
    cost.repeated += scene.ledger.repeated - repeatedBefore;
    console.log(
      `${new Date().toISOString()} ${fault.name}: recovered in ${(recoveryMs / 1000).toFixed(1)} s`,
    );
  }
  return costs;
}

async function soak({ product, minutes, seed }: ReturnType<typeof readOptions>): Promise<string[]> {
  await using broker = await product.start();
  console.log(`${broker.name} ${broker.version}, ${minutes} minutes, --seed ${seed}\n`);
  const scene = await openScene(broker);
  const memory: number[] = [];
  const sampling = setInterval(() => memory.push(scene.memoryMib() ?? NaN), SAMPLE_MS);
  const costs = await strikeAll(scene, minutes, createRandom(seed)).finally(() => clearInterval(sampling));
  const problems = await scene.close();
  const { ledger } = scene;
  const rows = [...costs].map(([name, { times, repeated, slowestMs }]) => [
    ...[name, String(times), String(repeated)],
    times === 0 ? '' : `${(slowestMs / 1000).toFixed(1)} s`,
  ]);
  console.log(`\n${formatTable([['fault', 'times', 'repeated', 'slowest recovery'], ...rows])}\n`);
  console.log(
    `${ledger.published} messages, ${ledger.lost} lost, ${ledger.repeated} repeated; ` +
      `${scene.resent()} were published again because nobody confirmed them`,
  );
  const first = median(memory.slice(0, SAMPLES_PER_MINUTE));
  const last = median(memory.slice(-SAMPLES_PER_MINUTE));
  const growth = last / first - 1;
  const minutely = Array.from({ length: Math.ceil(memory.length / SAMPLES_PER_MINUTE) }, (_, minute) =>
    median(memory.slice(minute * SAMPLES_PER_MINUTE, (minute + 1) * SAMPLES_PER_MINUTE)).toFixed(0),
  );
  console.log(
    `memory of the consumer that lived through all, in MiB, minute by minute: ${minutely.join(' ')} ` +
      `(from the first to the last: ${(growth * 100).toFixed(1)} %)`,
  );
  if (!(growth <= MAX_GROWTH)) problems.push(`its memory grew by more than ${MAX_GROWTH * 100} %`);
  return problems;
}

try {
  const problems = await soak(readOptions(process.argv.slice(2)));
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
} catch (error) {
  const isUsage =
    error instanceof UsageError || (error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS');
  console.error(isUsage === true ? (error as Error).message : error);
  // What runs still, a consumer that did not recover above all, ends with this process.
  process.exit(isUsage === true ? 2 : 1);
}
