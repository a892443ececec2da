/** Hang-ups: a terminal that goes away, a pane that is killed, nohup, Ctrl-C before there is anything to stop. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { bodiesIn, putAll } from '../support/messages.js';
import { packageRoot, runProgram } from '../support/process.js';
import { findProgram } from '../support/server-process.js';
import { until } from '../support/until.js';
import { anyBroker, fixture, skipWithout, temporaryFolder, unique } from './commands.js';

const DEADLINE_MS = 30_000;
const bin = join(packageRoot, 'bin/pubsub.js');
const callback = fixture('stop.mjs#untilFile');
const withoutTerminal = spawnSync('script', ['-qec', 'true', '/dev/null']).status !== 0;
const without = (program: string) => findProgram(program) === undefined && `needs ${program}`;

describe('a hang-up', skipWithout(anyBroker()), () => {
  const broker = anyBroker()!;

  /** Two messages, whose callbacks go on when `release` was called, and a shell that tells how their consumer ends. */
  async function openScene() {
    const folder = temporaryFolder();
    const [gate, log, status] = ['gate', 'log', 'status'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    const queue = `/queue/${unique('terminal')}`;
    const body = JSON.stringify(gate);
    await putAll(broker, queue, [body, body], { 'correlation-id': 'c' });
    const read = (file: string) => (existsSync(file) ? readFileSync(file, 'utf8') : '');
    const health = join(folder, 'health');
    const isReady = () => existsSync(`${health}.ready`);
    // The outer shell, which has the terminal, ends with it; the inner one lives on to tell.
    const line = (before = '') =>
      `(trap : HUP; ${before} ${process.execPath} ${bin} ${queue} ${callback} --health-file ${health}; echo $? > ${status}); true`;
    return {
      line,
      env: { ...broker.env, STOMP_LOG_FORMAT: 'json' },
      hasStarted: () =>
        until(
          () => isReady() && read(log).includes('"msg":"started"'),
          DEADLINE_MS,
          () => `a start in ${read(log)}`,
        ),
      log,
      /** The one in flight finishes, the other stays, the status is 0. */
      assertDrains: async () => {
        await until(() => !isReady(), DEADLINE_MS, 'a drain');
        writeFileSync(gate, '');
        await until(
          () => read(status).endsWith('\n'),
          DEADLINE_MS,
          () => `its end; ${read(log)}`,
        );
        assert.equal(read(status), '0\n', read(log));
        assert.deepEqual(await bodiesIn(broker, queue, 1), [body]);
      },
    };
  }

  it('of a terminal drains', { skip: withoutTerminal && 'needs script (util-linux)' }, async () => {
    const { line, env, log, hasStarted, assertDrains } = await openScene();
    const terminal = runProgram('script', ['-qefc', line(), log], { env, input: null });
    await hasStarted();
    // Its end of the terminal is gone: whatever is printed there fails from now on.
    process.kill(terminal.pid, 'SIGKILL');
    await assertDrains();
  });

  it("of a multiplexer's pane that is killed drains", { skip: without('tmux') }, async () => {
    const { line, env, log, hasStarted, assertDrains } = await openScene();
    const tmux = (...args: string[]) =>
      spawnSync('tmux', ['-L', socket, ...args], { encoding: 'utf8', env: { ...process.env, ...env } });
    const socket = unique('panes');
    after(() => tmux('kill-server'));
    // What is shown before it is read by anybody would be missed.
    const wait = `while [ ! -e ${log} ]; do sleep 0.1; done;`;
    const { status, stderr } = tmux('-f', '/dev/null', 'new-session', '-d', line(wait));
    assert.equal(status, 0, stderr);
    tmux('pipe-pane', '-o', `cat > ${log}`);
    await hasStarted();
    tmux('kill-pane');
    await assertDrains();
  });

  it('under nohup drains, too', { skip: without('nohup') }, async () => {
    const { line, env, log, hasStarted, assertDrains } = await openScene();
    const shell = runProgram('sh', ['-c', `trap : HUP; exec 2> ${log}; ${line('nohup')}`], { env });
    await hasStarted();
    process.kill(-shell.pid, 'SIGHUP');
    await assertDrains();
  });

  it(
    'and Ctrl-C on a terminal while the callback loads ends with 0',
    { skip: withoutTerminal && 'needs script (util-linux)' },
    async () => {
      const cwd = temporaryFolder({
        'slow.mjs': 'console.error("loading"); await new Promise(() => setInterval(() => {}, 1000));',
      });
      const line = `exec ${process.execPath} ${bin} ${unique('terminal')} ./slow.mjs`;
      const terminal = runProgram('script', ['-qefc', line, '/dev/null'], {
        cwd,
        env: broker.env,
        input: null,
      });
      await terminal.waitFor(/loading/);
      terminal.child.stdin.write('\x03');
      assert.deepEqual(await terminal.exit(), { code: 0, signal: null }, terminal.stdout);
    },
  );
});
