/**
 * What a command may find around it: nothing at all as the first process of a container, streams that are closed or
 * whose reader has left, a terminal, npx and npm exec in front of it. Callbacks are in flight until a file is there.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { drainQueue, put } from '../support/messages.js';
import { packageRoot, run, runProgram, type Running } from '../support/process.js';
import { findProgram, freePorts } from '../support/server-process.js';
import { until } from '../support/until.js';
import { anyBroker, DEADLINE_MS, fixture, skipWithout, temporaryFolder, unique } from './commands.js';

const zero = { code: 0, signal: null };
const bin = join(packageRoot, 'bin/pubsub.js');
const callback = fixture('stop.mjs#untilFile');
/** npm takes a while of a loaded machine before it starts anything. */
const NPM_MS = 60_000;

const succeeds = (program: string, args: string[]) => spawnSync(program, args).status === 0;
/** The flags by which this user may start a process as the first of a process namespace, or undefined. */
const asFirstProcess = [[], ['--user', '--map-root-user']]
  .map((flags) => [...flags, '--pid', '--fork', '--mount-proc'])
  .find((flags) => succeeds('unshare', [...flags, 'true']));
const withoutNpm = findProgram('npm') === undefined || findProgram('tar') === undefined;
const withoutTerminal = !succeeds('script', ['-qec', 'true', '/dev/null']);

