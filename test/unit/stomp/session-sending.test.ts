import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { openPublisher } from '../../../src/publish.js';
import { PubsubError } from '../../../src/errors.js';
import { obliging, startScriptedServer } from '../../support/scripted-server.js';
import type { ScriptedServer } from '../../support/scripted-server.js';
import { until, within } from '../../support/until.js';
import { DEADLINE_MS, openPair, RecordedLog, roundTrip, stateOf, turn } from './session-under-test.js';

const hasCode = (code: string) => (error: unknown) => error instanceof PubsubError && error.code === code;

const publisherFor = ({ host, port }: ScriptedServer, options = {}) =>
  openPublisher({ host, port, log: new RecordedLog(), ...options });

describe('what a session sends', () => {
  it('frames of one tick go out in one write, in their order', async () => {
    await using pair = await openPair();
    const before = pair.peer.chunks.length;
    const confirmed = [pair.session.request('SEND', { destination: 'a' }, 'é')];
    pair.session.sendWithoutReceipt('ACK', { id: 'm-1' });
    confirmed.push(pair.session.commit(pair.session.begin()));
    pair.session.sendWithoutReceipt('NACK', { id: 'm-2' });
    await pair.peer.expect('SEND');
    assert.equal(pair.peer.chunks.length, before + 1);
    assert.deepEqual(pair.peer.commands, ['CONNECT', 'SEND', 'ACK', 'BEGIN', 'COMMIT', 'NACK']);
    for (const frame of pair.peer.frames) pair.peer.confirm(frame);
    await within(Promise.all(confirmed), DEADLINE_MS, 'both are confirmed');
  });

  it('a body of bytes that are text goes out in one write with its frame', async () => {
    await using pair = await openPair();
    const before = pair.peer.chunks.length;
    const bodies = [Buffer.from('é'), Buffer.from('\ufeff{}'), Buffer.from('_\0_').subarray(1)];
    for (const body of bodies) {
      const headers = { 'content-length': String(body.length) };
      assert.ok(pair.session.sendWithoutReceipt('SEND', headers, body));
    }
    const received = [
      await pair.peer.expect('SEND'),
      await pair.peer.expect('SEND'),
      await pair.peer.expect('SEND'),
    ];
    assert.equal(pair.peer.chunks.length, before + 1);
    assert.deepEqual(
      received.map(({ body }) => body.toString('hex')),
      bodies.map((body) => body.toString('hex')),
    );
  });

  it('bodies of bytes and of text go out in the order of their frames, with every byte', async () => {
    await using pair = await openPair();
    const bytes = [Buffer.from([0, 1, 0, 255]), Buffer.from('€').subarray(0, 2), Buffer.alloc(200_000, 0)];
    const bodies = ['text', bytes[0]!, '€', bytes[1]!, Buffer.alloc(0), bytes[2]!, ''];
    const sent = bodies.map((body) =>
      pair.session.request('SEND', { 'content-length': String(Buffer.byteLength(body)) }, body),
    );
    const received: Buffer[] = [];
    while (received.length < bodies.length) {
      const frame = await pair.peer.expect('SEND');
      received.push(frame.body);
      pair.peer.confirm(frame);
    }
    await within(Promise.all(sent), DEADLINE_MS, 'all are confirmed');
    assert.deepEqual(
      received.map((body) => body.toString('latin1')),
      bodies.map((body) => Buffer.from(body as string).toString('latin1')),
    );
  });

  it('T25: header names and values arrive as they were given, whatever is in them', async () => {
    await using pair = await openPair();
    const headers = { destination: 'a:b', 'x:\\\n\r': 'c:\\n\r\n€', injected: 'a\ninjected:yes' };
    pair.session.sendWithoutReceipt('SEND', headers);
    const frame = await pair.peer.expect('SEND');
    assert.deepEqual({ ...frame.headers }, headers);
  });

  it('T19: the headers given are not changed', async () => {
    await using pair = await openPair();
    const headers = Object.freeze({ destination: 'a' });
    const sent = [pair.session.request('SEND', headers), pair.session.request('SEND', headers)];
    const [one, two] = [await pair.peer.expect('SEND'), await pair.peer.expect('SEND')];
    assert.notEqual(one.headers.receipt, two.headers.receipt);
    pair.peer.confirm(two);
    pair.peer.confirm(one);
    await within(Promise.all(sent), DEADLINE_MS, 'both are confirmed');
    assert.deepEqual(headers, { destination: 'a' });
  });

  it('T11: a header that cannot be sent is refused alone, and nothing of its frame goes out', async () => {
    await using pair = await openPair();
    assert.throws(() => pair.session.sendWithoutReceipt('SEND', { a: 'b\0' }), hasCode('invalid-header'));
    await assert.rejects(pair.session.request('SEND', { a: 'b\0' }), hasCode('invalid-header'));
    await assert.rejects(
      pair.session.request('SEND', { a: Symbol('s') as unknown as string }),
      (error) => error instanceof Error,
    );
    await roundTrip(pair);
    assert.deepEqual(pair.peer.commands, ['CONNECT', 'SEND']);
    await within(
      Promise.all([
        pair.session.close(),
        pair.peer.expect('DISCONNECT').then((frame) => pair.peer.confirm(frame)),
      ]),
      DEADLINE_MS,
      'close() resolves: nothing else is pending',
    );
  });

  it('T24: a hundred receipts in flight add no listeners', async () => {
    await using pair = await openPair();
    const warnings: Error[] = [];
    const warn = (warning: Error) => warnings.push(warning);
    process.on('warning', warn);
    const sent = Array.from({ length: 100 }, () => pair.session.request('SEND', { destination: 'a' }));
    const confirmNext = async () => pair.peer.confirm(await pair.peer.expect('SEND'));
    await Promise.all(sent.map(confirmNext));
    await within(Promise.all(sent), DEADLINE_MS, 'all are confirmed');
    await turn();
    process.off('warning', warn);
    assert.deepEqual(warnings, []);
  });

  describe('to a reader that stalls', () => {
    const body = 'x'.repeat(64 * 1024);
    const most = 4096;

    it('T22: drained() is pending until it reads again, and nothing is lost', async () => {
      await using pair = await openPair();
      pair.peer.stopReading();
      let sent = 0;
      let drained: Promise<void>;
      do {
        assert.ok(sent < most, `${sent} messages of 64 KiB went into a connection that nobody reads`);
        pair.session.sendWithoutReceipt('SEND', { number: String(sent++) }, body);
        await turn();
        drained = pair.session.drained();
      } while ((await stateOf(drained)) === 'resolved');
      pair.peer.startReading();
      await within(drained, DEADLINE_MS, 'drained() resolves');
      for (let number = 0; number < sent; number++) {
        const frame = await pair.peer.expect('SEND');
        assert.deepEqual([frame.headers.number, frame.body.length], [String(number), body.length]);
      }
      assert.equal(await stateOf(pair.session.drained()), 'resolved');
    });

    it('T22: drained() resolves when the session ends', async () => {
      await using pair = await openPair();
      pair.peer.stopReading();
      for (let sent = 0; (await stateOf(pair.session.drained())) === 'resolved'; sent++) {
        assert.ok(sent < most);
        pair.session.sendWithoutReceipt('SEND', {}, body);
        await turn();
      }
      const drained = pair.session.drained();
      pair.session.destroy({ kind: 'abandoned', message: 'enough' });
      await within(drained, DEADLINE_MS, 'drained() resolves');
    });

    it('T22: a transaction of any size sends no further than the connection takes', async () => {
      await using server = await startScriptedServer(async (connection) => {
        await connection.accept();
        connection.stopReading();
      });
      const publisher = publisherFor(server);
      let taken = 0;
      const transaction = publisher.transaction(async (transaction) => {
        for (; taken < most; taken++) await transaction.sendJson('/queue/a', JSON.stringify(body));
      });
      const outcome = assert.rejects(transaction, (error) => error instanceof PubsubError);
      const peer = await server.connection();
      await until(() => taken > 0, DEADLINE_MS, 'the transaction begins');
      // It has stalled when a hundred turns of the event loop take nothing more.
      for (let idle = 0; idle < 100; idle++) {
        const before = taken;
        await turn();
        if (taken !== before) idle = 0;
      }
      assert.ok(taken < most, `${taken} messages were taken`);
      peer.reset();
      await within(outcome, DEADLINE_MS, 'the transaction fails');
      await publisher.close();
    });
  });
});

