/** `publish --lines`: long inputs, where they stop, what is said then, and how they go on. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { encodeFrame, type Frame } from '../../src/stomp/frames.js';
import { brokersUnderTest } from '../support/brokers.js';
import { drainQueue } from '../support/messages.js';
import { packageRoot, run, startProgram, type Running } from '../support/process.js';
import { findProgram } from '../support/server-process.js';
import { until } from '../support/until.js';
import { complaint, DEADLINE_MS, publish, published, temporaryFolder, unique } from './commands.js';
import { assertHarmless, onTerminal } from './operator.js';
import { type ScriptedServer, startScriptedServer } from './scripted-server.js';

const numbers = (count: number) => Array.from({ length: count }, (_, n) => String(n + 1));
const bodies = (frames: readonly Frame[]) => frames.map(({ body }) => body.toString());
const sends = (server: ScriptedServer) => server.frames.filter(({ command }) => command === 'SEND');
const summary = (running: Pick<Running, 'said'>) => running.said('published')[0];

/** Any SEND but the first, which goes alone. */
function isLaterSend(): (frame: Frame) => boolean {
  let sent = 0;
  return ({ command }) => command === 'SEND' && ++sent > 1;
}

/** Holds back the receipts of the frames chosen until they are released, then and later. */
function holdReceipts(isHeld: (frame: Frame) => boolean) {
  const held: [Socket, string][] = [];
  let isHolding = true;
  return {
    held,
    answer: (frame: Frame, socket: Socket) => {
      if (!isHolding || frame.headers.receipt === undefined || !isHeld(frame)) return undefined;
      held.push([socket, frame.headers.receipt]);
      return true;
    },
    release: () => {
      isHolding = false;
      for (const [socket, id] of held.splice(0)) socket.write(encodeFrame('RECEIPT', { 'receipt-id': id }));
    },
  };
}

describe('publish --lines', () => {
  it('sums up what was sent and confirmed, how long it took and the rate', async () => {
    await using server = await startScriptedServer();
    const running = await publish(server, ['/queue/x', '--lines'], { input: '1\n2\n3' });
    assert.equal(running.code, 0, running.stderr);
    const { sent, confirmed, durationMs, perSecond, skipped } = summary(running) ?? {};
    assert.deepEqual([sent, confirmed, skipped], [3, 3, undefined]);
    assert.ok(Number(durationMs) >= 0 && Number(perSecond) > 0);
  });

  it('sends no more than the window ahead of the confirmations', async () => {
    let unconfirmed: string[] = [];
    let most = 0;
    await using server = await startScriptedServer({
      answer: ({ command, headers }, socket) => {
        if (command !== 'SEND') return undefined;
        unconfirmed.push(headers.receipt ?? '');
        most = Math.max(most, unconfirmed.length);
        // The first one goes alone.
        if (unconfirmed.length === 5 || sends(server).length === 1) {
          for (const id of unconfirmed) socket.write(encodeFrame('RECEIPT', { 'receipt-id': id }));
          unconfirmed = [];
        }
        return true;
      },
    });
    await published(server, ['/queue/x', '--lines', '--window', '5'], { input: numbers(501).join('\n') });
    assert.equal(most, 5);
    assert.deepEqual(bodies(sends(server)), numbers(501));
  });

  for (const flags of [[], ['--transaction']]) {
    const skip = process.platform !== 'linux' && 'reads /proc';
    it(`keeps little of a long input in memory ${flags.join('')}`, { skip }, async () => {
      const megabytes = 150;
      const line = `"${'x'.repeat(1024 * 1024 - 3)}"\n`;
      const folder = temporaryFolder({ 'big.ndjson': line.repeat(megabytes) });
      let came = 0;
      // The end is held up until the memory has been looked at.
      const { answer, held, release } = holdReceipts(({ command }) => {
        if (command === 'SEND') came++;
        return command === 'COMMIT' || (command === 'SEND' && came === megabytes && flags.length === 0);
      });
      await using server = await startScriptedServer({ answer });
      const args = ['/queue/x', '--lines', '--window', '4', '--file', `${folder}/big.ndjson`, ...flags];
      const running = run('publish', args, { env: server.env });
      await until(
        () => held.length > 0,
        DEADLINE_MS,
        () => `the end; came: ${came} of ${running.stderr}`,
      );
      const status = readFileSync(`/proc/${running.pid}/status`, 'utf8');
      release();
      assert.equal((await running.exit()).code, 0, running.stderr);
      const peakMegabytes = Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
      assert.ok(peakMegabytes < megabytes, `${peakMegabytes} MB at most`);
    });
  }

  it('shows no progress when stderr is no terminal', async () => {
    await using server = await startScriptedServer();
    const { stderr, stdout } = await publish(server, ['/queue/x', '--lines'], { input: '1\n2\n' });
    // eslint-disable-next-line no-control-regex -- that is what must not be there
    assert.doesNotMatch(stdout + stderr, /\x1b|\r/);
  });

  const script = spawnSync('script', ['--version']).status === 0 ? false : 'no script of util-linux here';
  for (const [what, isFile] of [
    ['a bar for a file', true],
    ['a count for a pipe', false],
  ] as const) {
    it(`shows progress on a terminal: ${what}`, { skip: script }, async () => {
      const { answer, release } = holdReceipts(({ body }) => body.toString() === '2');
      await using server = await startScriptedServer({ answer });
      const folder = temporaryFolder({ 'lines.ndjson': '1\n2\n' });
      const command = [process.execPath, join(packageRoot, 'bin/publish.js'), '/queue/x', '--lines'];
      const input = isFile ? ['<', `${folder}/lines.ndjson`] : [`< <(cat ${folder}/lines.ndjson)`];
      const { PATH, HOME } = process.env;
      const terminal = spawn(
        'script',
        ['-qec', `bash -c '${[...command, ...input].join(' ')}'`, '/dev/null'],
        {
          env: { PATH, HOME, TERM: 'xterm', ...server.env },
          stdio: ['ignore', 'pipe', 'ignore'],
        },
      );
      after(() => terminal.kill());
      let output = '';
      terminal.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
      const expected = isFile ? /\[=+\] 100 % {2}1 confirmed, \d+\/s/ : /1 confirmed, \d+\/s/;
      await until(
        () => expected.test(output),
        DEADLINE_MS,
        () => `${String(expected)} in ${JSON.stringify(output)}`,
      );
      release();
      const code = await new Promise((resolve) => terminal.once('close', resolve));
      assert.equal(code, 0, output);
      // The line is erased before the last one is printed.
      const [, end = ''] = output.split('\x1b[0J');
      assert.match(end, /^[^=%]*messages sent to /);
    });
  }
});