describe('surroundings', skipWithout(anyBroker()), () => {
  const broker = anyBroker()!;
  const folder = temporaryFolder();
  const env = { ...broker.env, STOMP_LOG_FORMAT: 'json' };

  /** A queue with a message whose callback ends once `release` was called. */
  async function holdingQueue() {
    const queue = `/queue/${unique('surroundings')}`;
    const file = join(folder, unique('release'));
    await put(broker, queue, JSON.stringify(file), { 'correlation-id': 'c' });
    return { queue, release: () => writeFileSync(file, '') };
  }

  /** The consumer has been told to stop: once, and it drains. */
  async function assertDrains(running: Running, queue: string, release: () => void): Promise<void> {
    // On a terminal stderr comes with stdout.
    await running.waitFor(/"inFlight":1/);
    release();
    await running.waitFor(/"msg":"settled sent"/);
    await running.waitFor(/"received":1,.*"acked":1,/);
    const signals = (running.stdout + running.stderr).match(/"signal":/g);
    assert.equal(signals?.length, 1, 'a second signal would have ended it at once');
    assert.equal((await drainQueue(broker, queue)).length, 0);
  }

  it(
    'as the first process of a container it drains at SIGTERM and ends with 0',
    { skip: asFirstProcess === undefined && 'needs unshare and the right to use it' },
    async () => {
      const { queue, release } = await holdingQueue();
      const unshare = runProgram('unshare', [...asFirstProcess!, process.execPath, bin, queue, callback], {
        env,
      });
      await unshare.waitFor(/"msg":"started"/);
      assert.match(unshare.stderr, /"pid":1,/);
      const children = readFileSync(`/proc/${unshare.pid}/task/${unshare.pid}/children`, 'utf8');
      process.kill(Number(children), 'SIGTERM');
      await assertDrains(unshare, queue, release);
      assert.deepEqual(await unshare.exit(), zero);
    },
  );

  for (const [closed, what] of [
    ['<&-', 'stdin'],
    ['>&-', 'stdout'],
    ['<&- >&- 2>&-', 'stdin, stdout and stderr'],
    ['>/dev/full 2>/dev/full', 'stdout and stderr on a full disk instead of'],
  ] as const) {
    it(`started with ${what} closed it consumes, and ends with 0`, async () => {
      const queue = `/queue/${unique('surroundings')}`;
      const file = join(folder, unique('processed'));
      await put(broker, queue, JSON.stringify(file), { 'correlation-id': 'c' });
      const talkative = fixture('stop.mjs#talkative');
      const shell = ['-c', `exec "$@" ${closed}`, 'sh', process.execPath, bin, queue, talkative];
      const consumer = runProgram('sh', shell, { env });
      await appears(file);
      consumer.signal('SIGTERM');
      assert.deepEqual(await consumer.exit(), zero, consumer.stderr);
      assert.equal((await drainQueue(broker, queue)).length, 0);
    });
  }

  it('a reader that leaves, like head, changes nothing about publishing', async () => {
    const queue = `/queue/${unique('surroundings')}`;
    const publishing = run('publish', [queue, '--lines'], { env, input: null });
    publishing.child.stdout.destroy();
    publishing.child.stderr.destroy();
    publishing.child.stdin.end('1\n2\n');
    assert.deepEqual(await publishing.exit(), zero);
    assert.equal((await drainQueue(broker, queue, { atLeast: 2 })).length, 2);
  });

  describe('behind npm', { skip: withoutNpm && 'needs npm and tar' }, () => {
    const project = temporaryFolder({ 'package.json': '{ "private": true }' });
    const npmEnv = () => ({ ...env, npm_config_cache: join(folder, 'npm'), npm_config_offline: 'true' });

    // What npm install does, with the dependencies of this checkout instead of the registry's.
    before(() => {
      const modules = join(project, 'node_modules');
      mkdirSync(join(modules, '.bin'), { recursive: true });
      const pack = ['pack', '--silent', '--ignore-scripts', '--pack-destination', project];
      const { stdout, stderr } = spawnSync('npm', pack, {
        cwd: packageRoot,
        encoding: 'utf8',
        env: { ...process.env, ...npmEnv() },
      });
      assert.ok(succeeds('tar', ['-xzf', join(project, stdout.trim()), '-C', modules]), stderr);
      const { dependencies } = JSON.parse(readFileSync(join(modules, 'package/package.json'), 'utf8')) as {
        dependencies: object;
      };
      for (const name of Object.keys(dependencies)) {
        symlinkSync(join(packageRoot, 'node_modules', name), join(modules, name));
      }
      symlinkSync('package', join(modules, 'stomp-pubsub'));
      symlinkSync('../stomp-pubsub/bin/pubsub.js', join(modules, '.bin/pubsub'));
    });

    for (const command of ['npx pubsub', 'npm exec pubsub --']) {
      it(
        `Ctrl-C in a terminal reaches the consumer once through ${command}`,
        { skip: withoutTerminal && 'needs script (util-linux)' },
        async () => {
          const { queue, release } = await holdingQueue();
          const line = `${command} ${queue} ${callback}`;
          const terminal = runProgram('script', ['-qfec', line, '/dev/null'], {
            cwd: project,
            env: npmEnv(),
            input: null,
          });
          await terminal.waitFor(/"msg":"started"/, NPM_MS);
          terminal.child.stdin.write('\x03');
          await assertDrains(terminal, queue, release);
          assert.equal(terminal.stdout.match(/"msg":"stopping;/g)?.length, 1);
          await terminal.exit();
        },
      );

      it(
        `SIGTERM goes through ${command} with bash, which waits for the consumer`,
        { skip: findProgram('bash') === undefined && 'needs bash' },
        async () => {
          const { queue, release } = await holdingQueue();
          const [program, ...words] = command.split(' ');
          const npm = runProgram(program!, [...words, queue, callback], {
            cwd: project,
            env: { ...npmEnv(), npm_config_script_shell: 'bash' },
          });
          await npm.waitFor(/"msg":"started"/, NPM_MS);
          npm.signal('SIGTERM');
          await assertDrains(npm, queue, release);
          assert.deepEqual(await npm.exit(), zero, npm.stderr);
        },
      );

      it(`SIGTERM for ${command} alone stops the consumer, also where sh does not pass it on`, async () => {
        const { queue, release } = await holdingQueue();
        // npm leaves at once; the shell in front of it, like a supervisor, does not.
        const shell = `${command} "$@" & echo "started as $!"; read line`;
        const supervisor = runProgram('bash', ['-c', shell, 'bash', queue, callback], {
          cwd: project,
          env: npmEnv(),
          input: null,
        });
        const [, pid] = await supervisor.waitFor(/started as (\d+)/);
        await supervisor.waitFor(/"msg":"started"/, NPM_MS);
        process.kill(Number(pid), 'SIGTERM');
        await assertDrains(supervisor, queue, release);
        supervisor.child.stdin.end();
        await supervisor.exit();
      });
    }
  });
});

describe('a reader of stdout that leaves, like head', () => {
  it('ends no embedded broker', async () => {
    const [port] = await freePorts(1);
    const broker = run('pubsub', ['broker', '--port', String(port)]);
    await broker.waitFor(/embedded broker listens/);
    broker.child.stdout.destroy();
    broker.signal('SIGTERM');
    assert.deepEqual(await broker.exit(), zero, broker.stderr);
  });

  it('ends no demo', async () => {
    const demo = run('pubsub', ['demo']);
    await demo.waitFor(/./);
    demo.child.stdout.destroy();
    assert.deepEqual(await demo.exit(), zero, demo.stderr);
  });
});

function appears(file: string): Promise<unknown> {
  return until(() => existsSync(file), DEADLINE_MS, `${file} written`);
}
