/** Text, bytes, content types and schemas through the commands. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { drainQueue, put } from '../support/messages.js';
import { until } from '../support/until.js';
import {
  anyBroker,
  at,
  complaint,
  DEADLINE_MS,
  fixture,
  printed,
  publish,
  published,
  pubsub,
  skipWithout,
  startPubsub,
  stopPubsub,
  temporaryFolder,
  unique,
} from './commands.js';

const broker = anyBroker();
const text = 'hello, wörld.\n';
const bytes = Buffer.from([0xff, 0x00, 0xfe, 0x01]);

describe('publish', skipWithout(broker), () => {
  const files = temporaryFolder({ 'text.txt': text, 'bytes.bin': bytes, 'lines.txt': 'a\r\n\n "b\n' });
  const file = (name: string) => ['--file', join(files, name)];

  /** What comes of these arguments, as bodies and content types. */
  async function sent(args: readonly string[], input?: string, count = 1) {
    const queue = `/queue/${unique('bodies')}`;
    await published(broker!, [queue, ...args], input === undefined ? {} : { input });
    const frames = await drainQueue(broker!, queue, { atLeast: count });
    return frames.map(({ body, headers }) => [
      body.toString('latin1'),
      headers['content-type'],
      headers['content-encoding'],
    ]);
  }
  const asLatin1 = (body: string | Uint8Array) => Buffer.from(body).toString('latin1');

  const cases: [args: string[], expected: [string | Uint8Array, string, string?][], input?: string][] = [
    [['--text', 'hellö'], [['hellö', 'text/plain;charset=utf-8']]],
    [['--text', ''], [['', 'text/plain;charset=utf-8']]],
    [['--text', ...file('text.txt')], [[text, 'text/plain;charset=utf-8']]],
    [['--body', 'text'], [[text, 'text/plain;charset=utf-8']], text],
    [['--content-type', 'text/csv', 'a,b'], [['a,b', 'text/csv']]],
    [['--content-type', 'application/x+json', ' {"a": 1} '], [['{"a": 1}', 'application/x+json']]],
    [['--body', 'bytes', ...file('bytes.bin')], [[bytes, 'application/octet-stream']]],
    [['--content-type', 'image/png', ...file('bytes.bin')], [[bytes, 'image/png']]],
    [
      [
        '--body',
        'bytes',
        '--content-type',
        'application/json',
        '--content-encoding',
        'gzip',
        ...file('bytes.bin'),
      ],
      [[bytes, 'application/json', 'gzip']],
    ],
    [
      ['--text', '--lines', '--content-type', 'text/csv', ...file('lines.txt')],
      [
        ['a', 'text/csv'],
        [' "b', 'text/csv'],
      ],
    ],
    [['{"a":1}'], [['{"a":1}', 'application/json;charset=utf-8']]],
  ];
  for (const [args, expected, input] of cases) {
    it(`sends what ${args.map((arg) => arg.replace(files, '')).join(' ')} says`, async () => {
      const found = await sent(args, input, expected.length);
      assert.deepEqual(
        found,
        expected.map(([body, type, encoding]) => [asLatin1(body), type, encoding]),
      );
    });
  }

  const wrong: [args: string[], told: RegExp, input?: string | Uint8Array][] = [
    [['--text', '--body', 'bytes', 'x'], /--text and --body bytes: give one/],
    [['--body', 'auto', 'x'], /--body: json, text or bytes expected, not "auto"/],
    [['--body', 'bytes', '--lines'], /--lines reads text/, 'x\n'],
    [['--text'], /standard input is not UTF-8.*--body bytes/, bytes],
    [['--text', '--content-type', 'text/plain;charset=latin1', 'x'], /text is sent as UTF-8, not latin1/],
    [['--content-encoding', 'gzip', '{}'], /text is not packed: send bytes/],
    [['--body', 'json', '--content-type', 'text/plain', 'x'], /the body is not JSON/],
    [['--header', 'content-encoding=gzip', '{}'], /content-encoding: this header cannot be given/],
  ];
  for (const [args, told, input] of wrong) {
    it(`refuses ${args.join(' ')}`, async () => {
      const queue = `/queue/${unique('bodies')}`;
      const { code, stderr } = await publish(broker!, [queue, ...args], input === undefined ? {} : { input });
      assert.equal(code, 2, stderr);
      assert.match(complaint(stderr), told);
      assert.deepEqual(await drainQueue(broker!, queue), []);
    });
  }

  it('does not heed STOMP_BODY, which is for consumers', async () => {
    const queue = `/queue/${unique('bodies')}`;
    await published(broker!, [queue, '{"a":1}'], { env: { STOMP_BODY: 'bytes' } });
    const [message] = await drainQueue(broker!, queue, { atLeast: 1 });
    assert.equal(message!.headers['content-type'], 'application/json;charset=utf-8');
  });
});

