/**
 * How a worker process is started: which flags of Node it inherits, what it is given beside them, and that it leads a
 * process group of its own, by which it is killed together with what it spawned.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { PubsubError, reasonOf } from '../../errors.js';
import { callbackVariables } from '../../settings.js';
import { descriptors } from './protocol.js';

export interface SpawnOptions {
  /** Limit of the process's heap, in MB; undefined for V8's own. */
  readonly heapMb: number | undefined;
  /** Modules to load before anything else there. */
  readonly imports: readonly string[];
}

/** Its streams, each with one direction that counts. */
export interface Spawned {
  readonly child: ChildProcess;
  readonly inbox: Socket;
  readonly outbox: Socket;
  readonly log: Socket;
  readonly watch: Socket;
  readonly stdout: Socket;
  readonly stderr: Socket;
}

/** Rejects with `callback-not-loadable` when the entry file is missing, as it is in a bundle, and when nothing can be started. */
export async function spawnWorker({ heapMb, imports }: SpawnOptions): Promise<Spawned> {
  const flags = [
    ...inheritedFlags(process.execArgv),
    ...imports.flatMap((module) => ['--import', module]),
    ...(heapMb === undefined ? [] : [`--max-old-space-size=${heapMb}`]),
  ];
  const child = spawn(process.execPath, [...flags, entryFile()], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe'],
    detached: true,
    env: { ...callbackVariables(), ...inheritedEnvironment(process.env) },
  });
  try {
    await once(child, 'spawn');
  } catch (error) {
    const problem = `a worker process cannot be started: ${reasonOf(error)}`;
    throw new PubsubError('callback-not-loadable', problem, { cause: error });
  }
  const stream = (fd: number) => child.stdio[fd] as Socket;
  const streams = {
    inbox: stream(descriptors.inbox),
    outbox: stream(descriptors.outbox),
    log: stream(descriptors.log),
    watch: stream(descriptors.watch),
    stdout: stream(1),
    stderr: stream(2),
  };
  // Its end is told by its exit.
  for (const socket of Object.values(streams)) socket.on('error', () => undefined);
  return { child, ...streams };
}

/** Ends it where it stands, or by a kinder signal, with what it spawned; nothing when it is gone. */
export function killGroup({ pid }: ChildProcess, signal: NodeJS.Signals = 'SIGKILL'): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // There is no such group any more.
  }
}

function entryFile(): string {
  // A bundle in CommonJS has no import.meta.url.
  const url = import.meta.url as string | undefined;
  const file = url === undefined ? undefined : fileURLToPath(new URL('./main.js', url));
  if (file !== undefined && existsSync(file)) return file;
  throw new PubsubError(
    'callback-not-loadable',
    `the entry file of worker processes is missing (${file ?? 'main.js'}): a bundle does not take it along; ` +
      'leave stomp-pubsub out of the bundle, or set STOMP_PROCESS_MSG_ON_BACKGROUND=false',
  );
}

/** A debugger has one port, a script from the command line is not ours, and what watches files or runs tests is the parent. */
const ofTheParent =
  /^(--inspect|--eval|--print|--check|--interactive|--test|--watch|-e$|-p$|-pe$|-c$|-i$|--input-type)/;
const withValue = /^(--inspect-port|--inspect-publish-uid|--eval|--print|-e|-p|-pe|--input-type)$/;

/** `process.execArgv` but for what is the parent's alone. */
export function inheritedFlags(flags: readonly string[]): string[] {
  return flags.filter((flag, index) => !ofTheParent.test(flag) && !withValue.test(flags[index - 1] ?? ''));
}

function inheritedEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { NODE_OPTIONS } = env;
  if (NODE_OPTIONS === undefined) return env;
  return { ...env, NODE_OPTIONS: NODE_OPTIONS.replace(/(^|\s)--inspect\S*/g, '$1') };
}
