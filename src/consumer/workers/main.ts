/**
 * The entry file of a worker process. What must be done before anything is loaded: a stop signal, which a terminal or
 * systemd sends to every process, is for the consumer to answer; and when memory is short the kernel shall take this
 * process and not the consumer.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { readAhead } from '../../read-ahead.js';

// As in the commands: with it a process of Node 24 can hang at its end.
setFlagsFromString('--no-concurrent-sparkplug');

let signalledMs = -Infinity;
for (const signal of ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGHUP'] as const)
  process.on(signal, () => (signalledMs = performance.now()));

/** Above that of the consumer; the kernel's scale ends at 1000. */
const MORE_EXPENDABLE = 500;
const scoreFile = '/proc/self/oom_score_adj';
try {
  const score = Number(readFileSync(scoreFile, 'utf8'));
  writeFileSync(scoreFile, String(Math.min(1000, score + MORE_EXPENDABLE)));
} catch {
  // Linux alone has it.
}

readAhead(import.meta.url, './worker.js');
const { serve } = await import('./worker.js');
serve({ lastSignalMs: () => signalledMs });