describe('pubsub', skipWithout(broker), () => {
  for (const flags of [[], ['--inline']]) {
    it(`--body and STOMP_BODY say what a callback gets ${flags.join('')}`, async () => {
      const queue = `/queue/${unique('bodies')}`;
      await put(broker!, queue, gzipSync('zipped'), {
        'correlation-id': '1',
        'content-type': 'text/plain',
        'content-encoding': 'gzip',
      });
      await put(broker!, queue, bytes, { 'correlation-id': '2', 'content-type': 'image/png' });
      const auto = await startPubsub(broker!, queue, fixture('bodies.mjs#show'), {
        flags,
        env: { STOMP_BODY: 'auto' },
      });
      await auto.waitFor(/bytes ff00fe01/);
      assert.equal((await stopPubsub(auto)).acked, 2);
      assert.deepEqual(printed(auto), ['"zipped"', 'bytes ff00fe01']);
      await put(broker!, queue, '{"a":1}', { 'correlation-id': '3' });
      const asText = await startPubsub(broker!, queue, fixture('bodies.mjs#show'), {
        flags: [...flags, '--body', 'text'],
      });
      await asText.waitFor(/"\{\\"a\\":1\}"|a\\+":1/);
      assert.equal((await stopPubsub(asText)).acked, 1);
    });
  }

  it('--body of a kind that there is not ends with 2', async () => {
    const running = pubsub({ env: at(1) }, '/queue/x', fixture('bodies.mjs#show'), {
      flags: ['--body', 'xml'],
    });
    assert.deepEqual(await running.exit(), { code: 2, signal: null });
    assert.match(running.stderr, /--body: one of json, text, bytes, auto expected, not "xml"/);
  });

  for (const library of ['zod', 'valibot', 'arktype']) {
    for (const flags of [[], ['--inline']]) {
      it(`a schema of ${library} beside the callback checks bodies ${flags.join('')}`, async () => {
        const queue = unique('schema');
        const headers = { 'correlation-id': 'c' };
        await put(
          broker!,
          `/queue/${queue}`,
          { id: '7', lines: [{ price: 1 }, { price: 'secret' }] },
          headers,
        );
        await put(broker!, `/queue/${queue}`, { id: '7', lines: [{ price: 1 }] }, headers);
        const running = await startPubsub(broker!, queue, fixture(`schema-${library}.mjs#show`), { flags });
        await until(
          () => printed(running).length === 1,
          DEADLINE_MS,
          () => `a body in ${running.stderr}`,
        );
        const { acked, deadLettered } = await stopPubsub(running);
        assert.deepEqual([acked, deadLettered], [1, 1]);
        assert.deepEqual(printed(running), ['{"id":7,"lines":[{"price":1}]}']);
        const [dead] = running.said('dead-lettered');
        assert.deepEqual(
          [dead?.reason, dead?.detail],
          ['schema-mismatch', 'the body does not fit the schema at lines[1].price'],
        );
        assert.doesNotMatch(running.stderr, /secret/);
      });
    }
  }
});

describe('a schema beside the callback', () => {
  const none = 'export const schema = { type: "object" };';
  const fake = (validate: string) => `{ '~standard': { version: 1, vendor: 'test', validate: ${validate} } }`;
  const modules = temporaryFolder({
    'none.mjs': `${none}\nexport const run = () => undefined;`,
    'inner.mjs': `${none}\nexport const orders = { schema: ${fake('(value) => ({ value })')}, run: () => undefined };`,
    'itself.mjs': 'export const schema = () => undefined;',
    'inner-none.mjs': 'export const orders = { schema: 1, run: () => undefined };',
    'throws.mjs': `export const schema = ${fake('() => { throw new RangeError("a bug"); }')};
      export const run = () => undefined;`,
    'rejects.mjs': `export const schema = ${fake('async () => { throw new RangeError("a bug"); }')};
      export const run = () => undefined;`,
    'odd.mjs': `export const schema = ${fake('() => ({ issues: [{ message: "m" }, { message: "m", path: [{ key: "a b" }, Symbol("s"), "é"] }, { message: "m", path: ["x".repeat(500)] }] })')};
      export const run = () => undefined;`,
  });
  const spec = (name: string) => join(modules, name);

  for (const [name, flags] of [
    ['none.mjs#run', []],
    ['none.mjs#run', ['--inline']],
    ['inner-none.mjs#orders.run', []],
  ] as const) {
    it(`that is none ends the start with 3 before anything is sent: ${name} ${flags.join('')}`, async () => {
      const running = pubsub({ env: at(1) }, '/queue/x', spec(name), { flags });
      assert.deepEqual(await running.exit(), { code: 3, signal: null });
      assert.match(
        running.stderr,
        /^pubsub: error: \S+\.mjs#(?:orders\.)?schema is no schema .*zod, valibot, arktype.*another name\n$/m,
      );
    });
  }

  it(
    'that is the callback itself is a callback, and one nearer to it comes first',
    skipWithout(broker),
    async () => {
      for (const name of ['itself.mjs#schema', 'inner.mjs#orders.run']) {
        const running = await startPubsub(broker!, unique('schema'), spec(name));
        await stopPubsub(running);
      }
    },
  );

  for (const [name, reason, told] of [
    ['throws.mjs#run', 'callback-failed', /a bug/],
    ['rejects.mjs#run', 'callback-failed', /a bug/],
    ['odd.mjs#run', 'schema-mismatch', /at its root, \["a b"\]\["Symbol\(s\)"\]\.é, x{100}\.\.\."/],
  ] as const) {
    it(`that misbehaves costs its message: ${name}`, skipWithout(broker), async () => {
      const queue = unique('schema');
      await put(broker!, `/queue/${queue}`, {}, { 'correlation-id': 'c' });
      const running = await startPubsub(broker!, queue, spec(name));
      await running.waitFor(/message dead-lettered/);
      await stopPubsub(running);
      const [dead] = running.said('dead-lettered');
      assert.equal(dead?.reason, reason);
      assert.match(JSON.stringify(dead).replaceAll('\\"', '"'), told);
    });
  }
});
