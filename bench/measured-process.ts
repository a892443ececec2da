/**
 * One measurement in a process of its own, so that its processor time is that of one client and nothing else. The task
 * comes as JSON in the one argument, the result goes as JSON to stdout. The first messages are not measured: until then
 * the compiler is busy.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { consume, log, openPublisher } from '../src/index.js';
import { consumeAll, type Login, publishAll, RawClient } from './raw-client.js';
import { BENCH_RESULT, BENCH_TASK } from './counting-callback.js';
import { Meter } from './meter.js';
import { makeBody, type Measurement, type Task } from './task.js';

function settingsOf({ host, port, user, password, vhost = '/' }: Login) {
  return { host, port, user, password, vhost };
}

async function consumeOurs({ login, queue, window }: Task, meter: Meter): Promise<void> {
  const stop = new AbortController();
  await consume({
    ...settingsOf(login),
    destination: `/queue/${queue}`,
    concurrency: window,
    log,
    signal: stop.signal,
    callback: (payload) => {
      if (meter.tick()) stop.abort();
      return payload.ack();
    },
  });
}

/** The callback counts for itself, in its process, and leaves a file when it has had the last. */
async function consumeInWorker({ login, queue, window, ...task }: Task): Promise<Measurement> {
  const stop = new AbortController();
  const folder = mkdtempSync(join(tmpdir(), 'stomp-pubsub-bench-'));
  const result = join(folder, 'result');
  process.env[BENCH_TASK] = JSON.stringify(task);
  process.env[BENCH_RESULT] = result;
  const consuming = consume({
    ...settingsOf(login),
    destination: `/queue/${queue}`,
    concurrency: window,
    log,
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

async function publishOurs({ login, queue, window, warmUp, messages }: Task, meter: Meter): Promise<void> {
  const publisher = openPublisher({ ...settingsOf(login), publishWindow: window, log });
  let sent = 0;
  const sendInTurn = async () => {
    while (sent < warmUp + messages) {
      await publisher.send(`/queue/${queue}`, makeBody(sent++));
      meter.tick();
    }
  };
  await Promise.all(Array.from({ length: window }, sendInTurn));
  await publisher.close();
}

async function runRaw({ work, login, queue, window, warmUp, messages }: Task, meter: Meter): Promise<void> {
  const client = await RawClient.open(login);
  const count = warmUp + messages;
  const tick = () => void meter.tick();
  if (work === 'consume') await consumeAll(client, queue, { count, prefetch: window }, tick);
  else await publishAll(client, queue, { count, window }, makeBody, tick);
  await client.close();
}

async function run(task: Task): Promise<Measurement> {
  log.level = 'warn';
  if (task.client === 'workers') return consumeInWorker(task);
  const meter = new Meter(task);
  if (task.client === 'raw') await runRaw(task, meter);
  else if (task.work === 'consume') await consumeOurs(task, meter);
  else await publishOurs(task, meter);
  if (meter.measurement === undefined) throw new Error('it ended before the last message');
  return meter.measurement;
}

console.log(JSON.stringify(await run(JSON.parse(process.argv[2] ?? '') as Task)));
