/** `pubsub ack-all-messages`: nothing is removed unasked, or before its copy is on the disk. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import { brokersUnderTest } from '../support/brokers.js';
import { drainQueue, putAll } from '../support/messages.js';
import { packageRoot } from '../support/process.js';
import { findProgram } from '../support/server-process.js';
import { until, within } from '../support/until.js';
import { anyBroker, DEADLINE_MS, skipWithout, temporaryFolder, unique } from './commands.js';
import { bodiesIn, IDLE, operate, refused, resultOf, startOperator } from './operator.js';

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
      assert.deepEqual(await bodiesIn(broker, queue), ['3']);
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
      assert.deepEqual(await bodiesIn(broker, queue), ['x'.repeat(5000)]);
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

  it('removes nothing that the disk does not take, and ends with 4', skipWithout(broker), async (t) => {
    const shell = findProgram('bash');
    if (shell === undefined) {
      t.skip('no bash to limit the size of files with');
      return;
    }
    const queue = unique('ack-all');
    const file = join(temporaryFolder(), 'removed.ndjson');
    await putAll(broker!, `/queue/${queue}`, ['x'.repeat(4000), 'y'.repeat(4000)]);
    const pubsub = `'${process.execPath}' '${join(packageRoot, 'bin/pubsub.js')}'`;
    const script = `ulimit -f 1; trap '' XFSZ; exec ${pubsub} ack-all-messages ${queue} --yes --save '${file}'`;
    const { PATH, HOME } = process.env;
    const child = spawn(shell, ['-c', script], { env: { PATH, HOME, ...broker!.env } });
    const printed = within(text(child.stderr), DEADLINE_MS, 'the end of a full disk');
    const code = new Promise((resolve) => child.once('close', resolve));
    assert.match(await printed, /cannot be written: EFBIG.*; 0 messages removed/);
    assert.equal(await code, 4);
    assert.deepEqual(await bodiesIn(broker!, queue), ['x'.repeat(4000), 'y'.repeat(4000)]);
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
        terminal.stdout.setEncoding('utf8').on('data', (chunk: string) => {
          screen += chunk;
          if (chunk.includes('[y/N]')) terminal.stdin.write(answer);
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
