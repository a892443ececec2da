/**
 * `npm run bench`: ours against a hand-written socket client, broker by broker, in one run on one machine. It prints
 * ratios and asserts nothing. Brokers are private ones, started here, or those of TEST_<NAME>_URL.
 *
 *     npm run bench -- [--broker <name>] [--only consume|publish|hand-over|lines|start|endurance] [--rounds <n>]
 *                      [--messages <n>] [--peers] [--scenario <part of its name>]
 *     npm run bench -- --against script [--growth] [--scenario <part of its name>]
 *
 * --against script: no broker but a server that floods its client, so that the client is what is measured, also on a noisy
 * machine. --growth: what a message costs there the larger, the more, the longer. --peers: libraries that others use, against
 * the raw client; they are installed for that into a folder of this run. Those that speak AMQP need a RabbitMQ of ours.
 *
 * --cpu-prof and other flags of Node (`node --cpu-prof dist/bench/index.js`) are passed on to the measured processes.
 */
import { rmSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { activemqMissing, startActivemq } from '../test/support/activemq.js';
import { type BrokerName, type BrokerUnderTest, brokerUnderTest } from '../test/support/brokers.js';
import { rabbitmqMissing, startRabbitmq } from '../test/support/rabbitmq.js';
import { freePorts } from '../test/support/server-process.js';
import { startEmbeddedProcess } from './embedded-broker.js';
import { measureEndurance } from './endurance.js';
import { startFloodingServer } from './flooding-server.js';
import { measureGrowth } from './growth.js';
import { measureHandOver } from './hand-over.js';
import { measureStart } from './process-start.js';
import { measureLongInput } from './long-input.js';
import { installPeers } from './peers.js';
import { formatTable } from './statistics.js';
import { peers, type Peer } from './task.js';
import { type Effort, measureThroughput, peerScenarios, scenarios, type Target } from './throughput.js';

interface Contender {
  readonly name: BrokerName;
  /** Why it cannot be started here and what to type. */
  readonly missing: () => string | undefined;
  readonly start: () => Promise<BrokerUnderTest & { stop(): Promise<void> }>;
  /** For each measurement about a second's worth. */
  readonly messages: number;
}

const contenders: readonly Contender[] = [
  { name: 'rabbitmq', missing: rabbitmqMissing, start: startRabbitmq, messages: 10_000 },
  { name: 'activemq', missing: activemqMissing, start: startActivemq, messages: 4000 },
  { name: 'embedded', missing: () => undefined, start: startEmbeddedProcess, messages: 20_000 },
];

const works = ['consume', 'publish', 'hand-over', 'lines', 'start', 'endurance'] as const;

const throughputHead = ['ratio', 'rate', '[messages/s]', 'CPU per message', '[us]'];

interface Options {
  readonly contenders: readonly Contender[];
  readonly works: readonly string[];
  readonly rounds: number;
  readonly messages: number | undefined;
  /** Of consuming and publishing, only those whose name has this in it. */
  readonly scenario: string;
  readonly isScripted: boolean;
  readonly isGrowing: boolean;
  readonly hasPeers: boolean;
}

class UsageError extends Error {}

function readOptions(args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      broker: { type: 'string' },
      only: { type: 'string' },
      against: { type: 'string' },
      peers: { type: 'boolean', default: false },
      growth: { type: 'boolean', default: false },
      rounds: { type: 'string', default: '5' },
      messages: { type: 'string' },
      scenario: { type: 'string', default: '' },
    },
  });
  const { broker, only, against, rounds, messages, scenario } = values;
  if (against !== undefined && against !== 'script') throw new UsageError('--against takes: script');
  const chosen = contenders.filter(({ name }) => broker === undefined || name === broker);
  if (chosen.length === 0)
    throw new UsageError(`--broker is one of ${contenders.map(({ name }) => name).join(', ')}`);
  const hasScenarios = (work: string) => chosenScenarios([work], scenario).length > 0;
  const chosenWorks = works.filter(
    (work) => (only === undefined || work === only) && (scenario === '' || hasScenarios(work)),
  );
  if (chosenWorks.length === 0) {
    const names = scenarios.map(({ name }) => name).join('\n  ');
    throw new UsageError(`--only is one of ${works.join(', ')}; --scenario a part of\n  ${names}`);
  }
  return {
    contenders: chosen,
    works: chosenWorks,
    rounds: readCount('--rounds', rounds),
    messages: messages === undefined ? undefined : readCount('--messages', messages),
    scenario,
    isScripted: against === 'script' || values.growth,
    isGrowing: values.growth,
    hasPeers: values.peers,
  };
}

