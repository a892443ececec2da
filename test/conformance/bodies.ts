/** Bodies: JSON, text and bytes, packed or not, on their way to a callback and from one, and what becomes of unfit ones. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { it } from 'node:test';
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib';
import * as v from 'valibot';
import type { Payload } from '../../src/index.js';
import type { Frame } from '../../src/stomp/frames.js';
import type { BrokerUnderTest } from '../support/brokers.js';
import { publisherTo, startConsuming, uniqueName } from '../support/consuming.js';
import { declaringHeaders, drainQueue, firstIn, put } from '../support/messages.js';
import { packageRoot } from '../support/process.js';
import { withRaw, type RawHeaders } from '../support/raw-client.js';

type Sent = readonly [body: string | Uint8Array, headers: RawHeaders, expected: unknown];

const hello = 'hello, wörld.\n';
const bytes = Buffer.from([0xff, 0x00, 0xfe, 0x01]);
const bom = Buffer.from([0xef, 0xbb, 0xbf]);
const packed = (coding: string) => ({ 'content-encoding': coding });
const typed = (type: string | undefined) => ({ 'content-type': type });

const kinds: Record<'json' | 'text' | 'bytes' | 'auto', readonly Sent[]> = {
  json: [
    ['{"k":1}', typed('text/plain'), { k: 1 }],
    [Buffer.concat([bom, Buffer.from('{"k":"bom"}')]), {}, { k: 'bom' }],
    [gzipSync('{"k":"zipped"}'), packed('gzip'), { k: 'zipped' }],
    [gzipSync(Buffer.concat([bom, Buffer.from('[1]')])), packed(' X-GZIP '), [1]],
    [deflateSync('{"k":"deflated"}'), packed('deflate'), { k: 'deflated' }],
    [deflateRawSync('{"k":"raw"}'), packed('deflate'), { k: 'raw' }],
    [brotliCompressSync('{"k":"br"}'), packed('br'), { k: 'br' }],
    [brotliCompressSync(gzipSync('2')), packed('gzip, br'), 2],
    // Python's clients name a charset there.
    ['{"k":3}', packed('utf-8'), { k: 3 }],
  ],
  text: [
    [hello, typed('text/plain'), hello],
    ['{"k":1}', {}, '{"k":1}'],
    ['', typed(undefined), ''],
    [Buffer.concat([bom, Buffer.from('x')]), typed('text/plain; charset=UTF-8'), 'x'],
    [Buffer.from('wörld', 'latin1'), typed('text/plain;charset="ISO-8859-1"'), 'wörld'],
    [Buffer.from('wörld', 'utf16le'), typed('text/plain; charset=utf-16le'), 'wörld'],
    [gzipSync(hello), packed('gzip'), hello],
  ],
  bytes: [
    [bytes, typed('application/octet-stream'), bytes],
    ['{"k":1}', {}, Buffer.from('{"k":1}')],
    [gzipSync(bytes), packed('gzip'), bytes],
    // A packing that the callback may know.
    [bytes, packed('zstd'), bytes],
  ],
  auto: [
    ['{"k":1}', typed('application/json;charset=utf-8'), { k: 1 }],
    ['{"k":1}', typed('application/cloudevents+json'), { k: 1 }],
    [hello, typed('text/csv'), hello],
    ['<a/>', typed('Application/XML; charset=utf-8'), '<a/>'],
    [bytes, typed('image/png'), bytes],
    ['{"k":1}', typed(undefined), Buffer.from('{"k":1}')],
  ],
};

const unfit: readonly {
  name: string;
  kind: keyof typeof kinds;
  body: Uint8Array;
  headers: RawHeaders;
  reason: string;
  told: RegExp;
}[] = [
  {
    name: 'JSON in UTF-16',
    kind: 'json',
    body: Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from('{"k":1}', 'utf16le')]),
    headers: {},
    reason: 'malformed-body',
    told: /not UTF-8/,
  },
  {
    name: 'a small body that becomes a large one',
    kind: 'json',
    body: gzipSync(Buffer.alloc(50_000_000, '[')),
    headers: packed('gzip'),
    reason: 'too-large',
    told: /unpacked \(gzip\).*longer than 65536 bytes/,
  },
  {
    name: 'a body packed in a packed one, that becomes a large one',
    kind: 'bytes',
    body: gzipSync(gzipSync(Buffer.alloc(50_000_000))),
    headers: packed('gzip, gzip'),
    reason: 'too-large',
    told: /65536/,
  },
  {
    name: 'a body that is not packed as it says',
    kind: 'bytes',
    body: Buffer.from('{"secret":1}'),
    headers: packed('gzip'),
    reason: 'malformed-body',
    told: /not gzip/,
  },
  {
    name: 'a body of which a part is missing',
    kind: 'text',
    body: gzipSync(hello.repeat(100)).subarray(0, 30),
    headers: packed('gzip'),
    reason: 'malformed-body',
    told: /not gzip.*unexpected end/,
  },
  {
    name: 'text that is none',
    kind: 'text',
    body: bytes,
    headers: typed('text/plain'),
    reason: 'malformed-body',
    told: /not UTF-8/,
  },
  {
    name: 'text of an unknown charset',
    kind: 'auto',
    body: Buffer.from('x'),
    headers: typed('text/plain;charset=ebcdic'),
    reason: 'malformed-body',
    told: /charset "ebcdic" of the body is not known/,
  },
];

/** As bytes where they are bytes of any class. */
const plain = (body: unknown) => (body instanceof Uint8Array ? Buffer.from(body) : body);

