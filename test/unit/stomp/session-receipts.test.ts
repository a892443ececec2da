import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it, mock } from 'node:test';
import { PubsubError } from '../../../src/errors.js';
import { encodeFrame } from '../../../src/stomp/frames.js';
import { until, within } from '../../support/until.js';
import { DEADLINE_MS, openPair, roundTrip, stateOf, subscribe, turn } from './session-under-test.js';

const hasCode = (code: string) => (error: unknown) => error instanceof PubsubError && error.code === code;

describe('receipts', () => {
  it('resolve the request they belong to, in whatever order they come', async () => {
    await using pair = await openPair();
    const done: number[] = [];
    const sends = [0, 1, 2].map((number) =>
      pair.session.request('SEND', { destination: 'a' }).then(() => done.push(number)),
    );
    const frames = [
      await pair.peer.expect('SEND'),
      await pair.peer.expect('SEND'),
      await pair.peer.expect('SEND'),
    ];
    for (const index of [2, 0, 1]) pair.peer.confirm(frames[index]!);
    await within(Promise.all(sends), DEADLINE_MS, 'all are confirmed');
    assert.deepEqual(done, [2, 0, 1]);
  });

  it('are not overdue while nothing is read, and no heart-beat is missed: both are again when it is', async () => {
    const [receiptTimeoutMs, incomingHeartbeatMs] = [500, 100];
    await using pair = await openPair({ receiptTimeoutMs, incomingHeartbeatMs }, async (connection) => {
      await connection.accept({ 'heart-beat': `${incomingHeartbeatMs},0` });
    });
    const sent = pair.session.request('SEND', { destination: 'a' });
    pair.session.pause();
    const late = pair.session.request('SEND', { destination: 'a' });
    const lost = Promise.all([sent, late].map((each) => assert.rejects(each, hasCode('connection-lost'))));
    const sinceMs = performance.now();
    await until(() => performance.now() - sinceMs > 2 * receiptTimeoutMs, DEADLINE_MS, 'both are long due');
    assert.equal(pair.session.isOpen, true);
    assert.deepEqual(await Promise.all([sent, late].map(stateOf)), ['pending', 'pending']);
    pair.session.resume();
    await within(lost, DEADLINE_MS, 'the silence is noticed');
    assert.equal((await pair.session.closed).kind, 'timeout');
  });

  it('come when it is read again', async () => {
    await using pair = await openPair();
    const sent = pair.session.request('SEND', { destination: 'a' });
    pair.session.pause();
    pair.peer.confirm(await pair.peer.expect('SEND'));
    for (let left = 20; left > 0; left--) await turn();
    assert.equal(await stateOf(sent), 'pending');
    pair.session.resume();
    await within(sent, DEADLINE_MS, 'the SEND is confirmed');
  });

  it('T19: that nobody waits for are ignored', async () => {
    await using pair = await openPair();
    const sent = pair.session.request('SEND', { destination: 'a' });
    const send = await pair.peer.expect('SEND');
    for (const id of ['nobody', 'constructor', '__proto__', '', undefined]) {
      pair.peer.send('RECEIPT', { 'receipt-id': id });
    }
    await roundTrip(pair);
    assert.equal(await stateOf(sent), 'pending');
    pair.peer.confirm(send);
    pair.peer.confirm(send);
    await within(sent, DEADLINE_MS, 'the SEND is confirmed');
    await roundTrip(pair);
  });

  for (const split of [false, true]) {
    it(`behind the ERROR of a refused SUBSCRIBE do not confirm it, ${split ? 'alone' : 'in one chunk'}`, async () => {
      await using pair = await openPair();
      const subscribed = assert.rejects(
        pair.session.subscribe({ destination: 'a' }, '', () => undefined),
        (error: unknown) => hasCode('broker-refused')(error) && String(error).includes('inequivalent arg'),
      );
      const { receipt } = (await pair.peer.expect('SUBSCRIBE')).headers;
      const body = "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'a'";
      const error = encodeFrame(
        'ERROR',
        { message: 'precondition_failed', 'content-length': String(body.length) },
        body,
      );
      const confirmation = encodeFrame('RECEIPT', { 'receipt-id': receipt });
      if (split) {
        pair.peer.write(error);
        await turn();
        pair.peer.write(confirmation);
      } else {
        pair.peer.write(Buffer.concat([error, confirmation]));
      }
      pair.peer.end();
      await within(subscribed, DEADLINE_MS, 'the subscription is refused');
      await pair.peer.waitForClose();
    });
  }

  it('of a session that delivers come in the order of the wire', async () => {
    await using pair = await openPair();
    const seen: string[] = [];
    const id = await subscribe(pair, ({ headers }) => seen.push(headers['message-id'] ?? ''));
    const sent = pair.session.request('SEND', { destination: 'a' }).then(() => seen.push('receipt'));
    const send = await pair.peer.expect('SEND');
    pair.peer.deliver(id, 'before');
    pair.peer.confirm(send);
    await within(sent, DEADLINE_MS, 'the SEND is confirmed');
    pair.peer.deliver(id, 'after');
    await roundTrip(pair);
    assert.deepEqual(seen, ['before', 'receipt', 'after']);
  });
});

