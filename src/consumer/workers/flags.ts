/** The flags of Node that a worker process has: those of the settings, and those of this process that are not its alone. */
import type { Settings } from '../../settings.js';

export interface SpawnOptions {
  /** Limit of the process's heap, in MB; undefined for V8's own. */
  readonly heapMb: number | undefined;
  /** Modules to load before anything else there. */
  readonly imports: readonly string[];
}

export const spawnOptionsOf = ({ workerHeapMb, imports }: Settings): SpawnOptions => ({
  heapMb: workerHeapMb,
  imports: imports ?? [],
});

export const flagsOf = ({ heapMb, imports }: SpawnOptions): string[] => [
  ...inheritedFlags(process.execArgv),
  ...imports.flatMap((module) => ['--import', module]),
  ...(heapMb === undefined ? [] : [`--max-old-space-size=${heapMb}`]),
];

/** A debugger has one port, a script from the command line is not ours, and what watches files or runs tests is the parent. */
const ofTheParent =
  /^(--inspect|--eval|--print|--check|--interactive|--test|--watch|-e$|-p$|-pe$|-c$|-i$|--input-type)/;
const withValue = /^(--inspect-port|--inspect-publish-uid|--eval|--print|-e|-p|-pe|--input-type)$/;

/** `process.execArgv` but for what is the parent's alone. */
export function inheritedFlags(flags: readonly string[]): string[] {
  return flags.filter((flag, index) => !ofTheParent.test(flag) && !withValue.test(flags[index - 1] ?? ''));
}
