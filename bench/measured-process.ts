/**
 * One measurement in a process of its own, so that its processor time is that of one client and nothing else. The task
 * comes as JSON in the one argument, the result goes as JSON to stdout, as its last line. The first messages are not
 * measured: until then the compiler is busy.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { moveMessages } from '../src/commands/move.js';
import { redrive } from '../src/commands/redrive.js';
import { consume, log, openPublisher } from '../src/index.js';
import { Registry } from 'prom-client';
import { consumeAll, type Login, publishAll, RawClient } from './raw-client.js';
import { BENCH_RESULT, BENCH_TASK, countingCallback } from './counting-callback.js';
import { Meter } from './meter.js';
import { consumeByPeer, publishByPeer } from './peers.js';
import { makeBody, makeHeaders, peers, queuesOf, type Measurement, type Task } from './task.js';

function settingsOf({ host, port, user, password, vhost = '/' }: Login) {
  return { host, port, user, password, vhost };
}

/** What is retried waits as briefly as can be, and never runs out of attempts. */
const retries = { retries: 1000, retryDelay: '1ms' };

function consumeSettingsOf({ work, login, queue, window }: Task) {
  return {
    ...settingsOf(login),
    ...(work === 'retry' ? retries : {}),
    destination: `/queue/${queue}`,
    concurrency: window,
    log,
  };
}

const seenAs = ({ client }: Task) =>
  client.startsWith('metered') ? { metrics: new Registry(), healthPort: 0, servesMetrics: true } : {};

async function consumeOurs(task: Task, meter: Meter): Promise<void> {
  const stop = new AbortController();
  const callback = countingCallback(task, meter, () => stop.abort());
  const one = () => consume({ ...consumeSettingsOf(task), ...seenAs(task), signal: stop.signal, callback });
  await Promise.all(Array.from({ length: task.consumers ?? 1 }, one));
}

/** The callback counts for itself, in its process, and leaves a file when it has had the last. */
async function consumeInWorker(task: Task): Promise<Measurement> {
  const stop = new AbortController();
  const folder = mkdtempSync(join(tmpdir(), 'stomp-pubsub-bench-'));
  const result = join(folder, 'result');
  process.env[BENCH_TASK] = JSON.stringify({ ...task, login: undefined });
  process.env[BENCH_RESULT] = result;
  const consuming = consume({
    ...consumeSettingsOf(task),
    ...seenAs(task),
    signal: stop.signal,
    callback: fileURLToPath(new URL('counting-callback.js', import.meta.url)),
  });
  const poll = setInterval(() => {
    if (existsSync(result)) stop.abort();
  }, 50);
  await consuming;
  clearInterval(poll);
  const measurement = JSON.parse(readFileSync(result, 'utf8')) as Measurement;
  rmSync(folder, { recursive: true });
  return measurement;
}

/** A command cannot be measured from its middle on: one that warms up is run before, and both are counted as a whole. */
async function operate(task: Task, meter: Meter): Promise<void> {
  const { work, login, queue, warmUp, messages } = task;
  for (const count of [warmUp, messages]) {
    const flags = { ...settingsOf(login), logLevel: 'warn', count: String(count) };
    if (work === 'redrive') await redrive(queue, flags);
    else await moveMessages(queue, `/queue/${queuesOf(task).after!}`, undefined, undefined, flags);
    for (let done = 0; done < count; done++) meter.tick();
  }
}

async function publishOurs(task: Task, meter: Meter): Promise<void> {
  const { login, queue, window, warmUp, messages, bodyBytes, moreHeaders = 0 } = task;
  const options = moreHeaders === 0 ? undefined : { headers: makeHeaders(moreHeaders) };
  const publisher = openPublisher({ ...settingsOf(login), publishWindow: window, log });
  let sent = 0;
  const sendInTurn = async () => {
    while (sent < warmUp + messages) {
      await publisher.send(`/queue/${queue}`, makeBody(sent++, bodyBytes), options);
      meter.tick();
    }
  };
  await Promise.all(Array.from({ length: window }, sendInTurn));
  await publisher.close();
}

async function runRaw(task: Task, meter: Meter): Promise<void> {
  const { work, login, queue, window, warmUp, messages, bodyBytes } = task;
  const client = await RawClient.open(login);
  const count = warmUp + messages;
  const tick = () => void meter.tick();
  if (work === 'consume') await consumeAll(client, queue, { count, prefetch: window }, tick);
  else await publishAll(client, queue, { count, window }, (index) => makeBody(index, bodyBytes), tick);
  await client.close();
}

async function run(task: Task): Promise<Measurement> {
  // Of each message that is tried again a line tells at warn: what a terminal or a file takes for it is not measured.
  log.level = task.work === 'retry' ? 'error' : 'warn';
  if (task.client.endsWith('workers')) return consumeInWorker(task);
  const meter = new Meter(task);
  const peer = peers.find((name) => name === task.client);
  if (task.client === 'raw') await runRaw(task, meter);
  else if (peer !== undefined)
    await (task.work === 'publish' ? publishByPeer : consumeByPeer)(peer, task, meter);
  else if (task.work === 'publish') await publishOurs(task, meter);
  else if (task.work === 'move' || task.work === 'redrive') await operate(task, meter);
  else await consumeOurs(task, meter);
  if (meter.measurement === undefined) throw new Error('it ended before the last message');
  return meter.measurement;
}

console.log(JSON.stringify(await run(JSON.parse(process.argv[2] ?? '') as Task)));
