import assert from 'node:assert/strict';
import { afterEach, describe, it, mock } from 'node:test';
import { PubsubError } from '../../../src/errors.js';
import type { Settings } from '../../../src/settings.js';
import { resolve } from '../../../src/settings/resolve.js';
import { connectOnce, sessions } from '../../../src/sending/connect.js';
import type { Session } from '../../../src/stomp/session.js';
import {
  obliging,
  type Script,
  type ScriptedServer,
  startScriptedServer,
} from '../../support/scripted-server.js';
import { until, within } from '../../support/until.js';
import { DEADLINE_MS, RecordedLog } from '../stomp/session-under-test.js';

type Address = Pick<ScriptedServer, 'host' | 'port'>;

const settingsFor = ({ host, port }: Address, given: Partial<Settings> = {}): Settings =>
  resolve({ host, port, outgoingHeartbeatMs: 0, incomingHeartbeatMs: 0, ...given }, {});

const withStandby = (first: Address, standby: Address): Settings =>
  settingsFor(first, { standbyHost: standby.host, standbyPort: standby.port });

let closedPorts = 0;

/** Another one each time where nobody listens, and nobody begins to: no system gives these away. */
const closedPort = (): Address => ({ host: '127.0.0.1', port: ++closedPorts });

const refusing: Script = async (connection) => {
  await connection.expect('CONNECT');
  connection.send('ERROR', { message: 'Bad CONNECT' }, "Access refused for user 'guest'");
};

const connectWith = (settings: Settings): Promise<Session> =>
  within(connectOnce(settings, new RecordedLog()), DEADLINE_MS * 2, 'connectOnce settles');

const hasCode = (code: string) => (error: unknown) => error instanceof PubsubError && error.code === code;

describe('connectOnce', () => {
  it('connects to the first server and leaves the standby alone', async () => {
    await using first = await startScriptedServer();
    await using standby = await startScriptedServer();
    const session = await connectWith(withStandby(first, standby));
    assert.equal(session.address, `${first.host}:${first.port}`);
    assert.equal(standby.accepted, 0);
  });

  it('uses the standby when the first server is silent (T6)', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    await using first = await startScriptedServer(() => undefined);
    await using standby = await startScriptedServer();
    const settings = withStandby(first, standby);
    const connecting = connectWith(settings);
    await (await first.connection()).expect('CONNECT');
    t.mock.timers.tick(settings.connectTimeoutSeconds * 1000);
    assert.equal((await connecting).address, `${standby.host}:${standby.port}`);
    assert.equal(first.accepted, 1);
  });

  const faults: readonly [name: string, script: Script][] = [
    ['closes', (connection) => connection.end()],
    ['resets', (connection) => connection.reset()],
    ['speaks something else', (connection) => connection.write('HTTP/1.1 400 Bad Request\r\n\r\n\0')],
    ['refuses the login', refusing],
    ['speaks STOMP 1.1', (connection) => connection.accept({ version: '1.1' }).then(() => undefined)],
  ];
  for (const [name, script] of faults) {
    it(`uses the standby when the first server ${name}`, async () => {
      await using first = await startScriptedServer(script);
      await using standby = await startScriptedServer();
      const session = await connectWith(withStandby(first, standby));
      assert.equal(session.address, `${standby.host}:${standby.port}`);
      assert.equal(first.accepted, 1);
      await within(session.request('SEND', { destination: 'a' }), DEADLINE_MS, 'a SEND is confirmed');
    });
  }

  it('uses the standby when nobody listens at the first', async () => {
    await using standby = await startScriptedServer();
    const session = await connectWith(withStandby(closedPort(), standby));
    assert.equal(session.address, `${standby.host}:${standby.port}`);
  });

  it('tells what was wrong with each server when none can be reached', async () => {
    const [first, standby] = [closedPort(), closedPort()];
    await assert.rejects(connectWith(withStandby(first, standby)), (error: unknown) => {
      assert.ok(hasCode('broker-unreachable')(error));
      for (const { port } of [first, standby])
        assert.match(String(error), new RegExp(`127\\.0\\.0\\.1:${port}`));
      return true;
    });
  });

  it('tells of the refusal when one server refuses and the other cannot be reached', async () => {
    await using refuser = await startScriptedServer(refusing);
    const closed = closedPort();
    for (const [first, standby] of [
      [refuser, closed],
      [closed, refuser],
    ] as const) {
      await assert.rejects(connectWith(withStandby(first, standby)), (error: unknown) => {
        assert.ok(hasCode('broker-refused')(error));
        assert.match(String(error), /Access refused for user 'guest'/);
        return true;
      });
    }
  });

  it('sends the client id of a durable subscription only', async () => {
    await using server = await startScriptedServer();
    await connectWith(settingsFor(server, { clientId: 'me' }));
    await connectWith(settingsFor(server, { clientId: 'me', durableTopicSubscription: true }));
    assert.deepEqual(
      server.connections.map(({ frames }) => frames[0]!.headers['client-id']),
      [undefined, 'me-listener'],
    );
  });
});

