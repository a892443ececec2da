import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PubsubError } from '../../../src/errors.js';
import type { Session } from '../../../src/sending/connect.js';
import { FRESH_MS, Link } from '../../../src/sending/link.js';
import { type Script, type ScriptedConnection, startScriptedServer } from '../../support/scripted-server.js';
import type { ScriptedServer } from '../../support/scripted-server.js';
import { within } from '../../support/until.js';
import { DEADLINE_MS, open, stateOf, turn } from '../stomp/session-under-test.js';

const RABBITMQ = { server: 'RabbitMQ/3.10.8' };

/** Accepts every connection and confirms nothing by itself. */
const accepting =
  (headers = RABBITMQ): Script =>
  (connection) =>
    connection.accept(headers).then(() => undefined);

interface LinkUnderTest extends AsyncDisposable {
  readonly server: ScriptedServer;
  readonly link: Link;
  /** Those opened so far. */
  readonly sessions: Session[];
  /** What opening the next ones awaits first, one each. */
  readonly delays: Promise<void>[];
  /** Calls of `open`. */
  opened: number;
  /** Sends a message over the link; resolves when it is confirmed. */
  readonly send: (body: string) => Promise<void>;
}

async function startLink(script: Script = accepting()): Promise<LinkUnderTest> {
  const server = await startScriptedServer(script);
  const delays: Promise<void>[] = [];
  const sessions: Session[] = [];
  const link = new Link(async () => {
    test.opened++;
    await delays.shift();
    const session = await open(server);
    // It ages when the test says so.
    session.openedMs = Infinity;
    sessions.push(session);
    return session;
  });
  const test: LinkUnderTest = {
    ...{ server, link, sessions, delays, opened: 0 },
    send: (body) => link.use((session) => session.request('SEND', { destination: 'a' }, body)),
    [Symbol.asyncDispose]: () => {
      link.abandon('the test is over');
      return server.close();
    },
  };
  return test;
}

/** As if it had been opened so much earlier. */
function makeStale(session: Session): void {
  session.openedMs = performance.now() - FRESH_MS - 1;
}

/** Takes and confirms the next SENDs of a connection; resolves with their bodies. */
async function confirmNext(connection: ScriptedConnection, count: number): Promise<string[]> {
  const bodies: string[] = [];
  for (let left = count; left > 0; left--) {
    const frame = await connection.expect('SEND');
    connection.confirm(frame);
    bodies.push(frame.body.toString());
  }
  return bodies;
}

const settled = <T>(promise: Promise<T>): Promise<T> => within(promise, DEADLINE_MS, 'it settles');
const hasMessage = (message: string) => (error: unknown) =>
  error instanceof PubsubError && error.message === message;

