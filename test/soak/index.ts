/**
 * `npm run soak`: random faults, one after the other, against a pair of consumers and a publisher under load. It prints
 * what each kind of fault cost and fails when a message was lost or the memory of the consumer that lived through all of
 * it grew. With `--callbacks` the faults are those of callbacks instead: they exhaust their memory, crash, exit, block,
 * print without end, settle nothing, and no consumer may lose its connection by that.
 *
 *     npm run soak -- [--minutes <n>] [--broker rabbitmq|activemq] [--seed <n>] [--callbacks]
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
    callbacks: { type: 'boolean', default: false },
  } as const;
  const { minutes, broker, seed, callbacks } = parseArgs({ args, options }).values;
  const product = products.find(({ name, missing }) =>
    broker === undefined ? missing() === undefined : name === broker,
  );
  if (product === undefined)
    throw new UsageError(`--broker is one of ${products.map(({ name }) => name).join(', ')}`);
  const missing = product.missing();
  if (missing !== undefined) throw new UsageError(missing);
  if (!(Number(minutes) > 0)) throw new UsageError(`--minutes takes a number above 0, not ${minutes}`);
  if (!/^\d+$/.test(seed)) throw new UsageError(`--seed takes a whole number, not ${seed}`);
  return { product, minutes: Number(minutes), seed: Number(seed), isHostile: callbacks };
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

/** Lets callbacks misbehave until the time is over; what they do comes with the messages. */
async function letMisbehave(scene: Scene, minutes: number): Promise<void> {
  const endMs = performance.now() + minutes * 60_000;
  while (performance.now() < endMs) {
    await delay(10 * CALM_MS);
    await scene.recovered();
    const deeds = [...scene.deeds.values()].reduce((sum, count) => sum + count, 0);
    console.log(`${new Date().toISOString()} ${scene.ledger.processed} processed, ${deeds} misbehaved`);
  }
}

function describeDeeds(scene: Scene): string {
  const rows = [...scene.deeds].map(([deed, count]) => [deed, String(count)]);
  return `${formatTable([['a callback that', 'messages'], ...rows])}\n\n${scene.connections()} connections of 2 consumers`;
}

async function soak({
  product,
  minutes,
  seed,
  isHostile,
}: ReturnType<typeof readOptions>): Promise<string[]> {
  await using broker = await product.start();
  console.log(`${broker.name} ${broker.version}, ${minutes} minutes, --seed ${seed}\n`);
  const scene = await openScene(broker, isHostile);
  const memory: number[] = [];
  const sampling = setInterval(() => {
    memory.push(scene.memoryMib() ?? NaN);
    scene.connections();
  }, SAMPLE_MS);
  const run = isHostile
    ? letMisbehave(scene, minutes).then(() => new Map<string, Cost>())
    : strikeAll(scene, minutes, createRandom(seed));
  const costs = await run.finally(() => clearInterval(sampling));
  const problems = await scene.close();
  if (isHostile && scene.connections() !== 2) problems.push('a consumer has lost its connection');
  const { ledger } = scene;
  const rows = [...costs].map(([name, { times, repeated, slowestMs }]) => [
    ...[name, String(times), String(repeated)],
    times === 0 ? '' : `${(slowestMs / 1000).toFixed(1)} s`,
  ]);
  const table = () => formatTable([['fault', 'times', 'repeated', 'slowest recovery'], ...rows]);
  console.log(`\n${isHostile ? describeDeeds(scene) : table()}\n`);
  console.log(
    `${ledger.published} messages, ${ledger.lost} lost, ${ledger.repeated} repeated; ` +
      `${scene.resent()} were published again because nobody confirmed them`,
  );
  // What is printed without end fills its buffers, once, in the first minute.
  const start = isHostile ? SAMPLES_PER_MINUTE : 0;
  const first = median(memory.slice(start, start + SAMPLES_PER_MINUTE));
  const last = median(memory.slice(-SAMPLES_PER_MINUTE));
  const growth = last / first - 1;
  const minutely = Array.from({ length: Math.ceil(memory.length / SAMPLES_PER_MINUTE) }, (_, minute) =>
    median(memory.slice(minute * SAMPLES_PER_MINUTE, (minute + 1) * SAMPLES_PER_MINUTE)).toFixed(0),
  );
  console.log(
    `memory of the consumer that lived through all, in MiB, minute by minute: ${minutely.join(' ')} ` +
      `(from the ${isHostile ? 'second' : 'first'} to the last: ${(growth * 100).toFixed(1)} %)`,
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
