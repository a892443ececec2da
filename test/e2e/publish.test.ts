/** `publish`: where bodies come from, what becomes of each, and what it says when not all of them arrived. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { openPublisher, PubsubError } from '../../src/index.js';
import { bodiesIn, drainQueue } from '../support/messages.js';
import { startProxy } from '../support/proxy.js';
import { connectRaw } from '../support/raw-client.js';
import { freePorts } from '../support/server-process.js';
import {
  anyBroker,
  at,
  complaint,
  publish,
  published,
  realBrokers,
  skipWithout,
  temporaryFolder,
  unique,
} from './commands.js';
import { type ScriptedServer, startScriptedServer } from './scripted-server.js';

const sentTo = (server: ScriptedServer) =>
  server.frames.filter(({ command }) => command === 'SEND').map(({ body }) => body.toString());

describe('publish takes the body', () => {
  const exact = '{"n": 9007199254740993, "m":1.0,\n "big":123456789012345678901234567890, "e":1e400}';
  const file = () => temporaryFolder({ 'body.json': `\uFEFF  ${exact}\n\n` });
  const ways: [what: string, args: () => string[], input: string][] = [
    ['from its argument', () => [exact], ''],
    ['from a file', () => ['--file', `${file()}/body.json`], ''],
    ['from standard input', () => [], `\n${exact} \r\n`],
    ['from standard input named by a dash', () => ['-'], exact],
    ['from standard input named as a file', () => ['--file', '-'], exact],
  ];
  for (const [what, args, input] of ways) {
    it(`${what}, and sends it as it stands`, async () => {
      await using server = await startScriptedServer();
      const { code, stderr, stdout } = await publish(server, ['/queue/x', ...args()], { input });
      assert.equal(code, 0, stderr);
      assert.equal(stdout, '');
      assert.deepEqual(sentTo(server), [exact]);
    });
  }

  it('one a line, without blank lines, line ends and a need for the last one', async () => {
    await using server = await startScriptedServer();
    const input = '{"n":1}\n\n  \r\n {"n":2}\r\n"é\u2028"\n9007199254740993';
    await published(server, ['/queue/x', '--lines'], { input });
    assert.deepEqual(sentTo(server), ['{"n":1}', '{"n":2}', '"é\u2028"', '9007199254740993']);
    const ids = server.frames
      .filter(({ command }) => command === 'SEND')
      .map(({ headers }) => headers['correlation-id']);
    assert.equal(new Set(ids).size, 4);
  });

  it('one a line of a file, more than the window takes, in order', async () => {
    await using server = await startScriptedServer();
    const lines = Array.from({ length: 1000 }, (_, n) => `{"n":${n}}`);
    const folder = temporaryFolder({ 'many.ndjson': lines.join('\n') });
    const running = await publish(server, [
      ...['/queue/x', '--lines', '--file', `${folder}/many.ndjson`, '--window', '7'],
    ]);
    assert.equal(running.code, 0, running.stderr);
    assert.deepEqual(sentTo(server), lines);
    const [said] = running.said('published');
    assert.deepEqual([said?.count, said?.destination], [1000, '/queue/x']);
  });
});

describe('publish refuses with 2 and one line, before it connects,', () => {
  const folder = () => temporaryFolder({ 'latin1.json': Buffer.from('"é"', 'latin1'), 'cut.json': '{"a":' });
  const refusals: [what: string, args: (folder: string) => string[], input: string, expected: RegExp][] = [
    ['a body that is not JSON', () => ['{key: 1}'], '', /^the body is not JSON/],
    [
      'a body whose quotes the shell took',
      () => ['{key:1}'],
      '',
      /write '\{"key":"value"\}', in single quotes/,
    ],
    ['lines without --lines', () => [], '{"n":1}\n{"n":2}\n', /for one message a line say --lines/],
    ['an empty argument', () => [''], '', /the body is empty/],
    ['an empty input', () => [], ' \n', /standard input is empty/],
    ['a file that is not JSON', (cwd) => ['--file', `${cwd}/cut.json`], '', /cut\.json is not JSON/],
    ['a file that is not UTF-8', (cwd) => ['--file', `${cwd}/latin1.json`], '', /latin1\.json is not UTF-8/],
    ['a file that is not there', () => ['--file', '/no/such/file'], '', /--file \/no\/such\/file/],
    ['a folder as a file', () => ['--file', '/tmp'], '', /--file \/tmp/],
    ['a body and a file', () => ['1', '--file', 'x.json'], '', /--file/],
    ['lines as an argument', () => ['1', '--lines'], '', /--lines/],
    ['a first line that is not JSON', () => ['--lines'], 'x\n1\n', /^line 1 is not JSON/],
    ['a header without a value', () => ['1', '--header', 'tenant'], '', /--header "tenant".*<name>=<value>/],
    ['a header without a name', () => ['1', '--header', '=7'], '', /--header "=7".*<name>=<value>/],
    ['an impossible setting', () => ['1', '--window', '0'], '', /--window.*1 to 100000/],
  ];
  for (const [what, args, input, expected] of refusals) {
    it(what, async () => {
      await using server = await startScriptedServer();
      const { code, stderr } = await publish(server, ['/queue/x', ...args(folder())], { input });
      assert.equal(code, 2, stderr);
      assert.match(stderr, /^publish: error: [^\n]+\n$/);
      assert.match(complaint(stderr), expected);
      assert.equal(server.connections, 0);
    });
  }

  for (const args of [
    ['text', '/queue/x', '--text'],
    ['{"n":1}', '/queue/x'],
  ])
    it(`arguments in the wrong order: ${args.join(' ')}`, async () => {
      await using server = await startScriptedServer();
      const { code, stderr } = await publish(server, args);
      assert.equal(code, 2, stderr);
      assert.match(complaint(stderr), /\/queue\/x looks like the destination.*the destination comes first/);
      assert.equal(server.connections, 0);
    });

  for (const destination of ['/queue/', '', '/topic/a.*', '/queue/>', '/queue/ ']) {
    it(`the destination "${destination}"`, async () => {
      await using server = await startScriptedServer();
      const { code, stderr } = await publish(server, [destination, '1']);
      assert.equal(code, 2, stderr);
      assert.match(stderr, /^publish: error: cannot publish to [^\n]+\n$/);
      assert.equal(server.connections, 0);
    });
  }
});

describe("publish refuses headers that are not a caller's to give, before anything is sent:", () => {
  const refused = [
    'destination=/queue/y',
    'exclusive=true',
    'x-message-ttl=1',
    'reply-to=/temp-queue/a',
    'id=1',
  ];
  for (const header of refused) {
    it(header, async () => {
      await using server = await startScriptedServer();
      const { code, stderr } = await publish(server, ['/queue/x', '1', '--header', header]);
      assert.equal(code, 2, stderr);
      const [name] = header.split('=');
      assert.match(
        stderr,
        new RegExp(`^publish: error: --header ${name}: this header cannot be given: [^\n]+\n$`),
      );
      assert.equal(server.connections, 0);
    });
  }
});

describe('publish sends the headers', () => {
  it('of --header, --correlation-id and --no-persistent', async () => {
    await using server = await startScriptedServer();
    await published(server, [
      ...['/queue/x', '1', '--header', 'tenant=7', '--header', 'query=a=b&c=d', '--header', 'empty='],
      ...['--header', '__proto__=polluted', '--header', 'constructor=c'],
      ...['--correlation-id', 'order:17', '--no-persistent'],
    ]);
    const [frame] = await server.received('SEND');
    const headers = { ...frame?.headers } as Record<string, string | undefined>;
    assert.deepEqual(
      [headers.tenant, headers.query, headers.empty, headers['correlation-id'], headers.persistent],
      ['7', 'a=b&c=d', '', 'order:17', undefined],
    );
    const names = Object.entries(frame?.headers ?? {});
    for (const [name, value] of [
      ['__proto__', 'polluted'],
      ['constructor', 'c'],
    ] as const) {
      assert.deepEqual(
        names.find(([given]) => given === name),
        [name, value],
      );
    }
  });

  it('a correlation-id given as a header counts, and --correlation-id wins', async () => {
    await using server = await startScriptedServer();
    const header = ['--header', 'correlation-id=header'];
    await published(server, ['/queue/x', '1', ...header]);
    await published(server, ['/queue/x', '1', ...header, '--correlation-id', 'flag']);
    const ids = (await server.received('SEND', 2)).map(({ headers }) => headers['correlation-id']);
    assert.deepEqual(ids, ['header', 'flag']);
  });
});

for (const broker of realBrokers()) {
  describe(`publish to ${broker.name}`, () => {
    it('values with line breaks, colons and backslashes, and the body, arrive as they were given', async () => {
      const queue = `/queue/${unique('publish')}`;
      const value = 'one\ntwo\r\nthree: 3\\n é';
      const body = '{"n":9007199254740993,"text":"\\u0000é"}';
      await published(broker, [queue, body, '--header', `odd: name=${value}`, '--correlation-id', 'a:b\nc']);
      const [message] = await drainQueue(broker, queue, { atLeast: 1 });
      assert.equal(message?.headers['odd: name'], value);
      assert.equal(message.headers['correlation-id'], 'a:b\nc');
      assert.equal(message.body.toString(), body);
    });

    it('a topic reaches who is subscribed to it', async () => {
      const topic = `/topic/${unique('publish')}`;
      const client = await connectRaw(broker);
      await client.subscribe(topic);
      await published(broker, [topic, '{"key":"value"}']);
      const message = await client.next('MESSAGE');
      client.destroy();
      assert.equal(message.body.toString(), '{"key":"value"}');
      assert.equal(message.headers['tshoot-destination'], topic);
    });

    it('a line that is not JSON ends with 2: it names the line, and what came before it has arrived', async () => {
      const queue = `/queue/${unique('publish')}`;
      const { code, stderr } = await publish(broker, [queue, '--lines'], { input: '1\n\n2\n{"n":\n4\n' });
      assert.equal(code, 2, stderr);
      assert.match(
        complaint(stderr),
        /^line 4 is not JSON.*; 2 confirmed, 0 unknown; correct it, or leave it out with --skip-invalid, and go on with --resume-from 3$/,
      );
      assert.deepEqual(await bodiesIn(broker, queue, 2), ['1', '2']);
    });

    it('a line that is not JSON in a transaction ends with 2, and nothing arrives', async () => {
      const queue = `/queue/${unique('publish')}`;
      const input = '1\n2\n{"n":\n4\n';
      const { code, stderr } = await publish(broker, [queue, '--lines', '--transaction'], { input });
      assert.equal(code, 2, stderr);
      assert.match(complaint(stderr), /^line 3 is not JSON.*; nothing was published$/);
      assert.deepEqual(await bodiesIn(broker, queue), []);
    });

    it('a connection that is cut in the middle and not tried again ends with 4 and counts that are true', async () => {
      const queue = `/queue/${unique('publish')}`;
      await using proxy = await startProxy(broker);
      proxy.cutAfterBytes('toServer', 150_000);
      proxy.onConnection((count) => void (count === 1 && proxy.refuse()));
      const input = `"${'x'.repeat(1000)}"\n`.repeat(1000);
      const { code, stderr } = await publish(
        broker,
        [queue, '--lines', '--window', '20', '--reconnect-for', '0'],
        {
          input,
          env: at(proxy.port),
        },
      );
      assert.equal(code, 4, stderr);
      const counts = /; (\d+) confirmed, (\d+) unknown; go on with --resume-from \d+$/.exec(
        complaint(stderr),
      );
      const [confirmed, unknown] = counts?.slice(1).map(Number) ?? [];
      assert.ok(confirmed !== undefined && unknown !== undefined, stderr);
      assert.ok(confirmed > 0 && unknown > 0 && unknown <= 20, stderr);
      const arrived = (await bodiesIn(broker, queue, confirmed)).length;
      assert.ok(arrived >= confirmed && arrived <= confirmed + unknown, `${arrived} of ${stderr}`);
    });

    it('a connection that is cut before COMMIT ends with 4, and nothing arrives', async () => {
      const queue = `/queue/${unique('publish')}`;
      await using proxy = await startProxy(broker);
      proxy.cutAfterBytes('toServer', 100_000);
      // More than the buffers between here and there take, so COMMIT cannot be under way.
      const input = `"${'x'.repeat(1000)}"\n`.repeat(30_000);
      const { code, stderr } = await publish(broker, [queue, '--lines', '--transaction'], {
        input,
        env: at(proxy.port),
      });
      assert.equal(code, 4, stderr);
      assert.match(complaint(stderr), /; nothing was published$/);
      assert.deepEqual(await bodiesIn(broker, queue), []);
    });
  });
}

describe('publish ends with 4 and one line', () => {
  it('at once when nobody listens', async () => {
    const [port] = await freePorts(1);
    const { code, stderr } = await publish({ env: at(port!) }, ['/queue/x', '1']);
    assert.equal(code, 4, stderr);
    assert.match(stderr, /^publish: error: [^\n]+\n$/);
    assert.match(stderr, new RegExp(`127\\.0\\.0\\.1:${port}.*ECONNREFUSED`));
  });

  it('when the broker takes messages and confirms none: it may be blocked', async () => {
    await using server = await startScriptedServer({ answer: ({ command }) => command === 'SEND' });
    const env = { STOMP_RECEIPT_TIMEOUT: '0.5' };
    const { code, stderr } = await publish(server, ['/queue/x', '--lines'], { env, input: '1\n2\n3\n' });
    assert.equal(code, 4, stderr);
    assert.match(stderr, /^publish: error: [^\n]+\n$/);
    assert.match(complaint(stderr), /blocked.*; 0 confirmed, 1 unknown; go on with --resume-from 0$/);
  });

  it('when a transaction is not confirmed: nobody knows whether it was carried out', async () => {
    await using server = await startScriptedServer({ answer: ({ command }) => command === 'COMMIT' });
    // Long enough for the receipts that there are.
    const env = { STOMP_RECEIPT_TIMEOUT: '5' };
    const { code, stderr } = await publish(server, ['/queue/x', '1', '--transaction'], { env });
    assert.equal(code, 4, stderr);
    assert.match(complaint(stderr), /may or may not have been carried out/);
    assert.doesNotMatch(stderr, /nothing was published/);
  });
});

describe('the publisher of the library', skipWithout(anyBroker()), () => {
  const broker = anyBroker()!;
  const open = () => openPublisher({ ...broker, broker: 'auto' });

  it('has its message confirmed when send resolves, and refuses to send when closed', async () => {
    const queue = `/queue/${unique('library')}`;
    const publisher = open();
    await publisher.send(queue, { key: 'value' }, { headers: { tenant: '7' }, correlationId: 'c-7' });
    const [message] = await drainQueue(broker, queue, { atLeast: 1 });
    assert.equal(message?.body.toString(), '{"key":"value"}');
    assert.deepEqual([message.headers.tenant, message.headers['correlation-id']], ['7', 'c-7']);
    await publisher.close();
    await assert.rejects(publisher.send(queue, 1), { code: 'invalid-usage' });
  });

  it('sends all of a transaction when its work resolves, and nothing when it throws', async () => {
    const queue = `/queue/${unique('library')}`;
    const publisher = open();
    const problem = new Error('changed my mind');
    const failing = publisher.transaction(async (transaction) => {
      await transaction.send(queue, 'lost');
      throw problem;
    });
    await assert.rejects(failing, (error) => error === problem);
    const result = await publisher.transaction(async (transaction) => {
      await transaction.send(queue, 1);
      await transaction.send(queue, 2);
      return 'done';
    });
    assert.equal(result, 'done');
    await publisher.close();
    assert.deepEqual(await bodiesIn(broker, queue, 2), ['1', '2']);
  });

  it('keeps transactions apart that run inside of each other, and what is sent beside them', async () => {
    const queue = `/queue/${unique('library')}`;
    const publisher = open();
    const outer = publisher.transaction(async (transaction) => {
      await transaction.send(queue, 'outer');
      await publisher.transaction((inner) => inner.send(queue, 'inner'));
      await publisher.send(queue, 'beside');
      throw new PubsubError('invalid-usage', 'not the outer one');
    });
    await assert.rejects(outer, { message: 'not the outer one' });
    await publisher.close();
    assert.deepEqual(await bodiesIn(broker, queue, 2), ['"inner"', '"beside"']);
  });

  it('waits at close for what has not been confirmed', async () => {
    const queue = `/queue/${unique('library')}`;
    const publisher = open();
    let confirmed = 0;
    for (let n = 0; n < 300; n++) void publisher.send(queue, n).then(() => confirmed++);
    await publisher.close();
    assert.equal(confirmed, 300);
    const expected = Array.from({ length: 300 }, (_, n) => String(n));
    assert.deepEqual(await bodiesIn(broker, queue, 300), expected);
  });

  it('refuses what JSON cannot express, before it connects', async () => {
    const [port] = await freePorts(1);
    const publisher = openPublisher({ host: '127.0.0.1', port: port! });
    const round: Record<string, unknown> = {};
    round.self = round;
    for (const body of [undefined, () => 1, 10n, round]) {
      await assert.rejects(publisher.send('/queue/x', body), { code: 'invalid-json' });
    }
    await publisher.close();
  });
});
