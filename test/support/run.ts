/**
 * `npm test`: starts the brokers, runs the test files, stops the brokers and says which were exercised. The last line
 * is `N passed, N failed, N skipped`. Arguments choose folders or files of test/ (`unit`, `test/e2e/publish.test.ts`).
 * TEST_BROKERS (`rabbitmq,activemq,embedded`) names the brokers that must run; unset, those that this machine has do.
 */
import { setMaxListeners } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import type { Duplex } from 'node:stream';
import { finished } from 'node:stream/promises';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { activemqMissing, startActivemq } from './activemq.js';
import { type BrokerFacts, type BrokerName, describeBroker, exportBroker, factsFromUrl } from './brokers.js';
import { startEmbeddedBroker } from '../../src/embedded/broker.js';
import { packageRoot } from './process.js';
import { rabbitmqMissing, startRabbitmq } from './rabbitmq.js';
import { withRaw } from './raw-client.js';

interface Product {
  /** Why it cannot be started here and what to type. */
  readonly missing: () => string | undefined;
  readonly start: () => Promise<Started>;
}

interface Started {
  readonly facts: BrokerFacts;
  stop(): Promise<void>;
}

const products: Record<BrokerName, Product> = {
  rabbitmq: { missing: rabbitmqMissing, start: () => startRabbitmq() },
  activemq: { missing: activemqMissing, start: startActivemq },
  embedded: { missing: () => undefined, start: startEmbedded },
};

/** In this process; with a passcode that needs escaping elsewhere in STOMP, as the others have. */
async function startEmbedded(): Promise<Started> {
  const login = { user: 'app', password: ':=123' };
  const broker = await startEmbeddedBroker(login);
  const { host, port } = broker;
  return {
    facts: { name: 'embedded', version: 'of this checkout', host, port, ...login },
    stop: () => broker.close(),
  };
}

const folders = ['unit', 'conformance', 'e2e', 'faults'];
/** Two brokers and their clients want a processor too. */
const CONCURRENCY = 2;
/** Of one file on Node 20, of one test on later ones; above the deadlines inside, so that these speak first. */
const FILE_TIMEOUT_MS = 300_000;
/** Of all: a file that passed and does not end holds the run up to here. */
const RUN_TIMEOUT_MS = 1_800_000;

interface Participant {
  readonly name: BrokerName;
  readonly facts?: BrokerFacts;
  readonly own?: Started;
  /** Why it does not take part. */
  readonly absent?: string;
}

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

class UsageError extends Error {}

async function main(): Promise<void> {
  const interruption = new AbortController();
  // Node's runner listens to it once for each file.
  setMaxListeners(0, interruption.signal);
  const overtime = () => interruption.abort(new Error(`not ended within ${RUN_TIMEOUT_MS} ms`));
  setTimeout(overtime, RUN_TIMEOUT_MS).unref();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => interruption.abort(new Error(`ended by ${signal}`)));
  }
  const files = testFiles(process.argv.slice(2));
  const required = requiredBrokers();
  const participants = await participate(required, files);
  let counts: Counts;
  try {
    for (const { facts } of participants) if (facts) Object.assign(process.env, exportBroker(facts));
    counts = await runFiles(files, interruption.signal);
  } finally {
    await stopAll(participants);
  }
  for (const { name, facts, absent } of participants) {
    console.log(facts ? `${name} ${facts.version}: exercised` : `${name}: not exercised: ${absent ?? ''}`);
  }
  console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  const isGood = counts.failed === 0 && counts.passed > 0 && !interruption.signal.aborted;
  process.exitCode = isGood ? 0 : 1;
}

