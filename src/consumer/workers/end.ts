/** What the end of a worker process means when it has said nothing of it itself: by status, signal and memory. */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Refusal } from '../payload.js';

export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** V8 has said that it ran out of memory. */
  readonly hasRunOutOfMemory: boolean;
  /** The kernel has killed a process of this container for want of memory meanwhile. */
  readonly wasMemoryShort: boolean;
}

/** The signals that mean "stop", to whoever else they are sent. */
const stopSignals = new Set<NodeJS.Signals | null>(['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGHUP']);

export const isStopSignal = (signal: NodeJS.Signals | null): boolean => stopSignals.has(signal);

/** A stop signal may come to a process that runs callbacks so long before it comes to the consumer. */
const STOP_MS = 1000;

/** Has a stop begun, or does one begin in the next moment? Never rejects. */
export async function isStopping(drain: AbortSignal): Promise<boolean> {
  if (!drain.aborted) await delay(STOP_MS, undefined, { signal: drain }).catch(() => undefined);
  return drain.aborted;
}

export function describeEnd({ code, signal, hasRunOutOfMemory, wasMemoryShort }: ProcessEnd): {
  readonly reason: Refusal;
  readonly detail: string;
} {
  if (hasRunOutOfMemory) return { reason: 'out-of-memory', detail: 'the heap of the worker is exhausted' };
  if (signal === 'SIGKILL' && wasMemoryShort)
    return { reason: 'out-of-memory', detail: 'the kernel killed the worker for want of memory' };
  if (signal !== null) return { reason: 'callback-crashed', detail: `the worker was ended by ${signal}` };
  return { reason: 'callback-exited', detail: `the worker ended with status ${code ?? 'unknown'}` };
}

/** How many processes of this control group the kernel has killed for want of memory; 0 where nobody counts. */
export function countMemoryKills(): number {
  try {
    const groups = readFileSync('/proc/self/cgroup', 'utf8');
    const [, old] = /^\d+:memory:(.*)$/m.exec(groups) ?? [];
    const [, path = '/'] = /^0::(.*)$/m.exec(groups) ?? [];
    // Version 1 of control groups, or 2.
    const file = old === undefined ? `${path}/memory.events` : `memory${old}/memory.oom_control`;
    return Number(/^oom_kill (\d+)$/m.exec(readFileSync(`/sys/fs/cgroup/${file}`, 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