describe('receipts that do not come', () => {
  const timeoutMs = 60_000;
  let nowMs = 0;

  beforeEach(() => {
    nowMs = performance.now();
    mock.timers.enable({ apis: ['setTimeout'] });
  });
  afterEach(() => {
    mock.timers.reset();
    mock.restoreAll();
  });

  /** Lets so much time pass for the session; what a test waits for goes by the clock on the wall. */
  function advance(ms: number): void {
    nowMs += ms;
    const clock = mock.method(performance, 'now', () => nowMs);
    mock.timers.tick(ms);
    clock.mock.restore();
  }

  const openTimed = () => openPair({ receiptTimeoutMs: timeoutMs });

  /** A request as of the session's time. */
  function atSessionTime<T>(work: () => T): T {
    const clock = mock.method(performance, 'now', () => nowMs);
    try {
      return work();
    } finally {
      clock.mock.restore();
    }
  }

  it('end the session when the first of them is due, and not before', async () => {
    await using pair = await openTimed();
    const { session, peer } = pair;
    const one = atSessionTime(() => session.request('SEND', { destination: 'a' }));
    advance(timeoutMs / 2);
    const two = atSessionTime(() => session.request('SUBSCRIBE', { destination: 'a' }));
    peer.confirm(await peer.expect('SEND'));
    await within(one, DEADLINE_MS, 'the SEND is confirmed');
    const lost = assert.rejects(two, /no receipt for SUBSCRIBE within 60 s \(the broker may be blocked/);
    advance(timeoutMs - 1);
    await turn();
    assert.equal(session.isOpen, true);
    advance(1);
    await within(lost, DEADLINE_MS, 'the SUBSCRIBE is given up');
    const end = await session.closed;
    assert.deepEqual([end.kind, end.isConfiguration], ['unconfirmed', false]);
    await peer.waitForClose();
  });

  it('in time are those that have come while the event loop was blocked for longer than they may take', async () => {
    await using pair = await openTimed();
    const { session, peer } = pair;
    const sent = atSessionTime(() => session.request('SEND', { destination: 'a' }));
    peer.confirm(await peer.expect('SEND'));
    // It waits in the socket: timers run before that is read.
    advance(2 * timeoutMs);
    await within(sent, DEADLINE_MS, 'the SEND is confirmed');
    await turn();
    assert.equal(session.isOpen, true);
  });

  it('of a question are not due while messages come; heart-beats and other receipts are no messages', async () => {
    await using pair = await openTimed();
    const { session, peer } = pair;
    let messages = 0;
    const id = await subscribe(pair, () => messages++);
    const asked = atSessionTime(() => session.ask());
    const lost = assert.rejects(asked, /no receipt for ABORT within 60 s/);
    for (let sent = 1; sent <= 3; sent++) {
      peer.deliver(id, String(sent));
      await until(() => messages === sent, DEADLINE_MS, 'the message is read');
      advance(timeoutMs);
      await turn();
      assert.equal(session.isOpen, true);
    }
    peer.write('\n');
    await roundTrip(pair);
    advance(timeoutMs);
    await within(lost, DEADLINE_MS, 'the question is given up');
    assert.equal((await session.closed).kind, 'unconfirmed');
  });

  it('of frames in a transaction are not due before COMMIT, and are due then', async () => {
    await using pair = await openTimed();
    const { session, peer } = pair;
    const transaction = session.begin();
    session.sendInTransaction(transaction, 'SEND\ndestination:a\n', '1');
    for (let passed = 0; passed < 5; passed++) {
      advance(timeoutMs);
      await turn();
      assert.equal(session.isOpen, true);
    }
    const lost = assert.rejects(
      atSessionTime(() => session.commit(transaction)),
      hasCode('connection-lost'),
    );
    const [begin, send, commit] = [
      await peer.expect('BEGIN'),
      await peer.expect('SEND'),
      await peer.expect('COMMIT'),
    ];
    assert.equal(begin.headers.transaction, transaction.id);
    assert.equal(send.headers.transaction, transaction.id);
    assert.equal(commit.headers.transaction, transaction.id);
    advance(timeoutMs - 1);
    await turn();
    assert.equal(session.isOpen, true);
    advance(1);
    await within(lost, DEADLINE_MS, 'the transaction is given up');
    assert.equal((await session.closed).kind, 'unconfirmed');
  });

  it('of a transaction are one for COMMIT and one for each message', async () => {
    await using pair = await openTimed();
    const { session, peer } = pair;
    const transaction = session.begin();
    for (const body of ['1', '2']) session.sendInTransaction(transaction, 'SEND\ndestination:a\n', body);
    const committed = session.commit(transaction);
    await peer.expect('BEGIN');
    const frames = [await peer.expect('SEND'), await peer.expect('SEND'), await peer.expect('COMMIT')];
    for (const frame of frames) {
      await roundTrip(pair);
      assert.equal(await stateOf(committed), 'pending');
      peer.confirm(frame);
    }
    await within(committed, DEADLINE_MS, 'all of it is confirmed');
  });

  it('beside an open transaction are due all the same', async () => {
    await using pair = await openTimed();
    const { session } = pair;
    const transaction = session.begin();
    session.sendInTransaction(transaction, 'SEND\ndestination:a\n', '1');
    const beside = atSessionTime(() => session.request('SEND', { destination: 'a' }, '2'));
    const lost = [transaction.confirmed, beside].map((sent) =>
      assert.rejects(sent, hasCode('connection-lost')),
    );
    advance(timeoutMs);
    await within(Promise.all(lost), DEADLINE_MS, 'both are given up');
  });

  it('of a transaction that was aborted are waited for no longer', async () => {
    await using pair = await openTimed();
    const { session, peer } = pair;
    const transaction = session.begin();
    session.sendInTransaction(transaction, 'SEND\ndestination:a\n', '1');
    const unconfirmed = assert.rejects(transaction.confirmed, hasCode('not-confirmed'));
    const aborted = atSessionTime(() => session.abort(transaction));
    await peer.expect('BEGIN');
    await peer.expect('SEND');
    peer.confirm(await peer.expect('ABORT'));
    await within(Promise.all([aborted, unconfirmed]), DEADLINE_MS, 'ABORT is confirmed');
    advance(timeoutMs);
    await turn();
    assert.equal(session.isOpen, true);
    await roundTrip(pair);
  });
});
