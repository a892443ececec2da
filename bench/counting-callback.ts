/** The callback of a measurement in a worker thread: acks and counts, and tells the main thread the result. */
import { BroadcastChannel } from 'node:worker_threads';
import type { Payload } from '../src/index.js';
import { Meter } from './meter.js';
import type { Task } from './task.js';

export const BENCH_CHANNEL = 'measurement';
export const BENCH_TASK = 'BENCH_TASK';

let meter: Meter | undefined;

export default function count(payload: Payload) {
  meter ??= new Meter(JSON.parse(process.env[BENCH_TASK] ?? '') as Pick<Task, 'warmUp' | 'messages'>);
  if (meter.tick()) {
    const channel = new BroadcastChannel(BENCH_CHANNEL);
    channel.postMessage(meter.measurement);
    channel.close();
  }
  return payload.ack();
}
