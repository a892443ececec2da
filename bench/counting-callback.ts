/** The callback of a measurement, inline or in a worker process, where it leaves the result in a file. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { Callback, Payload } from '../src/index.js';
import { Meter } from './meter.js';
import { queuesOf, type Task } from './task.js';

/** Names the variable that holds the task, and the one that names the file. */
export const BENCH_TASK = 'BENCH_TASK';
export const BENCH_RESULT = 'BENCH_RESULT';

type CountedTask = Pick<Task, 'work' | 'queue' | 'warmUp' | 'messages'>;

/** Counts messages, not runs; `onLast` is called when the last one is about to be settled. */
export function countingCallback(task: CountedTask, meter: Meter, onLast: () => void): Callback {
  const { work } = task;
  const { after = '' } = queuesOf(task);
  let runs = 0;
  return (payload) => {
    // As many throw at any time as are acked: a first half of throwing runs would be no measure of both.
    if (work === 'retry' && ++runs % 2 === 1) throw new Error('every other time');
    if (meter.tick()) onLast();
    if (work === 'nack') return payload.nack();
    if (work === 'forward') payload.publish(`/queue/${after}`, payload.body);
    return payload.ack();
  };
}

let callback: Callback | undefined;

export default function count(payload: Payload): unknown {
  callback ??= callbackOfWorker();
  return callback(payload);
}

function callbackOfWorker(): Callback {
  const task = JSON.parse(process.env[BENCH_TASK] ?? '') as CountedTask;
  const meter = new Meter(task, cpuOfConsumer);
  return countingCallback(task, meter, () => {
    const file = process.env[BENCH_RESULT] ?? '';
    writeFileSync(`${file}.new`, JSON.stringify(meter.measurement));
    renameSync(`${file}.new`, file);
  });
}

/** In microseconds, by the kernel's ticks of 10 ms. */
function cpuOfConsumer(): number {
  const stat = readFileSync(`/proc/${process.ppid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}
