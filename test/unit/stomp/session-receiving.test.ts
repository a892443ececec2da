import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { encodeFrame, type Frame } from '../../../src/stomp/frames.js';
import { messageHeaders } from '../../support/scripted-server.js';
import { until, within } from '../../support/until.js';
import { DEADLINE_MS, openPair, roundTrip, subscribe, turn } from './session-under-test.js';

const count = (frames: readonly unknown[], wanted: number): Promise<true> =>
  until(
    () => frames.length >= wanted,
    DEADLINE_MS,
    () => `${wanted} messages; so far ${frames.length}`,
  );

const message = (id: string, messageId: string, body: string | Uint8Array, headers = {}): Buffer =>
  encodeFrame(
    'MESSAGE',
    { ...messageHeaders(id, messageId), 'content-length': String(Buffer.byteLength(body)), ...headers },
    body,
  );

describe('what a session receives', () => {
  it('T2: a message with headers named like members of Object.prototype is a message like any other', async () => {
    await using pair = await openPair();
    const frames: Frame[] = [];
    const id = await subscribe(pair, (frame) => frames.push(frame));
    const names = ['hasOwnProperty', '__proto__', 'constructor', 'toString', 'valueOf', '__defineGetter__'];
    for (const name of names) {
      pair.peer.write(`MESSAGE\nsubscription:${id}\nmessage-id:m\nack:m\n${name}:1\n\n${name}\0\n`);
    }
    await count(frames, names.length);
    assert.deepEqual(
      frames.map(({ headers, body }) => [headers[body.toString()], headers['message-id']]),
      names.map(() => ['1', 'm']),
    );
    await roundTrip(pair);
  });

  it('T18: a whole exchange arrives intact when it comes byte by byte, with CRLF, UTF-8 and NUL bytes', async () => {
    await using pair = await openPair();
    const frames: Frame[] = [];
    const subscribed = pair.session.subscribe({ destination: '/queue/ä' }, '', (frame) => frames.push(frame));
    const { id, receipt } = (await pair.peer.expect('SUBSCRIBE')).headers;
    const wire = [
      `RECEIPT\r\nreceipt-id:${receipt}\r\n\r\n\0\r\n`,
      `\n\nMESSAGE\r\nsubscription:${id}\r\nmessage-id:m-1\r\nack:a\\c1\r\nnäme\\c:välue\\r\\n€😀\r\ncontent-length:7\r\n\r\n{"€"}\0\n`,
      `MESSAGE\nsubscription:${id}\nmessage-id:m-2\nack:a-2\ncontent-length:4\n\n\0\n\0\0\0\n`,
      `MESSAGE\r\nsubscription:${id}\r\nmessage-id:m-3\r\nack:a-3\r\n\r\nto the NUL, ünï\0\n\n`,
    ].join('');
    await pair.peer.writeByteByByte(Buffer.from(wire));
    await within(subscribed, DEADLINE_MS, 'the subscription is confirmed');
    await count(frames, 3);
    assert.deepEqual(
      frames.map(({ headers, body }) => [headers['message-id'], headers.ack, body.toString('latin1')]),
      [
        ['m-1', 'a:1', Buffer.from('{"€"}').toString('latin1')],
        ['m-2', 'a-2', '\0\n\0\0'],
        ['m-3', 'a-3', Buffer.from('to the NUL, ünï').toString('latin1')],
      ],
    );
    assert.equal(frames[0]!.headers['näme:'], 'välue\r\n€😀');
    const sent = pair.session.request('SEND', { destination: 'a' });
    const send = await pair.peer.expect('SEND');
    await pair.peer.writeByteByByte(Buffer.from(`RECEIPT\r\nreceipt-id:${send.headers.receipt}\r\n\r\n\0`));
    await within(sent, DEADLINE_MS, 'the SEND is confirmed');
  });

  it('T18: every two-way split of a message gives the same message', async () => {
    await using pair = await openPair();
    const frames: Frame[] = [];
    const id = await subscribe(pair, (frame) => frames.push(frame));
    const wire = Buffer.from(
      `MESSAGE\r\nsubscription:${id}\r\nack:m\r\nkéy:v€l\\cue\r\ncontent-length:3\r\n\r\n€\0\r\n`,
    );
    for (let at = 1; at < wire.length; at++) {
      // A turn in between, and with TCP_NODELAY, makes two packets of them.
      pair.peer.write(wire.subarray(0, at));
      await turn();
      pair.peer.write(wire.subarray(at));
      await turn();
    }
    await count(frames, wire.length - 1);
    for (const { headers, body } of frames) {
      assert.deepEqual([headers.ack, headers['kéy'], body.toString()], ['m', 'v€l:ue', '€']);
    }
  });

  it('T9: of 50 messages in one chunk none is delivered after destroy() in the first', async () => {
    await using pair = await openPair();
    const delivered: string[] = [];
    const id = await subscribe(pair, ({ headers }) => {
      delivered.push(headers['message-id'] ?? '');
      pair.session.destroy({ kind: 'abandoned', message: 'enough' });
    });
    pair.peer.write(Buffer.concat(Array.from({ length: 50 }, (_, index) => message(id, `m-${index}`, '{}'))));
    await within(pair.session.closed, DEADLINE_MS, 'the session ends');
    await pair.peer.waitForClose();
    assert.deepEqual(delivered, ['m-0']);
  });

  it('50 messages in one chunk are delivered in order', async () => {
    await using pair = await openPair();
    const delivered: (string | undefined)[] = [];
    const id = await subscribe(pair, ({ headers }) => delivered.push(headers['message-id']));
    const ids = Array.from({ length: 50 }, (_, index) => `m-${index}`);
    pair.peer.write(Buffer.concat(ids.map((messageId) => message(id, messageId, '{}'))));
    await count(delivered, 50);
    assert.deepEqual(delivered, ids);
  });

  it('T13: a callback that throws ends the session, not the process', async () => {
    await using pair = await openPair();
    let calls = 0;
    const id = await subscribe(pair, () => {
      calls++;
      throw new Error('mine');
    });
    const sent = assert.rejects(pair.session.request('SEND', { destination: 'a' }), /mine/);
    await pair.peer.expect('SEND');
    pair.peer.write(Buffer.concat([message(id, 'm-1', '{}'), message(id, 'm-2', '{}')]));
    const end = await within(pair.session.closed, DEADLINE_MS, 'the session ends');
    await sent;
    assert.match(end.message, /mine/);
    assert.equal(calls, 1);
    await pair.peer.waitForClose();
  });

  it('T13: a callback that throws what cannot be printed ends the session, not the process', async () => {
    await using pair = await openPair();
    const id = await subscribe(pair, () => {
      throw Object.create(null);
    });
    pair.peer.deliver(id, 'm-1');
    const end = await within(pair.session.closed, DEADLINE_MS, 'the session ends');
    assert.match(end.message, /cannot be printed/);
  });

  it('T15: a body that nobody asked for holds nothing up', async () => {
    await using pair = await openPair();
    const sent = pair.session.request('SEND', { destination: 'a' });
    const send = await pair.peer.expect('SEND');
    pair.peer.deliver('nobody', 'm-1', Buffer.alloc(5_000_000, 'x'));
    pair.peer.confirm(send);
    await within(sent, DEADLINE_MS, 'the receipt behind the body arrives');
  });

  for (const subscription of ['nobody', 'constructor', '__proto__', 'hasOwnProperty', undefined]) {
    it(`T30: a message for the unknown subscription ${String(subscription)} is ignored`, async () => {
      await using pair = await openPair();
      const frames: Frame[] = [];
      const id = await subscribe(pair, (frame) => frames.push(frame));
      pair.peer.deliver('', 'm-1', '{}', { subscription });
      pair.peer.deliver(id, 'm-2');
      await count(frames, 1);
      assert.equal(frames[0]!.headers['message-id'], 'm-2');
      await roundTrip(pair);
    });
  }

  it('T3: delivers by subscription, whose ids belong to this session alone', async () => {
    await using pair = await openPair();
    const seen: string[] = [];
    const one = await subscribe(pair, () => seen.push('one'));
    const two = await subscribe(pair, () => seen.push('two'));
    assert.ok(one.includes(pair.session.id) && two.includes(pair.session.id) && one !== two);
    pair.peer.deliver(two, 'm-1');
    pair.peer.deliver(one, 'm-2');
    await count(seen, 2);
    assert.deepEqual(seen, ['two', 'one']);
  });

  it('a message that overtakes the receipt of its SUBSCRIBE is delivered', async () => {
    await using pair = await openPair();
    const seen: string[] = [];
    const subscribed = pair.session.subscribe({ destination: 'a' }, 'mine-', () => seen.push('message'));
    void subscribed.then(() => seen.push('receipt'));
    const subscribe = await pair.peer.expect('SUBSCRIBE');
    assert.match(subscribe.headers.id ?? '', /^mine-/);
    assert.equal(subscribe.headers.ack, 'client-individual');
    pair.peer.deliver(subscribe.headers.id ?? '', 'm-1');
    pair.peer.confirm(subscribe);
    await count(seen, 2);
    assert.deepEqual(seen, ['message', 'receipt']);
  });

  describe('what is too large', () => {
    it('a body over the limit is dropped and flagged, and what follows is intact', async () => {
      await using pair = await openPair({ maxBodyBytes: 1000 });
      const frames: Frame[] = [];
      const id = await subscribe(pair, (frame) => frames.push(frame));
      pair.peer.deliver(id, 'm-1', Buffer.alloc(1000, 'x'));
      pair.peer.deliver(id, 'm-2', Buffer.alloc(1001));
      pair.peer.deliver(id, 'm-3', 'x'.repeat(5000), { 'content-length': undefined });
      pair.peer.deliver(id, 'm-4', '"intact"');
      await count(frames, 4);
      assert.deepEqual(
        frames.map(({ headers, body, oversized }) => [headers.ack, body.length, oversized]),
        [
          ['m-1', 1000, undefined],
          ['m-2', 0, 'body'],
          ['m-3', 0, 'body'],
          ['m-4', 8, undefined],
        ],
      );
      await roundTrip(pair);
    });

    it('T17: headers over 16 MiB are dropped but for those that settle the message, and what follows is intact', async () => {
      await using pair = await openPair();
      const frames: Frame[] = [];
      const id = await subscribe(pair, (frame) => frames.push(frame));
      const filler = `filler:${'x'.repeat(1024)}\n`.repeat(17 * 1024);
      pair.peer.write(`MESSAGE\n${filler}subscription:${id}\nack:m-1\nmessage-id:m-1\n\nbody\0\n`);
      pair.peer.deliver(id, 'm-2', '"intact"');
      await count(frames, 2);
      assert.deepEqual(
        frames.map(({ headers, oversized }) => [headers.ack, oversized]),
        [
          ['m-1', 'headers'],
          ['m-2', undefined],
        ],
      );
      assert.equal(frames[1]!.body.toString(), '"intact"');
      await roundTrip(pair);
    });
  });

  describe('what is wrong', () => {
    const garbage: readonly [name: string, bytes: string, problem: RegExp][] = [
      ['bytes that are no frame', 'garbage\n\n\0', /"garbage", which is no STOMP frame/],
      ['a command of clients', 'SEND\ndestination:a\n\n\0', /"SEND", which is no STOMP frame/],
      ['a command named toString', 'toString\n\n\0', /"toString", which is no STOMP frame/],
      ['a second CONNECTED', 'CONNECTED\nversion:1.2\n\n\0', /CONNECTED/],
      [
        'T17: a bad content-length',
        'MESSAGE\ncontent-length:many\n\n\0',
        /content-length is no number: many/,
      ],
      ['a body longer than its content-length', 'MESSAGE\ncontent-length:2\n\nabc\0', /longer than/],
    ];
    for (const [name, bytes, problem] of garbage) {
      it(`${name}: the session ends as a fault in the protocol`, async () => {
        await using pair = await openPair();
        const sent = assert.rejects(pair.session.request('SEND', { destination: 'a' }), problem);
        await pair.peer.expect('SEND');
        pair.peer.write(bytes);
        const end = await within(pair.session.closed, DEADLINE_MS, 'the session ends');
        await sent;
        assert.deepEqual([end.kind, end.isConfiguration], ['protocol', false]);
        assert.match(end.message, problem);
        await pair.peer.waitForClose();
      });
    }

    it('T17: long header lines, many headers and undefined escapes are no reason to end', async () => {
      await using pair = await openPair();
      const frames: Frame[] = [];
      const id = await subscribe(pair, (frame) => frames.push(frame));
      const many = Array.from({ length: 2000 }, (_, index) => `h-${index}:${index}\n`).join('');
      const long = `long:${'x'.repeat(100_000)}\n`;
      pair.peer.write(`MESSAGE\nsubscription:${id}\nack:m-1\n${many}${long}odd:\\t\\\nno colon\n\n\0`);
      await count(frames, 1);
      const { headers } = frames[0]!;
      assert.deepEqual([headers['h-1999'], headers.long?.length, headers.odd], ['1999', 100_000, '\\t\\']);
      await roundTrip(pair);
    });
  });
});
