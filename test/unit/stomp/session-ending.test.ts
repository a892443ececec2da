import assert from 'node:assert/strict';
import { afterEach, describe, it, mock } from 'node:test';
import { PubsubError } from '../../../src/errors.js';
import type { SessionEnd } from '../../../src/stomp/session-end.js';
import { type ScriptedConnection, startScriptedServer } from '../../support/scripted-server.js';
import { within } from '../../support/until.js';
import { DEADLINE_MS, open, openPair, type Pair, stateOf, subscribe, turn } from './session-under-test.js';

const ended = ({ session }: Pair): Promise<SessionEnd> =>
  within(session.closed, DEADLINE_MS, 'the session ends');

const isLost = (error: unknown) => error instanceof PubsubError && error.code === 'connection-lost';

/** How a connection ends at the server's side, and what the session makes of it. */
const cuts: readonly [name: string, cut: (peer: ScriptedConnection) => void, code: string | undefined][] = [
  ['a FIN', (peer) => peer.end(), undefined],
  ['an RST', (peer) => peer.reset(), 'ECONNRESET'],
];

describe('the end of a session', () => {
  afterEach(() => mock.timers.reset());

  for (const [name, cut, code] of cuts) {
    describe(`by ${name}`, () => {
      it('before CONNECTED makes the server unreachable', async () => {
        await using server = await startScriptedServer(async (connection) => {
          await connection.expect('CONNECT');
          cut(connection);
        });
        await assert.rejects(open(server), (error: unknown) => {
          assert.ok(error instanceof PubsubError);
          assert.equal(error.code, 'broker-unreachable');
          return true;
        });
        await server.connections[0]!.waitForClose();
      });

      it('when nothing is going on is told as a fault of the connection', async () => {
        await using pair = await openPair();
        cut(pair.peer);
        const end = await ended(pair);
        assert.deepEqual([end.kind, end.code, end.isConfiguration], ['transport', code, false]);
        assert.match(end.message, code === undefined ? /^the server ended the connection$/ : /ECONNRESET/);
        assert.equal(pair.session.isOpen, false);
        await pair.peer.waitForClose();
      });

      it('T8: rejects every receipt that is pending', async () => {
        await using pair = await openPair();
        const sends = Array.from({ length: 20 }, () => pair.session.request('SEND', { destination: 'a' }));
        const committed = pair.session.commit(pair.session.begin());
        const outcomes = Promise.allSettled([...sends, committed]);
        await pair.peer.expect('SEND');
        cut(pair.peer);
        for (const outcome of await within(outcomes, DEADLINE_MS, 'all receipts are settled')) {
          assert.equal(outcome.status, 'rejected');
          assert.ok(isLost(outcome.reason), String(outcome.reason));
        }
        assert.equal((await ended(pair)).kind, 'transport');
      });

      it('T7: while closing ends close(), and what is pending is rejected', async () => {
        await using pair = await openPair();
        const sent = assert.rejects(pair.session.request('SEND', { destination: 'a' }), isLost);
        const closed = pair.session.close();
        await pair.peer.expect('SEND');
        await pair.peer.expect('DISCONNECT');
        cut(pair.peer);
        await within(Promise.all([closed, sent]), DEADLINE_MS, 'close() resolves');
        await ended(pair);
        await pair.peer.waitForClose();
      });

      it('T23: in the middle of a body delivers nothing of it', async () => {
        await using pair = await openPair();
        const bodies: string[] = [];
        const id = await subscribe(pair, ({ body }) => bodies.push(body.toString()));
        pair.peer.deliver(id, 'm-1', '"whole"');
        pair.peer.write(`MESSAGE\nsubscription:${id}\nmessage-id:m-2\nack:m-2\ncontent-length:100\n\nhalf`);
        await roundTripOf(pair);
        cut(pair.peer);
        await ended(pair);
        assert.deepEqual(bodies, ['"whole"']);
      });
    });
  }

  describe('by silence', () => {
    it('T14: when nothing is going on is found out by missing heart-beats', async () => {
      await using pair = await openPair({ incomingHeartbeatMs: 40 }, async (connection) => {
        await connection.accept({ 'heart-beat': '40,0' });
      });
      const end = await ended(pair);
      assert.deepEqual([end.kind, end.isConfiguration], ['timeout', false]);
      assert.match(end.message, /no heart-beat within 100 ms/);
      await pair.peer.waitForClose();
    });

    it('T8: with receipts pending rejects them all in time, and says what may be the cause', async () => {
      await using pair = await openPair({ receiptTimeoutMs: 100 });
      const sends = ['a', 'b', 'c'].map((destination) => pair.session.request('SEND', { destination }));
      for (const outcome of await within(
        Promise.allSettled(sends),
        DEADLINE_MS,
        'the receipts are settled',
      )) {
        assert.equal(outcome.status, 'rejected');
        assert.ok(isLost(outcome.reason));
        assert.match(String(outcome.reason), /no receipt for SEND within 0\.1 s .*memory or disk alarm/);
      }
      const end = await ended(pair);
      assert.deepEqual([end.kind, end.isConfiguration], ['unconfirmed', false]);
      assert.match(end.advice ?? '', /blocked/);
      await pair.peer.waitForClose();
    });

    it('T7: while closing is waited for a bounded time', async () => {
      mock.timers.enable({ apis: ['setTimeout'] });
      await using pair = await openPair();
      const sent = assert.rejects(pair.session.request('SEND', { destination: 'a' }), isLost);
      const closed = pair.session.close();
      await pair.peer.expect('SEND');
      await pair.peer.expect('DISCONNECT');
      mock.timers.tick(4999);
      await turn();
      assert.equal(await stateOf(closed), 'pending');
      mock.timers.tick(1);
      await within(Promise.all([closed, sent]), DEADLINE_MS, 'close() resolves');
      await pair.peer.waitForClose();
    });
  });

  describe('by an ERROR frame', () => {
    const text = "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q'";

    it('T1: with text/plain and content-length ends it with its reason and rejects what is pending', async () => {
      await using pair = await openPair();
      const sent = assert.rejects(pair.session.request('SEND', { destination: 'a' }), (error: unknown) => {
        assert.ok(error instanceof PubsubError);
        assert.equal(error.code, 'broker-refused');
        assert.match(error.message, /SEND not confirmed: .*PRECONDITION_FAILED/);
        return true;
      });
      await pair.peer.expect('SEND');
      pair.peer.send(
        'ERROR',
        {
          message: 'precondition_failed',
          'content-type': 'text/plain',
          version: '1.0,1.1,1.2',
          'content-length': String(text.length),
        },
        text,
      );
      pair.peer.end();
      const end = await ended(pair);
      await sent;
      assert.deepEqual([end.kind, end.isConfiguration], ['broker', true]);
      assert.match(end.message, /precondition_failed: PRECONDITION_FAILED - inequivalent arg/);
      assert.match(end.advice ?? '', /other arguments/);
      await pair.peer.waitForClose();
    });

    it('T26: is told by its message alone when the body is a stack trace', async () => {
      await using pair = await openPair();
      pair.peer.send(
        'ERROR',
        { 'content-type': 'text/plain', message: 'User u is not authorized to write to: queue://q' },
        'java.lang.SecurityException: no\n\tat org.apache.activemq.Broker.send(Broker.java:42)\n',
      );
      const end = await ended(pair);
      assert.equal(end.message, 'the broker says "User u is not authorized to write to: queue://q"');
    });

    /** Two SENDs, and what becomes of them when an ERROR names the first and, on Artemis, another one the second. */
    const refusedTogether = async (server: string) => {
      await using pair = await openPair({}, (connection) =>
        connection.accept({ server }).then(() => undefined),
      );
      const results = ['a', 'b'].map(
        (destination) =>
          new Promise<PubsubError | undefined>((settle) =>
            pair.session.sendWithReceipt(`SEND\ndestination:${destination}\n`, 'x', settle),
          ),
      );
      const sends = [await pair.peer.expect('SEND'), await pair.peer.expect('SEND')];
      const [first, second] = sends.map(({ headers }) => ({ 'receipt-id': headers.receipt ?? '' }));
      pair.peer.send('ERROR', { message: 'AMQ339031 Error handling send', ...first });
      if (server.includes('Artemis')) {
        pair.peer.send('ERROR', { message: 'AMQ339010 Connection is not valid.', ...second });
        pair.peer.end();
      } else {
        pair.peer.send('RECEIPT', second);
      }
      const codes = await within(Promise.all(results), DEADLINE_MS, 'both settle');
      return { codes: codes.map((error) => error?.code), isOpen: pair.session.isOpen };
    };

    it('that names a frame is about that frame alone on ActiveMQ', async () => {
      const { codes, isOpen } = await refusedTogether('ActiveMQ/5.17.2');
      assert.deepEqual([codes, isOpen], [['broker-refused', undefined], true]);
    });

    it('that names a frame ends the connection on Artemis, which says of all behind it that it is not valid', async () => {
      const { codes, isOpen } = await refusedTogether('ActiveMQ-Artemis/2.40.0');
      assert.deepEqual([codes, isOpen], [['connection-lost', 'connection-lost'], false]);
    });

    it('T20: keeps its first reason, whatever happens to the socket then', async () => {
      await using pair = await openPair();
      pair.peer.send('ERROR', { message: 'first' });
      pair.peer.send('ERROR', { message: 'second' });
      pair.peer.reset();
      const end = await ended(pair);
      await pair.peer.waitForClose();
      pair.session.destroy({ kind: 'abandoned', message: 'later' });
      assert.deepEqual(await pair.session.closed, end);
      assert.match(end.message, /first|ECONNRESET/);
    });
  });

  describe('by close()', () => {
    it('T7: sends DISCONNECT, awaits its receipt and is the same for every caller', async () => {
      await using pair = await openPair();
      const closes = [pair.session.close(), pair.session.close()];
      const disconnect = await pair.peer.expect('DISCONNECT');
      assert.equal(pair.session.isOpen, false);
      assert.equal(await stateOf(closes[0]!), 'pending');
      pair.peer.confirm(disconnect);
      await within(Promise.all(closes), DEADLINE_MS, 'close() resolves');
      await within(pair.session.close(), DEADLINE_MS, 'a later close() resolves');
      assert.equal((await pair.session.closed).kind, 'closed');
      await pair.peer.waitForClose();
      assert.deepEqual(pair.peer.commands, ['CONNECT', 'DISCONNECT']);
    });

    it('T7: resolves on a session that has ended', async () => {
      await using pair = await openPair();
      pair.peer.end();
      await ended(pair);
      await within(pair.session.close(), DEADLINE_MS, 'close() resolves');
    });

    it('T7: refuses every frame that follows', async () => {
      await using pair = await openPair();
      const closed = pair.session.close();
      assert.equal(pair.session.sendWithoutReceipt('ACK', { id: 'm-1' }), false);
      await assert.rejects(pair.session.request('SEND', { destination: 'a' }), isLost);
      await assert.rejects(pair.session.commit(pair.session.begin()), isLost);
      pair.peer.confirm(await pair.peer.expect('DISCONNECT'));
      await within(closed, DEADLINE_MS, 'close() resolves');
      await pair.peer.waitForClose();
      assert.deepEqual(pair.peer.commands, ['CONNECT', 'DISCONNECT']);
    });

    it('still takes the receipts that come before that of DISCONNECT', async () => {
      await using pair = await openPair();
      const sent = pair.session.request('SEND', { destination: 'a' });
      const closed = pair.session.close();
      pair.peer.confirm(await pair.peer.expect('SEND'));
      pair.peer.confirm(await pair.peer.expect('DISCONNECT'));
      await within(Promise.all([sent, closed]), DEADLINE_MS, 'both resolve');
    });

    it('T8: rejects the receipts that the receipt of DISCONNECT overtakes', async () => {
      await using pair = await openPair();
      const sent = assert.rejects(pair.session.request('SEND', { destination: 'a' }), isLost);
      const closed = pair.session.close();
      await pair.peer.expect('SEND');
      pair.peer.confirm(await pair.peer.expect('DISCONNECT'));
      await within(Promise.all([sent, closed]), DEADLINE_MS, 'both settle');
    });
  });

  it('T21: an ended session refuses frames with an answer, never with silence', async () => {
    await using pair = await openPair();
    pair.peer.end();
    await ended(pair);
    assert.equal(pair.session.sendWithoutReceipt('ACK', { id: 'm-1' }), false);
    await assert.rejects(pair.session.request('SEND', { destination: 'a' }), isLost);
    await assert.rejects(
      pair.session.subscribe({ destination: 'a' }, '', () => undefined),
      isLost,
    );
    await within(pair.session.drained(), DEADLINE_MS, 'drained() resolves');
  });

  it('T12: errors of the socket after the end go nowhere', async () => {
    await using pair = await openPair();
    pair.session.destroy({ kind: 'abandoned', message: 'done' });
    pair.peer.write('x'.repeat(100_000));
    pair.peer.reset();
    await pair.peer.waitForClose();
    // An unhandled 'error' event would fail this test.
    await turn();
    assert.equal((await pair.session.closed).message, 'done');
  });

  it('T10: destroy() closes the connection and says so once', async () => {
    await using pair = await openPair();
    pair.session.destroy({ kind: 'abandoned', message: 'one' });
    pair.session.destroy({ kind: 'abandoned', message: 'two' });
    await pair.peer.waitForClose();
    assert.equal((await pair.session.closed).message, 'one');
  });
});

/** A round trip that does not need a frame of its own to be complete: the peer is in the middle of a MESSAGE. */
async function roundTripOf({ session, peer }: Pair): Promise<void> {
  session.sendWithoutReceipt('SEND', { destination: 'a' });
  await peer.expect('SEND');
  await turn();
}
