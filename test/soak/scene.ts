/**
 * What the soak happens to: a private broker behind a proxy, a publisher that repeats whatever was not confirmed, and two
 * consumers in processes of their own, one of which may be killed. The ledger has a line for each call of a callback.
 * With hostile callbacks some messages say how to end the process they run in: each of those must be dead-lettered.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';
import { openPublisher, PubsubError } from '../../src/index.js';
import { settingsOf } from '../support/consuming.js';
import { followFile, Ledger } from '../support/ledger.js';
import { drainQueue } from '../support/messages.js';
import type { Frame } from '../../src/stomp/frames.js';
import type { OwnBroker } from '../support/own-broker.js';
import { packageRoot, startProgram, type Running } from '../support/process.js';
import { startProxy, type Proxy } from '../support/proxy.js';
import { until } from '../support/until.js';

const QUEUE = '/queue/soak';
const CONCURRENCY = 10;
/** A batch each 100 ms: 500 messages a second, a tenth of what the pair can do. */
const BATCH = 50;
const BATCH_MS = 100;
const COMPLETE_MS = 60_000;
/** Each of these ends, blocks or floods a worker: so many messages lie between two. */
const DEEDS: Readonly<Record<string, readonly string[]>> = {
  // On a loaded machine it does not come to the end of its memory in time.
  'grows an array': ['out-of-memory', 'timeout'],
  'ends by SIGSEGV': ['callback-crashed'],
  exits: ['callback-exited'],
  'loops for ever': ['timeout'],
  'prints without end': ['timeout'],
  'settles nothing': ['unsettled'],
};
const DEED_EVERY = 400;
/** For workers that start all the time. */
const HOSTILE_BATCH = 10;
const hostileFlags = ['--worker-heap', '64', '--timeout', '2'];
/** Left to itself V8 lets some MB of garbage gather for minutes, in each process: it would hide what stays. */
const collecting = [
  ...['--max-semi-space-size=1', '--expose-gc'],
  ...['--import', pathToFileURL(join(packageRoot, 'test/fixtures/collect.mjs')).href],
];
const quiet = () => undefined;
const noLog = { debug: quiet, info: quiet, warn: quiet, error: quiet, isLevelEnabled: () => false };
/** Short, so that each fault is noticed before the next one. */
const beats = { outgoingHeartbeatMs: 1000, incomingHeartbeatMs: 1000, connectTimeoutSeconds: 2 };

export interface Scene {
  readonly broker: OwnBroker;
  readonly proxy: Proxy;
  readonly ledger: Ledger;
  /** Lives from the first minute to the last. */
  readonly steady: Running;
  /** Resolves when another process has taken the place of the mortal one, which ended as `end` makes it. */
  readonly replaceMortal: (end: (mortal: Running) => Promise<void>) => Promise<void>;
  readonly mortal: () => Running;
  /** Resident memory of the steady consumer in MiB, undefined when it is gone. */
  readonly memoryMib: () => number | undefined;
  /** Messages that were sent again because nobody confirmed them. */
  readonly resent: () => number;
  /** Resolves when a message is processed that was published after this call. */
  readonly recovered: () => Promise<void>;
  /** Connections that the consumers have had, all together; what they have logged so far is forgotten. */
  readonly connections: () => number;
  /** Messages that did something to their process, by deed. */
  readonly deeds: ReadonlyMap<string, number>;
  /** Publishes no more, waits for all messages, stops all. Resolves with what went wrong. */
  readonly close: () => Promise<string[]>;
}