describe('a link', () => {
  it('opens its connection when it is first used, once for all that wait for it', async () => {
    await using under = await startLink();
    assert.equal(under.opened, 0);
    const sent = Promise.all(['1', '2', '3'].map(under.send));
    const connection = await under.server.connection();
    assert.deepEqual(await confirmNext(connection, 3), ['1', '2', '3']);
    await settled(sent);
    assert.equal(under.opened, 1);
  });

  it('lends a connection for the first message to a destination alone, and for those after it to all', async () => {
    await using under = await startLink();
    const { link } = under;
    const first = await settled(link.lease('a'));
    const [again, other] = [link.lease('a'), link.lease('b')];
    await turn();
    assert.deepEqual([await stateOf(again), await stateOf(other)], ['pending', 'pending']);
    first.end('a');
    const second = await settled(again);
    assert.equal(await stateOf(other), 'pending');
    second.end();
    (await settled(other)).end('b');
    const [a, b] = [link.tryLease('a'), link.tryLease('b')];
    assert.deepEqual([a?.session, b?.session], [under.sessions[0], under.sessions[0]]);
    assert.equal(link.tryLease('c'), undefined);
    assert.equal(under.opened, 1);
  });

  it('lends alone again what was not confirmed, and what is to be alone', async () => {
    await using under = await startLink();
    const { link } = under;
    (await settled(link.lease('a'))).end();
    assert.equal(link.tryLease('a'), undefined);
    (await settled(link.lease('a'))).end('a');
    const alone = await settled(link.lease('a', true));
    assert.equal(link.tryLease('a'), undefined);
    alone.end();
    assert.notEqual(link.tryLease('a'), undefined);
  });

  it('renews a stale connection under load: once all on the old one is confirmed, in the order of the calls', async () => {
    await using under = await startLink();
    const early = ['1', '2', '3'].map(under.send);
    const old = await under.server.connection();
    const frames = [await old.expect('SEND'), await old.expect('SEND'), await old.expect('SEND')];
    makeStale(under.sessions[0]!);
    const late = ['4', '5', '6'].map(under.send);
    assert.equal(under.link.tryLease('a'), undefined);
    for (const frame of frames) {
      await old.expectNothing();
      assert.equal(under.opened, 1);
      old.confirm(frame);
    }
    await settled(Promise.all(early));
    const renewed = await under.server.connection(1);
    assert.deepEqual(await confirmNext(renewed, 3), ['4', '5', '6']);
    await settled(Promise.all(late));
    await old.expect('DISCONNECT');
    assert.equal(under.opened, 2);
  });

  it('does not let those overtake that come while it is renewed', async () => {
    await using under = await startLink();
    const first = under.send('1');
    await confirmNext(await under.server.connection(), 1);
    await settled(first);
    makeStale(under.sessions[0]!);
    let release: () => void = () => undefined;
    under.delays.push(new Promise((resolve) => (release = resolve)));
    const late = [under.send('2')];
    await turn();
    assert.equal(under.link.tryLease('a'), undefined);
    late.push(under.send('3'));
    release();
    assert.deepEqual(await confirmNext(await under.server.connection(1), 2), ['2', '3']);
    await settled(Promise.all(late));
  });

  it('refuses all that wait when opening fails, and opens for those that come after', async () => {
    await using under = await startLink();
    const refusal = new PubsubError('broker-unreachable', 'nobody there');
    let refuse: () => void = () => undefined;
    under.delays.push(new Promise((_resolve, reject) => (refuse = () => reject(refusal))));
    const waiting = ['1', '2', '3'].map((body) =>
      assert.rejects(under.send(body), hasMessage('nobody there')),
    );
    refuse();
    await settled(Promise.all(waiting));
    assert.equal(under.opened, 1);
    const sent = under.send('4');
    assert.deepEqual(await confirmNext(await under.server.connection(), 1), ['4']);
    await settled(sent);
  });

  it('refuses what waits for a renewal that fails, and nothing of what the old connection carried', async () => {
    await using under = await startLink();
    const early = under.send('1');
    const old = await under.server.connection();
    const frame = await old.expect('SEND');
    makeStale(under.sessions[0]!);
    const refusal = Promise.reject(new PubsubError('broker-unreachable', 'nobody there'));
    refusal.catch(() => undefined);
    under.delays.push(refusal);
    const late = assert.rejects(under.send('2'), hasMessage('nobody there'));
    old.confirm(frame);
    await settled(early);
    await settled(late);
  });

  it('opens again after a loss, which it tells to those whose messages were under way alone', async () => {
    await using under = await startLink();
    const lost = assert.rejects(under.send('1'), { code: 'connection-lost' });
    const first = await under.server.connection();
    await first.expect('SEND');
    makeStale(under.sessions[0]!);
    const waiting = under.send('2');
    first.reset();
    await settled(lost);
    assert.deepEqual(await confirmNext(await under.server.connection(1), 1), ['2']);
    await settled(waiting);
  });

  it('keeps for good a connection to a broker that swallows nothing', async () => {
    await using under = await startLink(accepting({ server: 'ActiveMQ/5.17.2' }));
    const first = under.send('1');
    const connection = await under.server.connection();
    await confirmNext(connection, 1);
    await settled(first);
    makeStale(under.sessions[0]!);
    const second = under.send('2');
    await confirmNext(connection, 1);
    await settled(second);
    assert.equal(under.opened, 1);
  });

  it('disconnects at its end, and breaks off when told to', async () => {
    for (const end of ['close', 'abandon'] as const) {
      await using under = await startLink();
      const sent = under.send('1');
      const connection = await under.server.connection();
      await confirmNext(connection, 1);
      await settled(sent);
      if (end === 'close') {
        const closed = under.link.close();
        connection.confirm(await connection.expect('DISCONNECT'));
        await settled(closed);
      } else {
        under.link.abandon('given up');
      }
      await connection.waitForClose();
      assert.equal(connection.commands.includes('DISCONNECT'), end === 'close');
    }
  });

  it('that is ended while it opens refuses those that wait and those that come, and opens no other', async () => {
    await using under = await startLink();
    let release: () => void = () => undefined;
    under.delays.push(new Promise((resolve) => (release = resolve)));
    const waiting = under.send('1');
    await turn();
    under.link.abandon('given up');
    await assert.rejects(settled(waiting), { code: 'connection-lost' });
    release();
    await (await under.server.connection()).waitForClose();
    await assert.rejects(settled(under.send('2')), { code: 'connection-lost' });
    assert.equal(under.opened, 1);
  });
});
