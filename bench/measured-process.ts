/**
 * One measurement in a process of its own, so that its processor time is that of one client and nothing else. The task
 * comes as JSON in the one argument, the result goes as JSON to stdout. The first messages are not measured: until then
 * the compiler is busy.
 */
import { consume, log, openPublisher } from '../src/index.js';
import { consumeAll, type Login, publishAll, RawClient } from './raw-client.js';
import { makeBody, type Measurement, type Task } from './task.js';

/** Counts messages and holds the clocks against those after the warm-up. */
class Meter {
  readonly #task: Task;
  #count = 0;
  #startMs = 0;
  #startCpu = process.cpuUsage();
  measurement: Measurement | undefined;

  constructor(task: Task) {
    this.#task = task;
  }

  /** To be called once for each message; true at the last. */
  tick(): boolean {
    const { warmUp, messages } = this.#task;
    this.#count++;
    if (this.#count === warmUp) {
      this.#startCpu = process.cpuUsage();
      this.#startMs = performance.now();
    }
    if (this.#count !== warmUp + messages) return false;
    const seconds = (performance.now() - this.#startMs) / 1000;
    const { user, system } = process.cpuUsage(this.#startCpu);
    this.measurement = {
      messagesPerSecond: messages / seconds,
      cpuMicrosPerMessage: (user + system) / messages,
    };
    return true;
  }
}

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
  const meter = new Meter(task);
  if (task.client === 'raw') await runRaw(task, meter);
  else if (task.work === 'consume') await consumeOurs(task, meter);
  else await publishOurs(task, meter);
  if (meter.measurement === undefined) throw new Error('it ended before the last message');
  return meter.measurement;
}

console.log(JSON.stringify(await run(JSON.parse(process.argv[2] ?? '') as Task)));