export async function openScene(broker: OwnBroker, isHostile: boolean): Promise<Scene> {
  const proxy = await startProxy(broker);
  const folder = mkdtempSync(join(tmpdir(), 'stomp-pubsub-soak-'));
  const file = join(folder, 'ledger');
  const ledger = new Ledger(0);
  const read = followFile(file, ledger);
  const deeds = new Map<string, number>();
  let connections = 0;
  const startConsumer = async () => {
    const module = isHostile ? 'hostile.mjs' : 'ledger.mjs';
    const callback = join(packageRoot, 'test/fixtures/callbacks', `${module}#record`);
    const command = [join(packageRoot, 'bin/pubsub.js'), QUEUE, callback];
    const args = [...collecting, ...command, '--concurrency', String(CONCURRENCY)];
    if (isHostile) args.push(...hostileFlags);
    const env = {
      ...broker.env,
      STOMP_SERVER_PORT: String(proxy.port),
      STOMP_OUTGOING_HEARTBEAT: String(beats.outgoingHeartbeatMs),
      STOMP_INCOMING_HEARTBEAT: String(beats.incomingHeartbeatMs),
      STOMP_CONNECT_TIMEOUT: String(beats.connectTimeoutSeconds),
      STOMP_WAIT_TO_CONNECT: '1',
      STOMP_LOG_LEVEL: 'info',
      LEDGER: file,
    };
    const consumer = startProgram(process.execPath, args, { env });
    await consumer.says('subscribed');
    return consumer;
  };
  const countConnections = () => {
    for (const consumer of [steady, mortal]) {
      connections += consumer.said('subscribed').length;
      // A flood of prints would fill this process.
      consumer.forgetLines();
    }
    return connections;
  };
  const steady = await startConsumer();
  let mortal = await startConsumer();
  const nextBody = () => {
    const body = ledger.next();
    if (!isHostile || body.n % DEED_EVERY !== DEED_EVERY - 1) return body;
    const names = Object.keys(DEEDS);
    const deed = names[Math.floor(body.n / DEED_EVERY) % names.length]!;
    deeds.set(deed, (deeds.get(deed) ?? 0) + 1);
    return { ...body, deed };
  };
  const batch = isHostile ? HOSTILE_BATCH : BATCH;
  const publishing = startPublishing({ ...broker, port: proxy.port }, nextBody, batch);
  const processed = (isEnough: () => boolean) => {
    const hasCome = () => {
      read();
      return isEnough();
    };
    return until(hasCome, COMPLETE_MS, () => `messages processed; ${ledger.lost} are missing`);
  };
  return {
    broker,
    proxy,
    ledger,
    steady,
    mortal: () => mortal,
    replaceMortal: async (end) => {
      await end(mortal);
      mortal = await startConsumer();
    },
    memoryMib: () => memoryMib(steady.pid),
    connections: countConnections,
    deeds,
    resent: () => publishing.resent,
    recovered: async () => {
      const mark = ledger.published;
      await processed(() => ledger.newest >= mark);
    },
    close: async () => {
      const problems: string[] = [];
      await publishing.stop();
      await processed(() => ledger.lost === 0).catch(() =>
        problems.push(`${ledger.lost} messages were lost`),
      );
      for (const consumer of [steady, mortal]) {
        consumer.signal('SIGTERM');
        const { code, signal } = await consumer.exit();
        if (code !== 0)
          problems.push(`a consumer ended with ${String(code ?? signal)}: ${consumer.stderr.slice(-2000)}`);
      }
      const left = await drainQueue(broker, QUEUE);
      if (left.length > 0) problems.push(`${left.length} messages are left in ${QUEUE}`);
      problems.push(...judge(await drainQueue(broker, 'DLQ.soak'), deeds));
      await proxy.close();
      rmSync(folder, { recursive: true, force: true });
      return problems;
    },
  };
}

/** What is wrong with the dead letters: each message that did something is there, for that, and no other. */
function judge(dead: readonly Frame[], deeds: ReadonlyMap<string, number>): string[] {
  const problems: string[] = [];
  const seen = new Map<string, Set<number>>();
  for (const { body, headers } of dead) {
    const { n, deed } = JSON.parse(body.toString()) as { n: number; deed?: string };
    const reason = headers['x-failure-reason'] ?? '';
    if (deed === undefined || DEEDS[deed]?.includes(reason) !== true)
      problems.push(`message ${n} (${deed ?? 'harmless'}) was dead-lettered: ${reason}`);
    else seen.set(deed, (seen.get(deed) ?? new Set()).add(n));
  }
  for (const [deed, count] of deeds) {
    const letters = seen.get(deed)?.size ?? 0;
    if (letters !== count) problems.push(`${letters} of ${count} that did this were dead-lettered: ${deed}`);
  }
  return problems;
}

/** Publishes at an even rate; a batch is repeated, message by message, until the broker has confirmed all of it. */
function startPublishing(broker: OwnBroker, nextBody: () => { n: number }, batch: number) {
  const publisher = openPublisher({ ...settingsOf(broker), ...beats, receiptTimeoutSeconds: 5, log: noLog });
  const publishing = { isOver: false, resent: 0, stop };
  const send = async (body: { n: number }): Promise<void> => {
    for (;;) {
      try {
        await publisher.send(QUEUE, body);
        return;
      } catch (error) {
        if (!(error instanceof PubsubError)) throw error;
        if (error.code === 'not-confirmed') publishing.resent++;
        await delay(BATCH_MS);
      }
    }
  };
  const ended = (async () => {
    while (!publishing.isOver) {
      const bodies = Array.from({ length: batch }, nextBody);
      await Promise.all([delay(BATCH_MS), ...bodies.map(send)]);
    }
  })();
  async function stop(): Promise<void> {
    publishing.isOver = true;
    await ended;
    await publisher.close();
  }
  return publishing;
}

function memoryMib(pid: number): number | undefined {
  const file = `/proc/${pid}/status`;
  const kib = existsSync(file) ? /VmRSS:\s+(\d+)/.exec(readFileSync(file, 'utf8'))?.[1] : undefined;
  return kib === undefined ? undefined : Number(kib) / 1024;
}
