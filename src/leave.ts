/** The end of the process, also when a worker thread cannot be ended. */

let stuckThreads = 0;

/** Tells of a worker thread that cannot be ended, for as long as it is blocked in native code. Returns what takes it back. */
export function reportStuckThread(): () => void {
  stuckThreads++;
  return () => stuckThreads--;
}

/** Ends the process. Node would wait for a stuck thread first: then it ends by SIGKILL, which a shell shows as 137. */
export function leave(status: number): never {
  if (stuckThreads > 0) process.kill(process.pid, 'SIGKILL');
  process.exit(status);
}