describe('publish --lines --resume-from', () => {
  it('leaves out the lines up to that one, whatever they are, and counts on', async () => {
    await using server = await startScriptedServer();
    const args = ['/queue/x', '--lines', '--resume-from', '2'];
    const { code, stderr } = await publish(server, args, { input: 'no JSON\n1\n2\n\n3\n{"n":\n4\n' });
    assert.equal(code, 2, stderr);
    assert.deepEqual(bodies(sends(server)), ['2', '3']);
    assert.match(
      complaint(stderr),
      /^line 6 is not JSON.*; 2 confirmed, 0 unknown; correct it, or leave it out with --skip-invalid, and go on with --resume-from 5$/,
    );
  });

  it('takes the last line: then nothing is left to do', async () => {
    await using server = await startScriptedServer();
    await published(server, ['/queue/x', '--lines', '--resume-from', '2'], { input: '1\n2\n' });
    assert.equal(server.connections, 0);
  });

  it('names the line up to which all are confirmed, though receipts come out of order', async () => {
    const answer = ({ body, headers }: Frame, socket: Socket) => {
      if (body.toString() === '5')
        socket.end(encodeFrame('RECEIPT', { 'receipt-id': headers.receipt ?? '' }));
      return ['3', '5'].includes(body.toString());
    };
    await using server = await startScriptedServer({ answer });
    const { code, stderr } = await publish(server, ['/queue/x', '--lines', '--reconnect-for', '0'], {
      input: '1\n2\n3\n4\n5\n',
    });
    assert.equal(code, 4, stderr);
    assert.match(complaint(stderr), /; 4 confirmed, 1 unknown; go on with --resume-from 2$/);
  });
});