function readCount(flag: string, text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text))
    throw new UsageError(`${flag} takes a whole number from 1 up, not ${text}`);
  return Number(text);
}

async function benchBroker(contender: Contender, options: Options): Promise<void> {
  const { name, missing, start } = contender;
  const given = brokerUnderTest(name);
  const reason = given === undefined ? missing() : undefined;
  if (reason !== undefined) {
    console.log(`${name}: left out: ${reason}\n`);
    return;
  }
  const own = given === undefined ? await start() : undefined;
  const broker = given ?? own!;
  const effort = { rounds: options.rounds, messages: options.messages ?? contender.messages };
  try {
    console.log(`${name} ${broker.version}\n`);
    await compareThroughput(broker, options, effort);
    if (options.hasPeers) await comparePeers(broker, effort);
    if (options.works.includes('hand-over')) {
      const rows = await measureHandOver(broker, effort);
      console.log(`${formatTable([throughputHead, ...rows])}\n`);
    }
    if (options.works.includes('lines')) {
      // A transaction of many is larger than what a test broker may use of memory.
      await own?.ctl?.('set_vm_memory_high_watermark', 'absolute', '8GB');
      const rows = await measureLongInput(broker, effort.rounds, effort.messages);
      console.log(`${formatTable(rows)}\n`);
    }
    if (options.works.includes('start')) {
      const rows = await measureStart(broker, effort.rounds);
      console.log(`${formatTable([['command', 'median'], ...rows])}\n`);
    }
    if (name === 'embedded' && options.works.includes('endurance')) {
      console.log(`${formatTable(await measureEndurance())}\n`);
    }
  } finally {
    await own?.stop();
  }
}

/** A client that does not get on with this broker is named and left out. */
async function comparePeers(broker: BrokerUnderTest, effort: Effort): Promise<void> {
  const folder = await installPeers();
  try {
    const amqpPort = broker.ctl === undefined ? undefined : await openAmqp(broker.ctl);
    const chosen = peers.filter((peer) => amqpPort !== undefined || !amqpPeers.has(peer));
    const rows: string[][] = [];
    for (const scenario of chosen.flatMap(peerScenarios)) {
      const peer = { folder, amqpPort: amqpPort ?? 0 };
      rows.push(
        await measureThroughput(scenario, broker, effort, peer).catch((error: unknown) => [
          scenario.name,
          `left out: ${(error as Error).message.split('\n').at(-1) ?? ''}`,
        ]),
      );
    }
    console.log(`${formatTable([throughputHead, ...rows])}\n`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const amqpPeers: ReadonlySet<string> = new Set<Peer>(['amqplib', '@cloudamqp/amqp-client']);

/** A RabbitMQ of ours listens for STOMP alone until then. */
async function openAmqp(ctl: NonNullable<BrokerUnderTest['ctl']>): Promise<number> {
  const [port = 0] = await freePorts(1);
  await ctl('eval', `rabbit_networking:start_tcp_listener({"127.0.0.1", ${port}}, 1).`);
  return port;
}

/** Without a broker. */
async function benchScript(options: Options): Promise<void> {
  const { rounds, messages = 25_000, isGrowing } = options;
  const server = await startFloodingServer();
  try {
    console.log(`${server.name} ${server.version}\n`);
    if (isGrowing) console.log(`${formatTable(await measureGrowth(server))}\n`);
    else await compareThroughput(server, options, { rounds, messages });
  } finally {
    await server.stop();
  }
}

const chosenScenarios = (works: readonly string[], part: string) =>
  scenarios.filter(({ work, name }) => works.includes(work) && name.includes(part));

async function compareThroughput(login: Target, options: Options, effort: Effort): Promise<void> {
  const chosen = chosenScenarios(options.works, options.scenario);
  if (chosen.length === 0) return;
  const rows: string[][] = [];
  for (const scenario of chosen) rows.push(await measureThroughput(scenario, login, effort));
  console.log(`${formatTable([throughputHead, ...rows])}\n`);
}

try {
  const options = readOptions(process.argv.slice(2));
  console.log(
    `medians of ${options.rounds} rounds; in parentheses the least and the greatest ratio of a round; 100-byte persistent\n` +
      'messages. Figures in [brackets] are of this machine at this hour and noisy: compare the ratios.\n',
  );
  if (options.isScripted) await benchScript(options);
  else for (const contender of options.contenders) await benchBroker(contender, options);
} catch (error) {
  const isUsage =
    error instanceof UsageError || (error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS');
  console.error(isUsage === true ? (error as Error).message : error);
  process.exitCode = isUsage === true ? 2 : 1;
}
