/** What is said at the end, to a person at a terminal and to a reader of logs; and stacks, which begin where the user's code is. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { startBroker } from '../../src/testing.js';
import { packageRoot, run, runProgram, type Exit } from '../support/process.js';
import { freePorts } from '../support/server-process.js';
import { until } from '../support/until.js';
import { at, DEADLINE_MS, startPubsub, stopPubsub, temporaryFolder } from './commands.js';

const withoutTerminal = spawnSync('script', ['-qec', 'true', '/dev/null']).status !== 0;
const skip = { skip: withoutTerminal && 'needs script (util-linux)' };
const done: Exit = { code: 0, signal: null };

/** Types a command at a terminal: what it shows, and how it ends. */
function typed(bin: 'pubsub' | 'publish', args: string, env: object) {
  const line = `exec ${process.execPath} ${join(packageRoot, 'bin', `${bin}.js`)} ${args}`;
  return runProgram('script', ['-qefc', line, '/dev/null'], { env: { ...env }, input: null });
}

const shown = (text: string): string[] =>
  stripVTControlCharacters(text)
    .split(/\r?\n/)
    .filter((line) => line !== '');

describe('the last line', () => {
  const cases = {
    'of a slip': { args: ['--bogus'], code: 'invalid-usage', exitStatus: 2, msg: /unknown option '--bogus'/ },
    'of bad settings': {
      ...{
        args: ['x', './callbacks', '--retries', 'x', '--port', 'y'],
        code: 'invalid-setting',
        exitStatus: 2,
      },
      msg: /^--port: .*\n--retries: /,
    },
    'of a callback that there is not': {
      ...{ args: ['x', './none'], code: 'callback-not-found', exitStatus: 3, msg: /none/ },
    },
    'of a broker that is away': {
      args: ['peek', 'x'],
      code: 'broker-unreachable',
      exitStatus: 4,
      msg: /ECONNREFUSED/,
    },
  };
  for (const [name, { args, msg, ...fields }] of Object.entries(cases)) {
    it(`${name} is JSON where nobody is at a terminal, and text where the log is`, async () => {
      const [port] = (await freePorts(1)) as [number];
      const env = at(port);
      const logged = run('pubsub', args, { env });
      assert.equal((await logged.exit()).code, fields.exitStatus);
      const { level, pid, time, msg: text, ...rest } = logged.logLines.at(-1) ?? {};
      assert.deepEqual([level, pid, typeof time], ['fatal', logged.pid, 'string']);
      assert.deepEqual(rest, { program: 'pubsub', ...fields });
      assert.match(String(text), msg);
      const read = run('pubsub', args, { env: { ...env, STOMP_LOG_FORMAT: 'pretty' } });
      assert.equal((await read.exit()).code, fields.exitStatus);
      assert.equal(read.logLines.length, 0);
      assert.match(read.stderr, /^pubsub: error: /m);
      assert.equal(read.stderr, logged.stderr.slice(logged.stderr.indexOf('pubsub: error: ')));
    });
  }
});

describe('a person at a terminal', skip, () => {
  it('is told in a sentence what was published, and in JSON if asked for', async () => {
    await using broker = await startBroker();
    const one = typed('publish', `/queue/x '{"n":1}'`, broker.env);
    assert.deepEqual(await one.exit(), done, one.stdout);
    assert.deepEqual(shown(one.stdout), ['1 message sent to /queue/x']);
    const cwd = temporaryFolder({ lines: '1\n2\nno\n3\n' });
    const lines = `/queue/x --lines --skip-invalid --file ${cwd}/lines`;
    const three = typed('publish', lines, broker.env);
    assert.deepEqual(await three.exit(), done, three.stdout);
    // It stands where the progress line was.
    assert.match(shown(three.stdout).at(-1) ?? '', /3 messages sent to \/queue\/x, 1 left out$/);
    const quiet = typed('publish', `/queue/x 5 --quiet`, broker.env);
    assert.deepEqual(await quiet.exit(), done, quiet.stdout);
    assert.deepEqual(shown(quiet.stdout), []);
    const json = typed('publish', `/queue/x 6 --log-format json`, broker.env);
    assert.deepEqual(await json.exit(), done, json.stdout);
    assert.equal((JSON.parse(shown(json.stdout).at(-1) ?? '') as { confirmed: number }).confirmed, 1);
  });

  it('who has no broker yet is told once how to get one', async () => {
    const [port] = (await freePorts(1)) as [number];
    const advice = (text: string) => shown(text).filter((line) => /--embedded|docker compose up/.test(line));
    const env = { ...at(port), STOMP_WAIT_TO_CONNECT: '0' };
    const consumer = typed('pubsub', '/queue/x ./callbacks#ack', env);
    await consumer.waitFor(/(no connection to the broker[^]*){3}/);
    consumer.child.stdin.write('\x03');
    assert.deepEqual(await consumer.exit(), done, consumer.stdout);
    assert.equal(advice(consumer.stdout).length, 2, consumer.stdout);
    const publisher = typed('publish', '/queue/x 1', env);
    assert.equal((await publisher.exit()).code, 4);
    assert.equal(advice(publisher.stdout).length, 2, publisher.stdout);
    // Nobody reads it.
    const logged = run('publish', ['/queue/x', '1'], { env });
    assert.equal((await logged.exit()).code, 4);
    assert.deepEqual(advice(logged.stderr), []);
  });
});

describe('a stack', () => {
  it("begins with the user's own code, also when the error is made by this package, and folds the rest", async () => {
    await using broker = await startBroker();
    const code = `export function onOrder(payload) {
  send(payload);
}
function send(payload) {
  payload.publish('', {});
}`;
    const cwd = temporaryFolder({ 'orders.mjs': code });
    const consumer = await startPubsub(broker, '/queue/x', './orders.mjs#onOrder', { cwd });
    broker.publish('/queue/x', { n: 1 }, { 'correlation-id': 'c' });
    const { err } = (await consumer.says('dead-lettered')) as { err?: { stack: string } };
    const frames = (err?.stack ?? '').split('\n').slice(1);
    assert.match(frames[0] ?? '', /at send .*orders\.mjs:5:/);
    assert.match(frames[1] ?? '', /at .*onOrder .*orders\.mjs:2:/);
    assert.match(frames[2] ?? '', /^ {4}\.\.\. \d+ of stomp-pubsub and Node$/);
    assert.equal(frames.length, 3, err?.stack);
    await stopPubsub(consumer);
  });
});

it('Ctrl-C while messages are moved says that more may lie there', skip, async () => {
  await using broker = await startBroker();
  broker.publish('/queue/from', 1, { 'correlation-id': 'c' });
  const moving = typed('pubsub', 'move-messages from to --idle 60', broker.env);
  await until(() => broker.depth('to') === 1, DEADLINE_MS, 'the one message is moved');
  moving.child.stdin.write('\x03');
  assert.deepEqual(await moving.exit(), done, moving.stdout);
  assert.match(shown(moving.stdout).at(-1) ?? '', /; stopped before the end of from: more may lie there/);
});