describe('publish --lines --skip-invalid', () => {
  const script = findProgram('script') === undefined ? { skip: 'no "script" to make a terminal with' } : {};
  it('lets no control character of a line reach a terminal, with and without it', script, async () => {
    const lines = '{"n":1}\n\x1b]0;title\x07\x1b[2J\u009b31m\u202ehello\n{"n":3}\n';
    const file = join(temporaryFolder({ 'escape.ndjson': lines }), 'escape.ndjson');
    await using server = await startScriptedServer();
    const publishing = (flag: string) =>
      onTerminal(server, `/queue/x --lines ${flag} --file ${file}`, 'publish');
    const refused = await publishing('');
    assert.match(
      refused,
      /publish: error: line 2 is not JSON: .*\\u001b\]0;title\\u0007.*go on with --resume-from 1/,
    );
    const skipped = await publishing('--skip-invalid');
    assert.match(skipped, /line left out \{"line":2,"reason":"line 2 is not JSON/);
    assert.deepEqual(bodies(sends(server)).slice(-2), ['{"n":1}', '{"n":3}']);
    for (const screen of [refused, skipped]) assertHarmless(screen);
  });

  it('sends all others, names each line it leaves out and counts them', async () => {
    await using server = await startScriptedServer();
    const input = Buffer.concat([
      Buffer.from('1\n{"n":\n2\nx\n'),
      Buffer.from('"é"\n', 'latin1'),
      Buffer.from('3'),
    ]);
    const running = await publish(server, ['/queue/x', '--lines', '--skip-invalid'], { input });
    assert.equal(running.code, 0, running.stderr);
    assert.deepEqual(bodies(sends(server)), ['1', '2', '3']);
    const left = running.said('line left out');
    assert.deepEqual(
      left.map(({ line }) => line),
      [2, 4, 5],
    );
    assert.match(String(left[2]?.reason), /^line 5 is not UTF-8/);
    assert.deepEqual([summary(running)?.confirmed, summary(running)?.skipped], [3, 3]);
  });

  it('takes each line for itself, wherever the chunks of the input end', async () => {
    await using server = await startScriptedServer();
    // Input is read in chunks of 64 kB: of three letters of three bytes each one is cut at the end of one of them.
    const euros = (count: number) => Buffer.from(JSON.stringify('€'.repeat(count)));
    const blanks = [Buffer.from(''), Buffer.from(' \t\r'), Buffer.from('\0')];
    const good = [21_840, 1, 43_690, 65_536, 3].flatMap((count) => [
      euros(count),
      Buffer.from(`\ufeff[${count}]\r`),
      Buffer.from(`\u00a0"\u2028"`),
      ...blanks,
    ]);
    const bad = Buffer.from('"\xe9"', 'latin1');
    const lines = good.flatMap((line, index) => (index % 7 === 6 ? [bad, line] : [line]));
    const input = Buffer.concat(lines.flatMap((line) => [line, Buffer.from('\n')]));
    const file = join(temporaryFolder({ 'odd.ndjson': input }), 'odd.ndjson');
    const running = await publish(server, ['/queue/x', '--lines', '--skip-invalid', '--file', file]);
    assert.equal(running.code, 0, running.stderr);
    const expected = good
      .filter((line) => line.some((byte) => byte > 32))
      .map((line) => line.toString().trim());
    assert.deepEqual(bodies(sends(server)), expected);
    assert.deepEqual(
      running.said('line left out').map(({ line, reason }) => [line, reason]),
      lines.flatMap((line, index) => (line === bad ? [[index + 1, `line ${index + 1} is not UTF-8`]] : [])),
    );
  });

  it('leaves out a line that is longer than any message, without keeping it', async () => {
    await using server = await startScriptedServer();
    const file = join(temporaryFolder({ 'long.ndjson': '1\n' }), 'long.ndjson');
    truncateSync(file, 600 * 1024 * 1024);
    const descriptor = openSync(file, 'a');
    writeSync(descriptor, '\n3\n');
    closeSync(descriptor);
    const running = await publish(server, ['/queue/x', '--lines', '--skip-invalid', '--file', file]);
    assert.equal(running.code, 0, running.stderr);
    assert.deepEqual(bodies(sends(server)), ['1', '3']);
    const left = running.said('line left out');
    assert.match(String(left.map(({ reason }) => reason)), /^line 2 is longer than \d+ bytes$/);
  });

  it('refuses a folder as standard input, which Node takes for an empty one', async () => {
    await using server = await startScriptedServer();
    const command = `exec "${process.execPath}" bin/publish.js /queue/x --lines < ${temporaryFolder()}`;
    const running = startProgram('bash', ['-c', command], { env: server.env });
    assert.deepEqual(await running.exit(), { code: 2, signal: null }, running.stderr);
    assert.match(running.stderr, /standard input cannot be read: it is a folder/);
    assert.equal(server.connections, 0);
  });

  it('leaves lines out of a transaction too', async () => {
    await using server = await startScriptedServer();
    await published(server, ['/queue/x', '--lines', '--skip-invalid', '--transaction'], {
      input: '1\nx\n2\n',
    });
    assert.deepEqual(server.commands(), ['CONNECT', 'BEGIN', 'SEND', 'SEND', 'COMMIT', 'DISCONNECT']);
  });
});

describe('publish that is stopped', () => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`by ${signal} ends with 5 and says what is confirmed and how to go on`, async () => {
      await using server = await startScriptedServer();
      const running = run('publish', ['/queue/x', '--lines'], { env: server.env, input: null });
      running.child.stdin.write('1\n2\n\n3\n4');
      await server.received('SEND', 3);
      running.signal(signal);
      assert.deepEqual(await running.exit(), { code: 5, signal: null }, running.stderr);
      assert.match(
        complaint(running.stderr),
        /^stopped.*; 3 confirmed, 0 unknown; go on with --resume-from 4$/,
      );
      assert.equal(server.commands().at(-1), 'DISCONNECT');
    });
  }

  it('waits for the confirmations of what is sent, and sends nothing more', async () => {
    const { answer, held, release } = holdReceipts(isLaterSend());
    await using server = await startScriptedServer({ answer });
    const input = numbers(100).join('\n');
    const running = run('publish', ['/queue/x', '--lines', '--window', '3'], { env: server.env, input });
    await until(() => held.length === 3, DEADLINE_MS, 'a full window');
    running.signal('SIGTERM');
    await running.says('stopping');
    release();
    assert.equal((await running.exit()).code, 5, running.stderr);
    const [confirmed, upTo] = /; (\d+) confirmed, 0 unknown; go on with --resume-from (\d+)$/
      .exec(complaint(running.stderr))!
      .slice(1)
      .map(Number);
    // One more was waiting for its place when the signal came.
    assert.ok(confirmed === upTo && confirmed! >= 4 && confirmed! <= 5, running.stderr);
    assert.equal(sends(server).length, confirmed);
  });

  it('waits no longer than the graceful wait', async () => {
    const { answer, held } = holdReceipts(isLaterSend());
    await using server = await startScriptedServer({ answer });
    const env = { ...server.env, STOMP_GRACEFUL_WAIT_SECONDS: '0.2' };
    const running = run('publish', ['/queue/x', '--lines'], { env, input: null });
    running.child.stdin.write('1\n2\n3\n');
    await until(() => held.length === 2, DEADLINE_MS, 'both messages');
    running.signal('SIGINT');
    assert.equal((await running.exit()).code, 5, running.stderr);
    assert.match(complaint(running.stderr), /; 1 confirmed, 2 unknown; go on with --resume-from 1$/);
  });

  it('while it connects ends at once', async () => {
    await using server = await startScriptedServer({ answer: () => true });
    const running = run('publish', ['/queue/x', '1'], { env: server.env });
    await server.received('CONNECT');
    running.signal('SIGTERM');
    assert.equal((await running.exit()).code, 5, running.stderr);
    assert.match(complaint(running.stderr), /^stopped while connecting/);
  });

  for (const broker of brokersUnderTest()) {
    it(`in a transaction publishes nothing: ${broker.name}`, async () => {
      const queue = `/queue/${unique('stopped')}`;
      const args = [queue, '--lines', '--transaction', '--log-level', 'debug'];
      const running = run('publish', args, { env: broker.env, input: null });
      running.child.stdin.write('1\n2\n');
      await running.says('connected');
      running.signal('SIGINT');
      assert.equal((await running.exit()).code, 5, running.stderr);
      assert.match(complaint(running.stderr), /^stopped.*; nothing was published$/);
      assert.deepEqual(await drainQueue(broker, queue), []);
    });
  }
});

