/** The limit of a worker process's resident memory, whoever in it has taken it: V8's own knows of its heap alone. */
import type { Limited } from './worker-limit.js';

const CHECK_MS = 500;
/** Beyond its limit by so much it has gone on growing, and its messages do not end. */
const FAR_BEYOND = 1.25;

/** Calls `onBeyond` each time it is beyond the limit, and kills it far beyond. Returns the timer that is to be cleared. */
export function limitMemory(worker: Limited, limitMb: number, onBeyond: () => void): NodeJS.Timeout {
  const check = async () => {
    const { calling = 0, residentBytes = 0 } = (await worker.channel.observe()) ?? {};
    const residentMb = residentBytes / 1024 / 1024;
    if (residentMb <= limitMb || worker.isDying()) return;
    onBeyond();
    if (residentMb <= limitMb * FAR_BEYOND) return;
    const detail = `the worker grew to ${Math.round(residentMb)} MB (--worker-memory ${limitMb})`;
    const run = worker.inFlight.get(calling)?.run;
    worker.kill({ reason: 'out-of-memory', detail, culprits: run && [run] });
  };
  return setInterval(() => void check(), CHECK_MS).unref();
}
