/** `pubsub ack-all-messages`: nothing is removed unasked, or before its copy is on the disk. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { Frame } from '../../src/stomp/frames.js';
import { brokersUnderTest } from '../support/brokers.js';
import { drainQueue, putAll } from '../support/messages.js';
import { packageRoot, runProgram } from '../support/process.js';
import { startProxy } from '../support/proxy.js';
import { findProgram } from '../support/server-process.js';
import { until, within } from '../support/until.js';
import { anyBroker, at, DEADLINE_MS, skipWithout, temporaryFolder, unique } from './commands.js';
import { bodiesIn, IDLE, operate, refused, resultOf, startOperator } from './operator.js';
import { late, startScriptedServer } from './scripted-server.js';

interface Saved {
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly bodyBase64?: string;
}

const savedIn = (file: string): Saved[] =>
  readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Saved);

for (const broker of brokersUnderTest()) {
  describe(`ack-all-messages: ${broker.name}`, { concurrency: 4 }, () => {
    it('removes all messages, also those a callback could never get, and says so', async () => {
      const queue = unique('ack-all');
      await putAll(broker, `/queue/${queue}`, ['{"n":1}', 'no JSON', Buffer.from([0xff]), '']);
      const args = ['ack-all-messages', `/queue/${queue}`, '--yes', ...IDLE];
      const { seconds, ...result } = await operate(broker, args);
      assert.equal(typeof seconds, 'number');
      assert.deepEqual(result, {
        command: 'ack-all-messages',
        destination: `/queue/${queue}`,
        isDryRun: false,
        acked: 4,
        left: 0,
        stopped: 'idle',
      });
      assert.deepEqual(await bodiesIn(broker, queue), []);
    });

    it('--count removes the first so many', async () => {
      const queue = unique('ack-all');
      await putAll(broker, `/queue/${queue}`, [0, 1, 2, 3]);
      const result = await operate(broker, ['ack_all_messages', queue, '--yes', '--count', '3']);
      assert.deepEqual([result.acked, result.stopped], [3, 'count']);
      assert.deepEqual(await bodiesIn(broker, queue, 1), ['3']);
    });

    it('--save writes every header and byte to a file that only its owner reads', async () => {
      const queue = unique('ack-all');
      const file = join(temporaryFolder(), 'removed.ndjson');
      const bodies = ['{"n": 1.0,\n"é":"\u2028"}', Buffer.from([0, 0xff, 10]), ''];
      await putAll(broker, `/queue/${queue}`, bodies, { 'correlation-id': 'c:1\n', tenant: '7' });
      const result = await operate(broker, [
        ...['ack-all-messages', queue, '--yes', '--save', file],
        ...IDLE,
      ]);
      assert.deepEqual([result.acked, result.file], [3, file]);
      const saved = savedIn(file);
      assert.deepEqual(
        saved.map(({ body, bodyBase64 }) => body ?? Buffer.from(bodyBase64 ?? '', 'base64')),
        bodies,
      );
      for (const { headers } of saved) {
        assert.equal(headers['correlation-id'], 'c:1\n');
        assert.equal(headers.tenant, '7');
        assert.equal(headers.destination, `/queue/${queue}`);
      }
      assert.equal(statSync(file).mode & 0o777, 0o600);
    });

    it('what was saved is restored whole and in order', async () => {
      const [queue, again] = [unique('ack-all'), unique('restored')];
      const file = join(temporaryFolder(), 'removed.ndjson');
      const bodies = ['{"n": 1.0,\n"é":"\u2028"}', Buffer.from([0, 0xff, 10]), '', '4'];
      await putAll(broker, `/queue/${queue}`, bodies, { 'correlation-id': 'c:1\n', tenant: '7' });
      await operate(broker, ['ack-all-messages', queue, '--yes', '--save', file, ...IDLE]);
      const { seconds, ...result } = await operate(broker, ['restore', file, again]);
      assert.equal(typeof seconds, 'number');
      const counts = { restored: 4, stopped: 'end' };
      assert.deepEqual(result, { command: 'restore', file, destination: again, ...counts });
      const restored = await drainQueue(broker, again, { atLeast: 4 });
      assert.deepEqual(
        restored.map(({ body }) => body),
        bodies.map((body) => Buffer.from(body)),
      );
      for (const { headers } of restored) {
        assert.equal(headers['correlation-id'], 'c:1\n');
        assert.equal(headers.tenant, '7');
        assert.equal(headers['x-dead-letter-routing-key'], `DLQ.${again}`);
      }
    });

    it('leaves what is too large to be saved', async () => {
      const queue = unique('ack-all');
      const file = join(temporaryFolder(), 'removed.ndjson');
      await putAll(broker, `/queue/${queue}`, ['1', 'x'.repeat(5000)]);
      const limit = ['--max-message-bytes', '4096'];
      const args = ['ack-all-messages', queue, '--yes', '--save', file, ...limit, ...IDLE];
      const result = await operate(broker, args);
      assert.deepEqual([result.acked, result.left], [1, 1]);
      assert.deepEqual(await bodiesIn(broker, queue, 1), ['x'.repeat(5000)]);
    });

    it('--follow goes on until a signal', async () => {
      const queue = unique('ack-all');
      const file = join(temporaryFolder(), 'removed.ndjson');
      await putAll(broker, `/queue/${queue}`, [0, 1]);
      const args = ['ack-all-messages', queue, '--yes', '--follow', '--save', file];
      const running = startOperator(broker, args);
      const isSaved = (count: number) => () => readFileSync(file, 'utf8').split('\n').length > count;
      await until(isSaved(2), DEADLINE_MS, 'the first messages are saved');
      await putAll(broker, `/queue/${queue}`, [2]);
      await until(isSaved(3), DEADLINE_MS, 'the later message is saved');
      running.signal('SIGINT');
      const result = await resultOf(running);
      assert.deepEqual([result.acked, result.stopped], [3, 'signal']);
      assert.deepEqual(await bodiesIn(broker, queue), []);
    });
  });
}

describe('ack-all-messages', () => {
  const broker = anyBroker();

  it('removes nothing without --yes where nobody can be asked', skipWithout(broker), async () => {
    const queue = unique('ack-all');
    await putAll(broker!, `/queue/${queue}`, [1]);
    const { code, complaint } = await refused(broker!, ['ack-all-messages', queue]);
    assert.equal(code, 2);
    assert.match(complaint, /add --yes/);
    assert.deepEqual(await bodiesIn(broker!, queue), ['1']);
  });

  it('removes nothing when the file exists or cannot be made', skipWithout(broker), async () => {
    const queue = unique('ack-all');
    const folder = temporaryFolder({ 'old.ndjson': 'kept' });
    await putAll(broker!, `/queue/${queue}`, [1]);
    for (const file of ['old.ndjson', 'missing/new.ndjson']) {
      const args = ['ack-all-messages', queue, '--yes', '--save', join(folder, file)];
      const { code, complaint } = await refused(broker!, args);
      assert.equal(code, 2);
      assert.match(complaint, /--save: E(?:EXIST|NOENT).*name a new file/);
    }
    assert.equal(readFileSync(join(folder, 'old.ndjson'), 'utf8'), 'kept');
    assert.deepEqual(await bodiesIn(broker!, queue), ['1']);
  });

  /** Runs it in a shell that limits the size of files to so many blocks of 1024 bytes. */
  const limited = (blocks: number, args: readonly string[]) => {
    const program = [process.execPath, join(packageRoot, 'bin/pubsub.js'), ...args];
    const script = `ulimit -f ${blocks}; trap '' XFSZ; exec "$@"`;
    return runProgram('bash', ['-c', script, 'bash', ...program], { env: broker!.env });
  };
  const withBash =
    findProgram('bash') === undefined ? { skip: 'no bash to limit files with' } : skipWithout(broker);

  it('removes nothing that the disk does not take, and ends with 4', withBash, async () => {
    const queue = unique('ack-all');
    const file = join(temporaryFolder(), 'removed.ndjson');
    const bodies = ['x'.repeat(4000), 'y'.repeat(4000)];
    await putAll(broker!, `/queue/${queue}`, bodies);
    const running = limited(1, ['ack-all-messages', queue, '--yes', '--save', file]);
    assert.equal((await running.exit()).code, 4);
    assert.match(running.stderr, /cannot be written: EFBIG.*; 0 messages removed and saved: keep the file$/m);
    assert.deepEqual(await bodiesIn(broker!, queue, bodies.length), bodies);
  });

  it(
    'what the disk took before it was full is removed, told, and restored; the rest stays',
    withBash,
    async () => {
      const [queue, again] = [unique('ack-all'), unique('restored')];
      const file = join(temporaryFolder(), 'removed.ndjson');
      const bodies = Array.from({ length: 40 }, (_, n) => String(n).padStart(3000, '0'));
      await putAll(broker!, `/queue/${queue}`, bodies);
      const args = ['ack-all-messages', queue, '--yes', '--window', '4', '--save', file];
      const running = limited(64, args);
      assert.equal((await running.exit()).code, 4);
      const told = /; (\d+) messages removed and saved: keep the file$/m.exec(running.stderr);
      const removed = Number(told?.[1]);
      assert.ok(removed > 0 && removed < 40, running.stderr);
      // What could be written to the file and not be confirmed is in both, and only the last line is torn.
      assert.equal(readFileSync(file, 'utf8').endsWith('\n'), false);
      const restoring = startOperator(broker!, ['restore', file, again]);
      const { restored, tornLine } = await resultOf(restoring);
      assert.equal(tornLine, Number(restored) + 1);
      assert.match(restoring.stderr, /the last line is torn: it is left out/);
      const left = await bodiesIn(broker!, queue, 40 - removed);
      assert.equal(left.length, 40 - removed);
      const back = await bodiesIn(broker!, again, Number(restored));
      assert.deepEqual(back, bodies.slice(0, back.length));
      assert.deepEqual([...new Set([...back, ...left])].toSorted(), bodies);
    },
  );

  it('tells what it removed on stderr when stdout is full', skipWithout(broker), async () => {
    const queue = unique('ack-all');
    await putAll(broker!, `/queue/${queue}`, ['1', '2']);
    const program = [
      process.execPath,
      join(packageRoot, 'bin/pubsub.js'),
      'ack-all-messages',
      queue,
      '--yes',
    ];
    const shell = ['-c', 'exec "$@" >/dev/full', 'sh', ...program, ...IDLE];
    const running = runProgram('sh', shell, { env: broker!.env });
    assert.equal((await running.exit()).code, 4);
    assert.match(
      running.stderr,
      /^pubsub: error: stdout cannot be written: ENOSPC.*; 2 messages removed from ack-all-/m,
    );
  });

  it(
    'restore says which line is no message, and which is the first not sent',
    skipWithout(broker),
    async () => {
      const queue = unique('restored');
      const wrong = ['{"headers":{}', '[1]', '{"headers":{"a":1},"body":""}', '{"body":"1"}', 'null'];
      for (const line of wrong) {
        const behind = '{"headers":{},"body":"behind"}\n'.repeat(50);
        const folder = temporaryFolder({
          'saved.ndjson': `{"headers":{},"body":"1"}\n\n${line}\n${behind}`,
        });
        const { code, complaint } = await refused(broker!, ['restore', join(folder, 'saved.ndjson'), queue]);
        assert.equal(code, 2, complaint);
        assert.match(
          complaint,
          /line 3 is no(?:t JSON| message).*; 1 message restored; line 3 is the first that is not/,
        );
      }
      const { code, complaint } = await refused(broker!, ['restore', 'missing.ndjson', queue]);
      assert.equal(code, 2);
      assert.match(complaint, /missing\.ndjson cannot be read: ENOENT/);
      assert.deepEqual(await bodiesIn(broker!, queue, 5), ['1', '1', '1', '1', '1']);
    },
  );

  it(
    'restore leaves out a torn last line, and takes a whole one without its end',
    skipWithout(broker),
    async () => {
      const queue = unique('restored');
      const line = '{"headers":{},"body":"1"}';
      const files = { 'torn.ndjson': `${line}\n${line.slice(0, 20)}`, 'whole.ndjson': `${line}\n\n${line}` };
      const folder = temporaryFolder(files);
      const torn = startOperator(broker!, ['restore', join(folder, 'torn.ndjson'), queue]);
      const { restored, tornLine } = await resultOf(torn);
      assert.deepEqual([restored, tornLine], [1, 2]);
      assert.match(torn.stderr, /"line":2,"reason":"line 2 is not JSON/);
      const whole = await operate(broker!, ['restore', join(folder, 'whole.ndjson'), queue]);
      assert.deepEqual([whole.restored, whole.tornLine], [2, undefined]);
      assert.equal((await bodiesIn(broker!, queue, 3)).length, 3);
    },
  );

  it('restore goes on from the line it names', skipWithout(broker), async () => {
    const queue = unique('restored');
    const line = (n: number) => `{"headers":{},"body":"${n}"}\n`;
    const folder = temporaryFolder({
      'broken.ndjson': `${line(1)}${line(2)}broken\n${line(4)}`,
      'mended.ndjson': [1, 2, 3, 4].map(line).join(''),
    });
    const { code, complaint } = await refused(broker!, ['restore', join(folder, 'broken.ndjson'), queue]);
    assert.equal(code, 2);
    const [, resume = ''] =
      /line 3 is the first that is not: go on with (--resume-from 2)$/.exec(complaint) ?? [];
    const mended = join(folder, 'mended.ndjson');
    const result = await operate(broker!, ['restore', mended, queue, ...resume.split(' ')]);
    assert.equal(result.restored, 2);
    assert.deepEqual(await bodiesIn(broker!, queue, 4), ['1', '2', '3', '4']);
    const beyond = await refused(broker!, ['restore', mended, queue, '--resume-from', '5']);
    assert.equal(beyond.code, 2);
    assert.match(beyond.complaint, /--resume-from 5: the file has only 4 lines$/);
  });

  it('restore that is stopped ends with 5 and the line to go on from', async () => {
    const line = (n: number) => `{"headers":{"n":"${n}"},"body":"${n}"}\n`;
    const count = 400;
    const file = join(
      temporaryFolder({ 'saved.ndjson': Array.from({ length: count }, (_, n) => line(n)).join('') }),
      'saved.ndjson',
    );
    // Ten are confirmed, then nobody answers until the stop.
    let sends = 0;
    const answer = ({ command, headers }: Frame): boolean =>
      command === 'SEND' && headers.n !== undefined && ++sends > 10;
    await using server = await startScriptedServer({ bodies: [], answer });
    const running = startOperator(server, ['restore', file, 'a', '--window', '20'], {
      env: { STOMP_GRACEFUL_WAIT_SECONDS: '0.5' },
    });
    // With those the window is full, and the ten are known to be confirmed.
    await until(
      () => sends === 30,
      DEADLINE_MS,
      () => `the window is full; came: ${server.commands().join(' ')}`,
    );
    running.signal('SIGTERM');
    assert.deepEqual(await running.exit(), { code: 5, signal: null }, running.stderr);
    assert.match(
      running.stderr,
      /10 messages restored, up to 20 more may be; line 11 is the first that is not: go on with --resume-from 10$/m,
    );
  });

  it('restore that is stopped and goes on from there sends every line', skipWithout(broker), async () => {
    const queue = unique('restored');
    const texts = Array.from({ length: 5000 }, (_, n) => String(n));
    const lines = texts.map((text) => `{"headers":{},"body":"${text}"}\n`);
    const file = join(temporaryFolder({ 'saved.ndjson': lines.join('') }), 'saved.ndjson');
    await using proxy = await startProxy(broker!);
    let sends = 0;
    const isInTheMiddle = ({ command }: Frame) => command === 'SEND' && ++sends === texts.length / 2;
    const middle = proxy.frame('toServer', isInTheMiddle, { isHeld: true });
    const running = startOperator({ env: { ...broker!.env, ...at(proxy.port) } }, ['restore', file, queue]);
    await within(middle, DEADLINE_MS, () => `half of the lines are sent; ${running.stderr}`);
    running.signal('SIGTERM');
    await running.says('stopping');
    proxy.resume();
    assert.deepEqual(await running.exit(), { code: 5, signal: null }, running.stderr);
    const [, resume = ''] = /go on with (--resume-from \d+)$/m.exec(running.stderr) ?? [];
    await operate(broker!, ['restore', file, queue, ...resume.split(' ')]);
    assert.deepEqual(await bodiesIn(broker!, queue, texts.length), texts);
  });

  it('a queue whose broker stands still is not taken for an empty one', async () => {
    await using server = await startScriptedServer({ answer: late({ n: 1 }) });
    const result = await operate(server, ['ack-all-messages', 'x', '--yes', '--idle', '0.2']);
    assert.deepEqual([result.acked, result.stopped], [1, 'idle']);
  });

  const script = findProgram('script');
  const cases: [answer: string, left: string[], shown: RegExp][] = [
    ['n\n', ['1'], /nothing was removed/],
    ['\n', ['1'], /nothing was removed/],
    ['\x04', ['1'], /nothing was removed/],
    ['y\n', [], /1 message removed from ack-all-/],
  ];
  for (const [answer, left, shown] of cases) {
    const name = `asks on a terminal; of ${JSON.stringify(answer)} it makes ${left.length === 0 ? 'yes' : 'no'}`;
    it(
      name,
      script === undefined ? { skip: 'no "script" to make a terminal with' } : skipWithout(broker),
      async () => {
        const queue = unique('ack-all');
        await putAll(broker!, `/queue/${queue}`, [1]);
        const pubsub = `'${process.execPath}' '${join(packageRoot, 'bin/pubsub.js')}'`;
        const command = `${pubsub} ack-all-messages ${queue} --idle 1`;
        const { PATH, HOME } = process.env;
        const terminal = spawn(script!, ['-qec', command, '/dev/null'], {
          env: { PATH, HOME, TERM: 'xterm-256color', ...broker!.env },
          stdio: ['pipe', 'pipe', 'inherit'],
        });
        let screen = '';
        let isAnswered = false;
        terminal.stdout.setEncoding('utf8').on('data', (chunk: string) => {
          screen += chunk;
          if (isAnswered || !screen.includes('[y/N]')) return;
          isAnswered = true;
          terminal.stdin.write(answer);
        });
        const ended = new Promise((resolve) => terminal.once('close', resolve));
        assert.equal(await within(ended, DEADLINE_MS, () => `the end on a terminal: ${screen}`), 0);
        assert.match(screen, /Remove the messages in ack-all-\S+ on \S+:\d+\?/);
        assert.match(screen, shown);
        assert.deepEqual(await bodiesIn(broker!, queue), left);
      },
    );
  }
});
