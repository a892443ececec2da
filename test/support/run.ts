/**
 * `npm test`: starts the brokers, runs the test files, stops the brokers and says which were exercised. The last line
 * is `N passed, N failed, N skipped`. Arguments choose folders or files of test/ (`unit`, `test/e2e/publish.test.ts`).
 * TEST_BROKERS (`rabbitmq,activemq,artemis,embedded`) names the brokers that must run, and are fetched if they can be;
 * unset, those that this machine has do. TEST_SUMMARY names a file that runs after each other share: what it says is printed
 * before the summary of a run, which is added to it.
 */
import { setMaxListeners } from 'node:events';
import { appendFileSync, existsSync, readFileSync, readdirSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import type { Duplex } from 'node:stream';
import { finished } from 'node:stream/promises';
import { type EventData, run } from 'node:test';
import { spec } from 'node:test/reporters';
import { activemqMissing, fetchActivemq, startActivemq } from './activemq.js';
import { artemisMissing, fetchArtemis, startArtemis } from './artemis.js';
import { type BrokerFacts, type BrokerName, describeBroker, exportBroker, factsFromUrl } from './brokers.js';
import { startEmbeddedBroker } from '../../src/embedded/broker.js';
import { packageRoot } from './process.js';
import { fetchRabbitmq, largeFrames, rabbitmqMissing, startRabbitmq } from './rabbitmq.js';
import { withRaw } from './raw-client.js';

interface Product {
  /** Why it cannot be started here and what to type. */
  readonly missing: () => string | undefined;
  /** Resolves when it can be started, if it is to be had. */
  readonly fetch: () => Promise<void>;
  readonly start: () => Promise<Started>;
}

interface Started {
  readonly facts: BrokerFacts;
  stop(): Promise<void>;
}

const products: Record<BrokerName, Product> = {
  rabbitmq: {
    missing: rabbitmqMissing,
    fetch: fetchRabbitmq,
    start: () => startRabbitmq({ config: largeFrames() }),
  },
  activemq: { missing: activemqMissing, fetch: () => fetchActivemq(), start: () => startActivemq() },
  artemis: { missing: artemisMissing, fetch: fetchArtemis, start: () => startArtemis() },
  embedded: { missing: () => undefined, fetch: () => Promise.resolve(), start: startEmbedded },
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
const FILE_TIMEOUT_MS = 600_000;
/** Of all, which take a quarter of an hour on two processors: a file that passed and does not end holds the run up to here. */
const RUN_TIMEOUT_MS = 2_400_000;

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

/** Of the run, and of the suite that every broker must pass, broker by broker. */
interface Results {
  readonly all: Counts;
  readonly conformance: ReadonlyMap<string, Counts>;
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
  let results: Results;
  try {
    for (const { facts } of participants) if (facts) Object.assign(process.env, exportBroker(facts));
    results = await runFiles(files, interruption.signal);
  } finally {
    await stopAll(participants);
  }
  for (const line of withEarlier(participants.map((each) => describe(each, results)))) console.log(line);
  const { all } = results;
  console.log(inWords(all));
  const isGood = all.failed === 0 && all.passed > 0 && !interruption.signal.aborted;
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
    if (required.has(name)) await fetch(name, product);
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

async function fetch(name: BrokerName, product: Product): Promise<void> {
  try {
    await product.fetch();
  } catch (error) {
    throw new UsageError(`${name} is required: ${(error as Error).message}`, { cause: error });
  }
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

/** What became of one broker. */
function describe({ name, facts, absent }: Participant, { conformance }: Results): string {
  if (facts === undefined) return `${name}: not exercised: ${absent ?? ''}`;
  const counts = conformance.get(name);
  const suite = counts === undefined ? '' : `, conformance: ${inWords(counts)}`;
  return `${name} ${facts.version}: exercised${suite}`;
}

/** After what earlier runs have said of themselves, which this one joins. */
function withEarlier(lines: readonly string[]): readonly string[] {
  const file = process.env.TEST_SUMMARY;
  if (file === undefined || file === '') return lines;
  const earlier = existsSync(file) ? readFileSync(file, 'utf8').trimEnd().split('\n') : [];
  appendFileSync(file, lines.map((line) => `Node ${process.version}: ${line}\n`).join(''));
  return [...earlier, ...lines];
}

const inWords = ({ passed, failed, skipped }: Counts) =>
  `${passed} passed, ${failed} failed, ${skipped} skipped`;

async function runFiles(files: string[], signal: AbortSignal): Promise<Results> {
  const numbers: Record<string, number> = {};
  const { conformance, count } = conformanceCounts();
  const stream = run({ files, concurrency: CONCURRENCY, timeout: FILE_TIMEOUT_MS, signal });
  stream.on('test:diagnostic', ({ message, nesting }) => {
    const [, name, number] = /^(\w+) (\d+)$/.exec(message) ?? [];
    if (nesting === 0 && name !== undefined) numbers[name] = Number(number);
  });
  stream.on('test:pass', (test) => count(test, isSkipped(test) ? 'skipped' : 'passed'));
  stream.on('test:fail', (test) => count(test, 'failed'));
  const report = stream.compose(new spec()) as Duplex;
  report.pipe(process.stdout, { end: false });
  await finished(report);
  const sum = (...names: string[]) => names.reduce((total, name) => total + (numbers[name] ?? 0), 0);
  const all = { passed: sum('pass'), failed: sum('fail', 'cancelled'), skipped: sum('skipped', 'todo') };
  return { all, conformance };
}

const isSkipped = ({ skip, todo }: EventData.TestPass) => skip !== undefined || todo !== undefined;

/** What the tests of one file come to is told before the outermost suite that they are in. */
function conformanceCounts() {
  const conformance = new Map<string, Counts>();
  const none: Counts = { passed: 0, failed: 0, skipped: 0 };
  let counts = { ...none };
  const count = (
    { name, details, nesting }: EventData.TestPass | EventData.TestFail,
    result: keyof Counts,
  ) => {
    if (nesting > 0) {
      if (details.type !== 'suite') counts[result]++;
      return;
    }
    const broker = /^conformance: (\w+)$/.exec(name)?.[1];
    if (broker !== undefined) conformance.set(broker, counts);
    counts = { ...none };
  };
  return { conformance, count };
}

try {
  await main();
} catch (error) {
  console.error(error instanceof UsageError ? error.message : error);
  process.exitCode = 1;
}
