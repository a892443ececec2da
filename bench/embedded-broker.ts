/** The embedded broker as a contender: `pubsub broker` in a process of its own, whose memory can be asked for. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeBroker, type BrokerFacts, type BrokerUnderTest } from '../test/support/brokers.js';
import { packageRoot } from '../test/support/process.js';
import { freePorts } from '../test/support/server-process.js';

export interface EmbeddedProcess extends BrokerUnderTest {
  readonly facts: BrokerFacts;
  /** Resident memory now, and the most it has been. */
  memoryMib(): { now: number; most: number };
  stop(): Promise<void>;
}

/** Resolves when it listens. */
export async function startEmbeddedProcess(): Promise<EmbeddedProcess> {
  const [port = 0] = await freePorts(1);
  const { PATH, HOME } = process.env;
  const login = { user: 'app', password: 'bench' };
  const child = spawn(
    process.execPath,
    [join(packageRoot, 'bin/pubsub.js'), 'broker', '--log-level', 'info'],
    {
      env: {
        PATH,
        HOME,
        STOMP_SERVER_PORT: String(port),
        STOMP_SERVER_USER: login.user,
        STOMP_SERVER_PASSWORD: login.password,
      },
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  await once(child.stderr, 'data');
  child.stderr.resume();
  const facts: BrokerFacts = {
    name: 'embedded',
    version: 'of this checkout',
    host: '127.0.0.1',
    port,
    ...login,
  };
  return {
    ...describeBroker(facts),
    facts,
    memoryMib: () => {
      const status = readFileSync(`/proc/${String(child.pid)}/status`, 'utf8');
      const of = (name: string) => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? NaN) / 1024;
      return { now: of('VmRSS'), most: of('VmHWM') };
    },
    stop: async () => {
      child.kill('SIGTERM');
      await once(child, 'exit');
    },
  };
}