describe('publish in transactions', () => {
  it('of a size begins a new one, with a new id, when the last is confirmed', async () => {
    await using server = await startScriptedServer();
    const args = ['/queue/x', '--lines', '--transaction-size', '2'];
    const running = await publish(server, args, { input: numbers(5).join('\n') });
    assert.equal(running.code, 0, running.stderr);
    const one = ['BEGIN', 'SEND', 'SEND', 'COMMIT'];
    assert.deepEqual(server.commands(), ['CONNECT', ...one, ...one, 'BEGIN', 'SEND', 'COMMIT', 'DISCONNECT']);
    const ids = server.frames.slice(1, -1).map(({ headers }) => headers.transaction);
    assert.deepEqual([new Set(ids).size, new Set(ids.slice(0, 4)).size], [3, 1]);
    assert.deepEqual([summary(running)?.sent, summary(running)?.confirmed], [5, 5]);
  });

  it('is not confirmed by the receipt of COMMIT alone', async () => {
    await using server = await startScriptedServer({
      answer: ({ command, headers }, socket) => {
        if (command === 'COMMIT') socket.end(encodeFrame('RECEIPT', { 'receipt-id': headers.receipt ?? '' }));
        return command === 'SEND' || command === 'COMMIT';
      },
    });
    const { code, stderr } = await publish(server, ['/queue/x', '--lines', '--transaction'], {
      input: '1\n2\n',
    });
    assert.equal(code, 4, stderr);
    assert.match(complaint(stderr), /may or may not have been carried out$/);
  });

  it('that are too large for the broker ends with 4 and names the flag', async () => {
    const text = 'Too many actions in transaction (limit 1024)\n';
    await using server = await startScriptedServer({
      answer: ({ command }, socket) => {
        if (command !== 'SEND') return undefined;
        socket.write(encodeFrame('ERROR', { message: 'Transaction too large' }, text));
        return true;
      },
    });
    const { code, stderr } = await publish(server, ['/queue/x', '--lines', '--transaction'], {
      input: '1\n2\n',
    });
    assert.equal(code, 4, stderr);
    assert.match(complaint(stderr), /limit 1024.*--transaction-size.*; nothing was published$/);
  });

  for (const broker of brokersUnderTest()) {
    it(`keeps those before a line that is not JSON, and goes on after them: ${broker.name}`, async () => {
      const queue = `/queue/${unique('chunks')}`;
      const args = [queue, '--lines', '--transaction-size', '2'];
      const { code, stderr } = await publish(broker, args, { input: '1\n2\n3\n4\n5\nx\n7\n' });
      assert.equal(code, 2, stderr);
      assert.match(
        complaint(stderr),
        /^line 6 is not JSON.*; 2 transactions with 4 messages were carried out before it; correct it, or leave it out with --skip-invalid, and go on with --resume-from 4$/,
      );
      await published(broker, [...args, '--resume-from', '4'], { input: '1\n2\n3\n4\n5\n6\n7\n' });
      assert.deepEqual(bodies(await drainQueue(broker, queue, { atLeast: 7 })), numbers(7));
    });
  }
});