const order = v.object({
  id: v.pipe(v.string(), v.transform(Number)),
  items: v.array(v.object({ n: v.number() })),
});

export function bodyBehaviours(broker: BrokerUnderTest): void {
  for (const [kind, sent] of Object.entries(kinds) as [keyof typeof kinds, readonly Sent[]][]) {
    it(`bodies are handed over as ${kind}`, async (t) => {
      const queue = `/queue/${uniqueName(t)}`;
      for (const [body, headers] of sent)
        await put(broker, queue, body, { 'correlation-id': 'c', ...headers });
      const consuming = await startConsuming(t, broker, queue, (payload) => payload.ack(), { body: kind });
      const payloads = await consuming.received(sent.length);
      assert.deepEqual(
        payloads.map(({ body }) => plain(body)),
        sent.map(([, , expected]) => expected),
      );
      assert.deepEqual(
        payloads.map(({ raw }) => Buffer.from(raw)),
        sent.map(([body]) => Buffer.from(body)),
      );
      assert.equal((await consuming.stop()).acked, sent.length);
    });
  }

  for (const { name, kind, body, headers, reason, told } of unfit) {
    it(`${name} is dead-lettered whole, with the reason and nothing of it in the log`, async (t) => {
      const queue = uniqueName(t);
      await put(broker, `/queue/${queue}`, body, { 'correlation-id': 'c', ...headers });
      const options = { body: kind, maxMessageBytes: 65_536 };
      const consuming = await startConsuming(
        t,
        broker,
        `/queue/${queue}`,
        (payload) => payload.ack(),
        options,
      );
      assert.equal((await consuming.settled('dead-lettered')).reason, reason);
      await consuming.stop();
      const dead = await firstIn(broker, `DLQ.${queue}`);
      assert.deepEqual(dead.body, body);
      assert.equal(dead.headers['x-failure-reason'], reason);
      assert.match(dead.headers['x-failure-message'] ?? '', told);
      for (const [header, value] of Object.entries(headers)) assert.equal(dead.headers[header], value);
      assert.doesNotMatch(JSON.stringify(consuming.log), /secret/);
      assert.deepEqual(consuming.payloads, []);
    });
  }

  it('worker processes get the same bodies, and refuse the same', async (t) => {
    const queue = uniqueName(t);
    const bomb = gzipSync(Buffer.alloc(50_000_000));
    await put(broker, `/queue/${queue}`, bomb, { 'correlation-id': 'c', ...packed('gzip') });
    await put(broker, `/queue/${queue}`, gzipSync(hello), { 'correlation-id': 'c', ...packed('gzip') });
    const callback = join(packageRoot, 'test/fixtures/callbacks/bodies.mjs#forward');
    const options = { body: 'text', maxMessageBytes: 65_536 } as const;
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, callback, options);
    assert.equal((await consuming.settled('dead-lettered')).reason, 'too-large');
    assert.equal((await consuming.settled()).outcome, 'acked');
    const [text, again] = await drainQueue(broker, `${queue}.text`, { atLeast: 2 });
    assert.deepEqual([text!.body.toString(), text!.headers['content-type']], [hello, 'text/plain']);
    assert.deepEqual(
      [again!.body, again!.headers['content-type'], again!.headers['content-encoding']],
      [gzipSync(hello), 'application/octet-stream', 'gzip'],
    );
  });

  it('what is published with a content type goes out as it is, and as JSON without', async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    const publisher = publisherTo(t, broker);
    const contentType = 'text/csv';
    const given: [unknown, { contentType?: string; contentEncoding?: string }?][] = [
      ['a,b', { contentType }],
      [bytes, { contentType: 'image/png' }],
      [new Uint8Array(gzipSync('a,b')), { contentType, contentEncoding: 'gzip' }],
      [{ k: 1 }, { contentType: 'application/x+json' }],
      ['a,b'],
    ];
    for (const [body, options] of given) await publisher.send(queue, body, options);
    await publisher.transaction((transaction) =>
      transaction.send(queue, bytes, { contentType: 'image/gif' }),
    );
    const frames = await drainQueue(broker, queue, { atLeast: given.length + 1 });
    const told = ({ body, headers }: Frame) => [body, headers['content-type'], headers['content-encoding']];
    assert.deepEqual(frames.map(told), [
      [Buffer.from('a,b'), contentType, undefined],
      [bytes, 'image/png', undefined],
      [gzipSync('a,b'), contentType, 'gzip'],
      [Buffer.from('{"k":1}'), 'application/x+json', undefined],
      [Buffer.from('"a,b"'), 'application/json;charset=utf-8', undefined],
      [bytes, 'image/gif', undefined],
    ]);
  });

  for (const [body, size, sent] of [
    ['bytes', 'small', 'as it came'],
    ['text', 'small', 'as it came'],
    ['bytes', 'large', 'as it came'.repeat(150_000)],
    ['text', 'large', 'as it came'.repeat(150_000)],
  ] as const) {
    it(`a ${size} message is dead-lettered as it came, whatever its callback did to the bytes it had (${body})`, async (t) => {
      const queue = uniqueName(t);
      await put(broker, `/queue/${queue}`, sent, { 'correlation-id': 'c' });
      const callback = (payload: Payload) => {
        const { raw } = payload;
        assert.ok(Buffer.from(raw).equals(Buffer.from(sent)));
        assert.equal(payload.raw, raw);
        assert.equal({ ...payload }.raw, raw);
        raw.fill(0);
        if (body === 'bytes') assert.equal(payload.body, raw);
        return payload.nack();
      };
      const consuming = await startConsuming(t, broker, `/queue/${queue}`, callback, { body });
      assert.equal((await consuming.settled()).reason, 'nack');
      assert.ok((await firstIn(broker, `/queue/DLQ.${queue}`)).body.equals(Buffer.from(sent)));
    });
  }

  it('a callback passes on bytes as they were when it published them', async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    await put(broker, queue, bytes, { 'correlation-id': 'c', 'content-encoding': 'identity' });
    const callback = async (payload: Payload) => {
      const own = Buffer.from(payload.body as Uint8Array);
      payload.publish(`${queue}.out`, own, { contentType: 'image/png', headers: payload.headers });
      own.fill(0);
      payload.publish(`${queue}.out`, 'as JSON', { headers: payload.headers });
      assert.throws(
        () => payload.publish(queue, { a: 1 }, { contentType: 'image/png' }),
        /must be text or bytes/,
      );
      await payload.ack();
    };
    const consuming = await startConsuming(t, broker, queue, callback, { body: 'bytes' });
    assert.equal((await consuming.settled()).outcome, 'acked');
    const [sent, json] = await drainQueue(broker, `${queue}.out`, { atLeast: 2 });
    assert.deepEqual([sent!.body, sent!.headers['content-type']], [bytes, 'image/png']);
    assert.equal(json!.body.toString(), '"as JSON"');
    // What was packed is not any more.
    assert.deepEqual(
      [sent!, json!].map(({ headers }) => headers['content-encoding']),
      [undefined, undefined],
    );
  });

  it('a schema makes the body, and what does not fit it is dead-lettered with the places and no values', async (t) => {
    const queue = uniqueName(t);
    const items = [{ n: 1 }, { n: 'secret' }, {}, { n: null }, { n: [] }, { n: {} }, { n: 'secret' }];
    await put(broker, `/queue/${queue}`, { id: '7', items: [{ n: 1 }] }, { 'correlation-id': 'c' });
    await put(broker, `/queue/${queue}`, { id: 'x', items }, { 'correlation-id': 'c' });
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, (payload) => payload.ack(), {
      schema: order,
    });
    assert.equal((await consuming.settled('dead-lettered')).reason, 'schema-mismatch');
    const { acked } = await consuming.stop();
    assert.equal(acked, 1);
    assert.deepEqual(
      consuming.payloads.map(({ body }) => body),
      [{ id: 7, items: [{ n: 1 }] }],
    );
    const dead = await firstIn(broker, `DLQ.${queue}`);
    assert.equal(dead.headers['x-failure-reason'], 'schema-mismatch');
    assert.equal(
      dead.headers['x-failure-message'],
      'the body does not fit the schema at items[1].n, items[2].n, items[3].n, items[4].n, items[5].n and 1 more',
    );
    assert.doesNotMatch(JSON.stringify([consuming.log, dead.headers]), /secret/);
  });

  it('a schema may answer by a promise of any kind, and must answer', async (t) => {
    const queue = uniqueName(t);
    const answers: Record<string, unknown> = {
      none: {},
      misfit: { then: (resolve: (result: object) => void) => resolve({ issues: [{ message: 'never' }] }) },
      fit: { then: (resolve: (result: object) => void) => resolve({ value: 'made' }) },
    };
    const validate = (body: unknown) => answers[String(body)] as { value: string };
    for (const body of Object.keys(answers))
      await put(broker, `/queue/${queue}`, JSON.stringify(body), { 'correlation-id': 'c' });
    const consuming = await startConsuming(t, broker, `/queue/${queue}`, (payload) => payload.ack(), {
      schema: { '~standard': { version: 1, vendor: 'own', validate } },
    });
    assert.equal((await consuming.settled('dead-lettered')).reason, 'callback-failed');
    assert.equal((await consuming.settled('dead-lettered')).reason, 'schema-mismatch');
    await consuming.settled('acked');
    assert.equal((await consuming.stop()).acked, 1);
    assert.deepEqual(
      consuming.payloads.map(({ body }) => body),
      ['made'],
    );
  });

  it('text without a content-length, as others send it, is handed over as it is', async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    const headers = {
      destination: queue,
      persistent: 'true',
      'correlation-id': 'c',
      'content-type': 'text/plain',
    };
    await withRaw(broker, (client) =>
      client.receipt('SEND', { ...declaringHeaders(broker, queue), ...headers }, hello),
    );
    const consuming = await startConsuming(t, broker, queue, (payload) => payload.ack(), { body: 'auto' });
    assert.equal((await consuming.received(1))[0]!.body, hello);
  });
}