/** The compiled files of the tests chosen; a file left over in dist/ from a test that is gone is none of them. */
function testFiles(args: string[]): string[] {
  const test = join(packageRoot, 'test');
  const all = folders
    .filter((folder) => existsSync(join(test, folder)))
    .flatMap((folder) =>
      (readdirSync(join(test, folder), { recursive: true }) as string[]).map((name) => join(folder, name)),
    )
    .filter((name) => name.endsWith('.test.ts'))
    .sort();
  const chosen =
    args.length === 0
      ? all
      : args.flatMap((arg) => {
          const wanted = arg
            .replace(/^(?:\.\/)?(?:dist\/)?(?:test\/)?/, '')
            .replace(/\.js$/, '.ts')
            .replace(/\/$/, '');
          const found = all.filter((name) => name === wanted || name.startsWith(wanted + sep));
          if (found.length === 0 && !folders.includes(wanted)) throw new UsageError(`no tests in ${arg}`);
          return found;
        });
  return [...new Set(chosen)].map((name) => join(packageRoot, 'dist/test', name.replace(/\.ts$/, '.js')));
}

function requiredBrokers(): ReadonlySet<BrokerName> {
  const known = Object.keys(products);
  const names = (process.env.TEST_BROKERS ?? '').split(',').filter((name) => name !== '');
  for (const name of names) {
    if (!known.includes(name)) throw new UsageError(`TEST_BROKERS: "${name}" is none of ${known.join(', ')}`);
  }
  return new Set(names as BrokerName[]);
}

/** Starts or finds all brokers of this run, in parallel. Rejects when one fails or is required and missing. */
async function participate(required: ReadonlySet<BrokerName>, files: string[]): Promise<Participant[]> {
  const needBrokers = files.some(
    (file) => !relative(join(packageRoot, 'dist/test'), file).startsWith('unit'),
  );
  const take = async (name: BrokerName, product: Product): Promise<Participant> => {
    const given = factsFromUrl(name);
    if (given !== undefined) return { name, facts: await reach(given) };
    const missing = product.missing();
    if (missing !== undefined && required.has(name)) throw new UsageError(`${name} is required: ${missing}`);
    if (missing !== undefined) return { name, absent: missing };
    if (required.size > 0 && !required.has(name)) return { name, absent: 'not named in TEST_BROKERS' };
    if (!needBrokers && !required.has(name)) return { name, absent: 'the tests chosen need none' };
    const own = await product.start();
    return { name, own, facts: own.facts };
  };
  const results = await Promise.allSettled(
    Object.entries(products).map(([name, product]) => take(name as BrokerName, product)),
  );
  const participants = results.filter((result) => result.status === 'fulfilled').map(({ value }) => value);
  const failure = results.find((result) => result.status === 'rejected');
  if (failure === undefined) return participants;
  await stopAll(participants);
  throw failure.reason;
}

async function stopAll(participants: readonly Participant[]): Promise<void> {
  await Promise.all(participants.flatMap(({ own }) => (own === undefined ? [] : [own.stop()])));
}

/** The user's own broker, which must answer. */
async function reach(facts: BrokerFacts): Promise<BrokerFacts> {
  try {
    const version = await withRaw(describeBroker(facts), (client) => Promise.resolve(client.serverVersion));
    return { ...facts, version };
  } catch (error) {
    throw new Error(`the ${facts.name} given at ${facts.host}:${facts.port} cannot be used`, {
      cause: error,
    });
  }
}

async function runFiles(files: string[], signal: AbortSignal): Promise<Counts> {
  const numbers: Record<string, number> = {};
  const stream = run({ files, concurrency: CONCURRENCY, timeout: FILE_TIMEOUT_MS, signal });
  stream.on('test:diagnostic', ({ message, nesting }) => {
    const [, name, number] = /^(\w+) (\d+)$/.exec(message) ?? [];
    if (nesting === 0 && name !== undefined) numbers[name] = Number(number);
  });
  const report = stream.compose(new spec()) as Duplex;
  report.pipe(process.stdout, { end: false });
  await finished(report);
  const count = (...names: string[]) => names.reduce((sum, name) => sum + (numbers[name] ?? 0), 0);
  return { passed: count('pass'), failed: count('fail', 'cancelled'), skipped: count('skipped', 'todo') };
}

try {
  await main();
} catch (error) {
  console.error(error instanceof UsageError ? error.message : error);
  process.exitCode = 1;
}