describe('what a publisher sends', () => {
  it('T5: content-length is the number of bytes of any JSON, and the body arrives as it is', async () => {
    await using server = await startScriptedServer(obliging());
    const publisher = publisherFor(server);
    const json = fc.oneof(
      fc.json({ stringUnit: 'binary' }),
      fc.constantFrom('"\0"', '"é€😀"', '"\\u0000"', '  {"a": 1}  '),
    );
    const bodies: string[] = [];
    await fc.assert(
      fc.asyncProperty(json, async (json) => {
        bodies.push(json);
        await publisher.sendJson('/queue/a', json);
      }),
    );
    await publisher.close();
    const sends = (await server.connection()).frames.filter(({ command }) => command === 'SEND');
    assert.deepEqual(
      sends.map(({ headers, body }) => [body.toString(), headers['content-length']]),
      bodies.map((json) => [json, String(Buffer.byteLength(json))]),
    );
  });

  it('T11: a header that is no string is refused, and later sends work', async () => {
    await using server = await startScriptedServer(obliging());
    const publisher = publisherFor(server);
    const unprintable: unknown[] = [Symbol('s'), Object.create(null), {}, () => 1, 7, undefined, null, 'a\0'];
    for (const value of unprintable) {
      const headers = { odd: value as string };
      await assert.rejects(publisher.send('/queue/a', 1, { headers }), hasCode('invalid-header'));
      await publisher.send('/queue/a', 2);
    }
    await assert.rejects(publisher.send('/queue/a', 1, { headers: { '': 'x' } }), hasCode('invalid-header'));
    await within(publisher.close(), DEADLINE_MS, 'close() resolves');
    const { frames } = await server.connection();
    assert.deepEqual(
      frames.filter(({ command }) => command === 'SEND').map(({ body }) => body.toString()),
      unprintable.map(() => '2'),
    );
  });

  it('T11: in a transaction such a header fails the transaction, which is aborted', async () => {
    await using server = await startScriptedServer(obliging());
    const publisher = publisherFor(server);
    await assert.rejects(
      publisher.transaction((transaction) => transaction.send('/queue/a', 1, { headers: { odd: 'a\0' } })),
      hasCode('invalid-header'),
    );
    await publisher.transaction((transaction) => transaction.send('/queue/a', 2));
    await publisher.close();
    const { commands } = await server.connection();
    assert.deepEqual(commands, ['CONNECT', 'BEGIN', 'ABORT', 'BEGIN', 'SEND', 'COMMIT', 'DISCONNECT']);
  });

  it('T19: reserved headers of the caller do not go out', async () => {
    await using server = await startScriptedServer(obliging());
    const publisher = publisherFor(server);
    const headers = {
      receipt: 'mine',
      transaction: 'mine',
      'content-length': '1',
      destination: 'b',
      own: 'x',
    };
    await publisher.send('/queue/a', { long: 'body' }, { headers });
    await publisher.close();
    const send = (await server.connection()).frames.find(({ command }) => command === 'SEND')!;
    assert.equal(send.headers.own, 'x');
    assert.equal(send.headers.destination, '/queue/a');
    assert.equal(send.headers['content-length'], '15');
    assert.equal(send.headers.transaction, undefined);
    assert.notEqual(send.headers.receipt, 'mine');
    assert.equal(headers.receipt, 'mine');
  });

  it('no more than the window is ever unconfirmed', async () => {
    await using server = await startScriptedServer((connection) => connection.accept().then(() => undefined));
    const publisher = publisherFor(server, { publishWindow: 3 });
    const sends = Array.from({ length: 10 }, (_, number) => publisher.send('/queue/a', number));
    const peer = await server.connection();
    for (let confirmed = 0; confirmed < sends.length; confirmed++) {
      // The first one goes alone.
      const expected = confirmed === 0 ? 2 : Math.min(sends.length, confirmed + 3) + 1;
      await until(
        () => peer.frames.length === expected,
        DEADLINE_MS,
        () => `${expected} frames`,
      );
      await turn();
      assert.equal(peer.frames.length, expected);
      peer.confirm(peer.frames[confirmed + 1]!);
    }
    await within(Promise.all(sends), DEADLINE_MS, 'all are confirmed');
  });

  it('T8: a send without its receipt is not-confirmed, is not sent again, and the next one connects anew', async () => {
    await using server = await startScriptedServer(async (connection) => {
      await connection.accept();
      const isExamination = server.connections.length === 2;
      if (isExamination) await connection.expect('BEGIN');
      const send = await connection.expect('SEND');
      if (server.connections.length === 1) connection.reset();
      else connection.confirm(isExamination ? await connection.expect('ABORT') : send);
    });
    const publisher = publisherFor(server);
    await assert.rejects(publisher.send('/queue/a', 1), hasCode('not-confirmed'));
    await within(publisher.send('/queue/a', 2), DEADLINE_MS, 'the second send is confirmed');
    const [one, , two] = server.connections;
    assert.deepEqual(
      [one!, two!].map(({ frames }) => frames.slice(1).map(({ body }) => body.toString())),
      [['1'], ['2']],
    );
  });
});