/** Above what a test adds to the clock. */
const LOOP_DEADLINE_MS = 60_000;

const drop = (session: Session): void => session.destroy({ kind: 'transport', message: 'dropped' });

describe('sessions', () => {
  afterEach(() => mock.restoreAll());

  /** Runs the loop over all sessions until `isEnough`, then aborts it; resolves with its log. */
  async function runLoop(
    settings: Settings,
    isEnough: (log: RecordedLog) => boolean,
    onSession: (session: Session) => void | Promise<void> = () => undefined,
  ): Promise<RecordedLog> {
    const log = new RecordedLog();
    const abort = new AbortController();
    const loop = (async () => {
      for await (const session of sessions(settings, log, abort.signal)) await onSession(session);
    })();
    const failed = loop.then(
      () => false,
      () => true,
    );
    await Promise.race([
      loop,
      until(
        () => isEnough(log),
        LOOP_DEADLINE_MS,
        () => `enough in ${JSON.stringify(log.lines)}`,
      ),
    ]);
    abort.abort();
    assert.equal(await within(failed, DEADLINE_MS, 'the loop ends when it is aborted'), false);
    return log;
  }

  const waits = (log: RecordedLog): unknown[] => log.find(/trying again/).map(({ retryInMs }) => retryInMs);

  /** Waits in milliseconds: with the least jitter they are a fifth of their span. */
  const leastWaits = [40, 80, 120, 120, 120];
  const cap = { waitToConnectSeconds: 0.6 };

  it('wait longer after each failed attempt, up to the limit', async () => {
    mock.method(Math, 'random', () => 0);
    const log = await runLoop(settingsFor(closedPort(), cap), (log) => waits(log).length >= 5);
    assert.deepEqual(waits(log).slice(0, 5), leastWaits);
    assert.ok(
      log.find(/trying again/).every(({ level, reason }) => level === 'warn' && typeof reason === 'string'),
    );
  });

  it('wait longer too when the server accepts every session and drops it at once', async () => {
    mock.method(Math, 'random', () => 0);
    await using server = await startScriptedServer(async (connection) => {
      await connection.accept();
      connection.end();
    });
    const log = await runLoop(settingsFor(server, cap), (log) => waits(log).length >= 5);
    assert.deepEqual(waits(log).slice(0, 5), leastWaits);
    assert.ok(server.accepted <= waits(log).length + 1, `${server.accepted} connections`);
  });

  it('wait like at first after a session that was healthy for a while', async () => {
    mock.method(Math, 'random', () => 0);
    await using server = await startScriptedServer(obliging());
    let lateMs = 0;
    const now = performance.now.bind(performance);
    mock.method(performance, 'now', () => now() + lateMs);
    let count = 0;
    const log = await runLoop(
      settingsFor(server, cap),
      (log) => waits(log).length >= 5,
      (session) => {
        if (++count === 3) lateMs += 10_001;
        drop(session);
      },
    );
    assert.deepEqual(waits(log).slice(0, 5), [40, 80, 40, 80, 120]);
  });

  it('do not return together: each wait is a random part of its span', async () => {
    const settings = settingsFor(closedPort(), { waitToConnectSeconds: 0.1 });
    for (const [random, waitMs] of [
      [0, 20],
      [0.5, 60],
      [0.999, 100],
    ] as const) {
      mock.method(Math, 'random', () => random);
      const log = await runLoop(settings, (log) => waits(log).length >= 2);
      assert.deepEqual(waits(log).slice(0, 2), [waitMs, waitMs]);
    }
  });

  it('throw what only a change of settings cures before the first one', async () => {
    await using server = await startScriptedServer(refusing);
    const log = new RecordedLog();
    const loop = sessions(settingsFor(server), log, new AbortController().signal);
    await assert.rejects(within(loop.next(), DEADLINE_MS, 'the loop fails'), hasCode('broker-refused'));
    assert.equal(server.accepted, 1);
  });

  it('throw a file that cannot be read before the first one', async () => {
    const settings = settingsFor(closedPort(), { useSsl: true, caFile: '/nowhere/ca.pem' });
    const loop = sessions(settings, new RecordedLog(), new AbortController().signal);
    await assert.rejects(within(loop.next(), DEADLINE_MS, 'the loop fails'), hasCode('invalid-setting'));
  });

  it('wait for a server that cannot be reached at first', async () => {
    mock.method(Math, 'random', () => 0);
    await using server = await startScriptedServer((connection) => {
      if (server.connections.length < 3) connection.reset();
      else return obliging()(connection);
    });
    let connected = 0;
    await runLoop(
      settingsFor(server),
      () => connected > 0,
      (session) => {
        connected++;
        drop(session);
      },
    );
    assert.equal(server.connections[2]!.commands[0], 'CONNECT');
  });

  it('are tried again slowly when the broker refuses after the first one', async () => {
    await using server = await startScriptedServer(async (connection) => {
      if (server.connections.length > 1) return refusing(connection);
      await connection.accept();
      connection.end();
    });
    const log = await runLoop(
      settingsFor(server, { waitToConnectSeconds: 0.1 }),
      (log) => waits(log).length >= 2,
    );
    const [lost, refused, ...rest] = log.find(/trying again/);
    assert.equal(lost!.level, 'warn');
    assert.equal(refused!.level, 'error');
    assert.equal(refused!.retryInMs, 30_000);
    assert.match(String(refused!.reason), /Access refused .*STOMP_SERVER_PASSWORD/);
    assert.deepEqual(rest, []);
    assert.equal(server.accepted, 2);
  });

  it('are tried again slowly when a session ended for what only a change of settings cures', async () => {
    await using server = await startScriptedServer(async (connection) => {
      await connection.accept();
      await connection.expect('SEND');
      connection.send('ERROR', { message: 'access_refused' }, 'ACCESS_REFUSED - access to queue');
    });
    const log = await runLoop(
      settingsFor(server),
      (log) => waits(log).length >= 1,
      (session) => {
        session.sendWithoutReceipt('SEND', { destination: 'a' });
      },
    );
    assert.deepEqual(waits(log), [30_000]);
  });

  it('follow at once on one that its user has closed', async () => {
    await using server = await startScriptedServer(obliging());
    let count = 0;
    const log = await runLoop(
      settingsFor(server),
      () => count >= 3,
      (session) => {
        count++;
        return session.close();
      },
    );
    assert.deepEqual(log.find(/trying again/), []);
  });

  it('come one at a time: the next is opened when the last has ended', async () => {
    mock.method(Math, 'random', () => 0);
    await using server = await startScriptedServer(obliging());
    const seen: Session[] = [];
    await runLoop(
      settingsFor(server),
      () => seen.length >= 3,
      (session) => {
        assert.ok(seen.every(({ isOpen }) => !isOpen));
        seen.push(session);
        drop(session);
      },
    );
    assert.equal(new Set(seen.map(({ id }) => id)).size, seen.length);
  });

  it('end when aborted, in the middle of connecting too', async () => {
    await using server = await startScriptedServer(() => undefined);
    await runLoop(settingsFor(server), () => server.accepted === 1);
    await server.connections[0]!.waitForClose();
  });

  it('are none when aborted before', async () => {
    await using server = await startScriptedServer();
    const loop = sessions(settingsFor(server), new RecordedLog(), AbortSignal.abort());
    assert.deepEqual(await within(loop.next(), DEADLINE_MS, 'the loop ends'), {
      done: true,
      value: undefined,
    });
    assert.equal(server.accepted, 0);
  });
});
