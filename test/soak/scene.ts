/**
 * What the soak happens to: a private broker behind a proxy, a publisher that repeats whatever was not confirmed, and two
 * consumers in processes of their own, one of which may be killed. The ledger has a line for each call of a callback.
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
  /** Publishes no more, waits for all messages, stops all. Resolves with what went wrong. */
  readonly close: () => Promise<string[]>;
}

export async function openScene(broker: OwnBroker): Promise<Scene> {
  const proxy = await startProxy(broker);
  const folder = mkdtempSync(join(tmpdir(), 'stomp-pubsub-soak-'));
  const file = join(folder, 'ledger');
  const ledger = new Ledger(0);
  const read = followFile(file, ledger);
  const startConsumer = async () => {
    const callback = join(packageRoot, 'test/fixtures/callbacks/ledger.mjs#record');
    const command = [join(packageRoot, 'bin/pubsub.js'), QUEUE, callback];
    const args = [...collecting, ...command, '--concurrency', String(CONCURRENCY)];
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
  const steady = await startConsumer();
  let mortal = await startConsumer();
  const publishing = startPublishing({ ...broker, port: proxy.port }, ledger);
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
      for (const queue of [QUEUE, 'DLQ.soak']) {
        const left = await drainQueue(broker, queue);
        if (left.length > 0) problems.push(`${left.length} messages are left in ${queue}`);
      }
      await proxy.close();
      rmSync(folder, { recursive: true, force: true });
      return problems;
    },
  };
}

/** Publishes at an even rate; a batch is repeated, message by message, until the broker has confirmed all of it. */
function startPublishing(broker: OwnBroker, ledger: Ledger) {
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
      const bodies = Array.from({ length: BATCH }, () => ledger.next());
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