describe('publish refuses, before it connects,', () => {
  const lines = ['--lines'];
  const refusals: [what: string, args: string[], expected: RegExp][] = [
    ['to resume what has no lines', ['--resume-from', '1'], /^--resume-from needs --lines/],
    ['to skip in what has no lines', ['--skip-invalid'], /^--skip-invalid needs --lines/],
    [
      'transactions of a size without lines',
      ['--transaction-size', '2'],
      /^--transaction-size needs --lines/,
    ],
    ['one transaction and many', [...lines, '--transaction', '--transaction-size', '2'], /give one of them/],
    [
      'transactions of nothing',
      [...lines, '--transaction-size', '0'],
      /^--transaction-size: .* from 1 .* not "0"/,
    ],
    ['to resume from what is no number', [...lines, '--resume-from', 'x'], /^--resume-from: .* not "x"/],
    [
      'to resume behind the end',
      [...lines, '--resume-from', '9'],
      /^--resume-from 9: the input has only 2 lines; 0 confirmed, 0 unknown$/,
    ],
  ];
  for (const [what, args, expected] of refusals) {
    it(what, async () => {
      await using server = await startScriptedServer();
      const { code, stderr } = await publish(server, ['/queue/x', ...args], { input: '1\n2\n' });
      assert.equal(code, 2, stderr);
      assert.match(complaint(stderr), expected);
      assert.equal(server.connections, 0);
    });
  }
});
