/**
 * The demo: the first steps of a newcomer, walked on an embedded broker in this process and shown on the terminal. Each
 * step says which command a user would type and does the same through the library; at the end the queues must hold what
 * they should.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { styleText } from 'node:util';
import { consume } from '../consume.js';
import type { Payload } from '../consumer/payload.js';
import { startEmbeddedBroker, type EmbeddedBroker } from '../embedded/broker.js';
import { configureLog } from '../log.js';
import { openPublisher } from '../publish.js';
import type { Publisher } from '../sending/publisher.js';
import { hasColors } from '../settings/environment.js';
import { renderDepths } from './broker.js';

const expected: Readonly<Record<string, number>> = {
  xpto: 0,
  'DLQ.xpto': 0,
  calopsita: 5,
  'Consumer.app-A.VirtualTopic.xpto': 0,
  'Consumer.app-B.VirtualTopic.xpto': 0,
  'DLQ.Consumer.app-A.VirtualTopic.xpto': 0,
  'DLQ.Consumer.app-B.VirtualTopic.xpto': 0,
  'nack-queue': 0,
  'DLQ.nack-queue': 1,
  'exception-queue': 0,
  'DLQ.exception-queue': 1,
};

/** Far more than any step needs. */
const STEP_MS = 10_000;

type Style = Parameters<typeof styleText>[0];

let isColored = false;
const styled = (style: Style, text: string): string =>
  isColored ? styleText(style, text, { validateStream: false }) : text;
const say = (text: string): void => void process.stdout.write(`${text}\n`);
/** What a user would type, under an empty line. */
const type = (command: string): void => say(`\n${styled('dim', '$')} ${styled('bold', command)}`);

type Act = (payload: Payload) => unknown;

const message = { key: 'value' };
const ack: Act = (payload) => payload.ack();

/** Resolves when all came out right; throws, and has said what did not, otherwise. */
export async function demo(color?: boolean): Promise<void> {
  isColored = hasColors(process.stdout, color);
  await configureLog({ logLevel: 'silent', logFormat: 'auto', color: undefined });
  const embedded = await startEmbeddedBroker();
  const publisher = openPublisher(settingsFor(embedded));
  say('An in-memory broker runs inside this process.');
  say('What follows works the same on RabbitMQ and ActiveMQ.');
  await showPublishing(embedded, publisher);
  await showConsuming(embedded, publisher);
  await showDeadLetters(embedded, publisher);
  await publisher.close();
  const queues = embedded.queues();
  const filled = renderDepths(queues.filter(({ depth }) => depth > 0));
  say(`\nWhat lies in the queues now:\n${filled.replace(/\d+$/gm, (depth) => styled('yellow', depth))}`);
  await embedded.close();
  verify(queues);
  say(styled('green', 'Everything came out as it should:'));
  say('what was refused or failed waits in a dead-letter queue.');
  say('Next: docker compose up --wait, and the same commands with npx in front.');
}

async function showPublishing(embedded: EmbeddedBroker, publisher: Publisher): Promise<void> {
  type(`publish /queue/xpto '{"key":"value"}'`);
  await publisher.send('/queue/xpto', message);
  say(`  ${styled('green', 'the broker has confirmed the message')}`);

  type('publish /queue/calopsita --lines --transaction < five.ndjson');
  await publisher.transaction(async (transaction) => {
    for (let n = 1; n <= 5; n++) await transaction.send('/queue/calopsita', message);
    say(`  before COMMIT there are ${embedded.depth('calopsita')} messages in calopsita`);
  });
  say(`  after it there are ${embedded.depth('calopsita')}`);
}

async function showConsuming(embedded: EmbeddedBroker, publisher: Publisher): Promise<void> {
  type('pubsub /queue/xpto ./callbacks#ack');
  await consuming(embedded, ['/queue/xpto'], ack, async (received) => received(1));

  const apps = ['Consumer.app-A.VirtualTopic.xpto', 'Consumer.app-B.VirtualTopic.xpto'];
  for (const app of apps) type(`pubsub ${app} ./callbacks#ack`);
  await consuming(embedded, apps, ack, async (received) => {
    type(`publish /topic/VirtualTopic.xpto '{"key":"value"}'`);
    await publisher.send('/topic/VirtualTopic.xpto', message);
    await received(2);
  });
}

async function showDeadLetters(embedded: EmbeddedBroker, publisher: Publisher): Promise<void> {
  const headers = { 'header-key': 'header-value' };
  type('pubsub /queue/nack-queue ./callbacks#nack');
  await publisher.send('/queue/nack-queue', message, { headers });
  const nack: Act = (payload) => payload.nack();
  await consuming(embedded, ['/queue/nack-queue'], nack, async (received) => received(1));

  type('pubsub /queue/exception-queue ./callbacks#fail');
  await publisher.send('/queue/exception-queue', message, { headers });
  const fail = () => {
    throw new Error("won't process!");
  };
  await consuming(embedded, ['/queue/exception-queue'], fail, async (received) => received(1));
}

/** The embedded broker's, whatever the environment says of another one. */
const settingsFor = ({ host, port }: EmbeddedBroker) =>
  ({ host, port, useSsl: false, broker: 'auto' }) as const;

/** Consumes while `work` runs; it may wait until so many messages have been received. */
async function consuming(
  embedded: EmbeddedBroker,
  destinations: readonly string[],
  act: Act,
  work: (received: (count: number) => Promise<void>) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  let [count, subscribed] = [0, 0];
  const consumers = destinations.map((destination) =>
    consume({
      ...settingsFor(embedded),
      destination,
      signal: stop.signal,
      onConnection: ({ kind }) => {
        if (kind === 'subscribed') subscribed++;
      },
      callback: (payload: Payload) => {
        count++;
        say(`  ${styled('cyan', destination)} received ${JSON.stringify(payload.body)}`);
        return act(payload);
      },
    }),
  );
  await poll(() => subscribed === destinations.length, `${destinations.join(', ')} to be subscribed`);
  await work((wanted) => poll(() => count >= wanted, `${wanted} messages from ${destinations.join(', ')}`));
  stop.abort();
  for (const [index, { acked, deadLettered }] of (await Promise.all(consumers)).entries()) {
    const done = deadLettered > 0 ? styled('yellow', `${deadLettered} dead-lettered`) : `${acked} acked`;
    say(`  ${styled('cyan', destinations[index] ?? '')} stopped: ${done}`);
  }
}

async function poll(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + STEP_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`the demo waited in vain for ${what}`);
    await delay(5);
  }
}

function verify(queues: readonly { name: string; depth: number }[]): void {
  const actual = new Map(queues.map(({ name, depth }) => [name, depth]));
  const wrong = Object.entries(expected)
    .filter(([name, depth]) => actual.get(name) !== depth)
    .map(
      ([name, depth]) =>
        `${name} should hold ${depth}, holds ${actual.get(name) ?? 'nothing: there is no such queue'}`,
    );
  if (wrong.length > 0) throw new Error(`the demo did not come out right: ${wrong.join('; ')}`);
}
