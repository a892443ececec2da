/** The callback of a measurement in a worker process: acks and counts, and leaves the result in a file. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { Payload } from '../src/index.js';
import { Meter } from './meter.js';
import type { Task } from './task.js';

/** Names the variable that holds the task, and the one that names the file. */
export const BENCH_TASK = 'BENCH_TASK';
export const BENCH_RESULT = 'BENCH_RESULT';

let meter: Meter | undefined;

export default function count(payload: Payload) {
  meter ??= new Meter(
    JSON.parse(process.env[BENCH_TASK] ?? '') as Pick<Task, 'warmUp' | 'messages'>,
    cpuOfConsumer,
  );
  if (meter.tick()) {
    const file = process.env[BENCH_RESULT] ?? '';
    writeFileSync(`${file}.new`, JSON.stringify(meter.measurement));
    renameSync(`${file}.new`, file);
  }
  return payload.ack();
}

/** In microseconds, by the kernel's ticks of 10 ms. */
function cpuOfConsumer(): number {
  const stat = readFileSync(`/proc/${process.ppid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}
