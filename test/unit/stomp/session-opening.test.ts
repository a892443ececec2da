import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PubsubError } from '../../../src/errors.js';
import { openSession } from '../../../src/stomp/open.js';
import { type Script, type ScriptedConnection, startScriptedServer } from '../../support/scripted-server.js';
import { within } from '../../support/until.js';
import {
  DEADLINE_MS,
  open,
  openPair,
  optionsFor,
  RecordedLog,
  roundTrip,
  type Options,
} from './session-under-test.js';

/** Opens a session with a server that plays this script and resolves with the error, which must come. */
async function refusalOf(script: Script, options: Options = {}): Promise<PubsubError> {
  await using server = await startScriptedServer(script);
  try {
    await open(server, options);
  } catch (error) {
    assert.ok(error instanceof PubsubError, String(error));
    // The client leaves nothing behind, whatever the server does.
    for (const connection of server.connections) await connection.waitForClose();
    return error;
  }
  return assert.fail('the session was opened');
}

/** What RabbitMQ sends: text/plain, content-length, and the reason in the body. */
function rabbitmqError(message: string, body: string) {
  return {
    headers: {
      message,
      'content-type': 'text/plain',
      version: '1.0,1.1,1.2',
      'content-length': String(Buffer.byteLength(body)),
    },
    body,
  };
}

describe('opening a session', () => {
  it('T25: offers version 1.2 alone, with vhost, login, client id and heart-beats', async () => {
    await using pair = await openPair({
      vhost: '/shop',
      user: 'mé:\\',
      password: 'päss',
      clientId: 'me-listener',
      outgoingHeartbeatMs: 8000,
      incomingHeartbeatMs: 9000,
    });
    assert.deepEqual(
      { ...pair.peer.frames[0]!.headers },
      {
        'accept-version': '1.2',
        host: '/shop',
        'heart-beat': '8000,9000',
        login: 'mé:\\',
        passcode: 'päss',
        'client-id': 'me-listener',
      },
    );
  });

  it('leaves out login, passcode and client id that are not set', async () => {
    await using pair = await openPair({ user: undefined, password: undefined });
    assert.deepEqual(Object.keys(pair.peer.frames[0]!.headers).sort(), [
      'accept-version',
      'heart-beat',
      'host',
    ]);
  });

  it('takes the product from the server header', async () => {
    await using pair = await openPair({}, async (connection) => {
      await connection.accept({ server: 'ActiveMQ/5.17.2' });
    });
    assert.equal(pair.session.dialect.name, 'activemq');
    assert.equal(pair.session.server, 'ActiveMQ/5.17.2');
    assert.equal(pair.session.isOpen, true);
  });

  it('gives every session an id of its own', async () => {
    await using server = await startScriptedServer();
    const [one, two] = [await open(server), await open(server)];
    assert.notEqual(one.id, two.id);
  });

  it('T18: takes CONNECTED and what follows when they arrive byte by byte, with CRLF', async () => {
    const connected = 'CONNECTED\r\nversion:1.2\r\nsession:sé\r\nserver:ActiveMQ/5\r\n\r\n\0\r\n\n';
    await using pair = await openPair({}, async (connection) => {
      await connection.expect('CONNECT');
      await connection.writeByteByByte(Buffer.from(connected));
    });
    assert.equal(pair.session.server, 'ActiveMQ/5');
    await roundTrip(pair);
  });

  describe('against the wish of the server', () => {
    it('T1: an ERROR with text/plain and content-length is a refusal with its reason', async () => {
      const { headers, body } = rabbitmqError('Bad CONNECT', "Access refused for user 'guest'\n");
      const error = await refusalOf(async (connection) => {
        await connection.expect('CONNECT');
        connection.send('ERROR', headers, body);
      });
      assert.equal(error.code, 'broker-refused');
      assert.match(error.message, /Bad CONNECT: Access refused for user 'guest'/);
      assert.match(error.message, /STOMP_SERVER_USER and STOMP_SERVER_PASSWORD/);
    });

    it('T1: an ERROR that only waiting cures is unreachable', async () => {
      const { headers, body } = rabbitmqError('Processing error', 'Processing error\n');
      const error = await refusalOf(async (connection) => {
        await connection.expect('CONNECT');
        connection.send('ERROR', headers, body);
      });
      assert.equal(error.code, 'broker-unreachable');
      assert.match(error.message, /Processing error/);
    });

    it("T26: of ActiveMQ's ERROR the message is told and the stack trace is not", async () => {
      const error = await refusalOf(async (connection) => {
        await connection.expect('CONNECT');
        connection.send(
          'ERROR',
          { 'content-type': 'text/plain', message: 'User name [u] or password is invalid.' },
          'java.lang.SecurityException: User name [u] or password is invalid.\n\tat org.apache.activemq.X(X.java:1)',
        );
        connection.end();
      });
      assert.equal(error.code, 'broker-refused');
      assert.match(error.message, /User name \[u\] or password is invalid\./);
      assert.doesNotMatch(error.message, /java|\.X/);
    });

    it('T26: a huge ERROR body is cut', async () => {
      const body = 'why '.repeat(1_000_000);
      const error = await refusalOf(async (connection) => {
        await connection.expect('CONNECT');
        connection.send('ERROR', { message: 'x', 'content-length': String(body.length) }, body);
      });
      assert.ok(error.message.length < 5000);
      assert.match(error.message, /x: why why/);
    });

    for (const version of ['1.0', '1.1', '1.3', undefined]) {
      it(`T25: a server that speaks ${version ?? 'no version it names'} is refused`, async () => {
        const error = await refusalOf(async (connection) => {
          await connection.accept({ version });
        });
        assert.equal(error.code, 'broker-refused');
        assert.match(error.message, new RegExp(`speaks STOMP ${version ?? '1.0'}; 1.2 is needed`));
      });
    }

    for (const [name, text] of [
      ['a newline', 'guest\nadmin:true'],
      ['a carriage return', 'guest\r'],
      ['a NUL byte', 'guest\0'],
    ] as const) {
      for (const option of ['user', 'password', 'vhost', 'clientId'] as const) {
        it(`T25: ${name} in ${option} is refused before a byte is sent`, async () => {
          await using server = await startScriptedServer(() => undefined);
          await assert.rejects(open(server, { [option]: text }), (error: unknown) => {
            assert.ok(error instanceof PubsubError);
            assert.equal(error.code, 'broker-refused');
            assert.match(error.message, /line break or a NUL byte/);
            assert.ok(!error.message.includes('guest'));
            return true;
          });
          const connection = await server.connection();
          await connection.waitForClose();
          assert.deepEqual(connection.chunks, []);
        });
      }
    }

    const garbage: readonly [name: string, bytes: string, problem: RegExp][] = [
      ['an unknown command', 'HELLO\nversion:1.2\n\n\0', /"HELLO", which is no STOMP frame/],
      ['a command named toString', 'toString\n\n\0', /"toString", which is no STOMP frame/],
      ['a bad content-length', 'CONNECTED\ncontent-length:x\n\n\0', /content-length is no number/],
      ['a body longer than content-length', 'CONNECTED\ncontent-length:1\n\nab\0', /longer than/],
      ['CONNECTED with a body', 'CONNECTED\nversion:1.2\n\nbody\0', /empty body/],
    ];
    for (const [name, bytes, problem] of garbage) {
      it(`${name} ends the attempt as unreachable`, async () => {
        const error = await refusalOf(async (connection) => {
          await connection.expect('CONNECT');
          connection.write(bytes);
        });
        assert.equal(error.code, 'broker-unreachable');
        assert.match(error.message, problem);
      });
    }

    it('T30: an unknown command is told in part only, when it is long', async () => {
      const error = await refusalOf(async (connection) => {
        await connection.expect('CONNECT');
        connection.write(`${'x'.repeat(100_000)}\n\n\0`);
      });
      assert.ok(error.message.length < 300, error.message.slice(0, 400));
    });

    it('binary garbage without an end is given up in time', async () => {
      const error = await refusalOf(
        async (connection) => {
          await connection.expect('CONNECT');
          connection.write(Buffer.alloc(100_000, 0xff));
        },
        { connectTimeoutMs: 200 },
      );
      assert.equal(error.code, 'broker-unreachable');
    });
  });

  describe('without an answer', () => {
    it('T6: a server that accepts and stays silent is given up in time', async () => {
      const error = await refusalOf(() => undefined, { connectTimeoutMs: 100 });
      assert.equal(error.code, 'broker-unreachable');
      assert.match(error.message, /no answer to CONNECT within 0\.1 s/);
    });

    it('T6: with TLS, a plain server that stays silent is given up in time', async () => {
      const ignoreGreeting = ({ socket }: ScriptedConnection) => {
        // What it reads is a TLS greeting and no frame.
        socket.removeAllListeners('data');
        socket.resume();
      };
      const error = await refusalOf(ignoreGreeting, {
        connectTimeoutMs: 100,
        tls: () => Promise.resolve({}),
      });
      assert.equal(error.code, 'broker-unreachable');
      assert.match(error.message, /no answer to CONNECT within 0\.1 s/);
    });

    it('a plain server that answers TLS in plain text is a matter of configuration', async () => {
      const error = await refusalOf(
        (connection) => {
          // What it reads is a TLS greeting and no frame.
          connection.socket.removeAllListeners('data');
          connection.socket.resume();
          connection.write('ERROR\nmessage:what?\n\n\0');
        },
        { tls: () => Promise.resolve({}) },
      );
      assert.equal(error.code, 'broker-refused');
      assert.match(error.message, /STOMP_USE_SSL/);
    });

    it('a port where nobody listens is unreachable, and its code is told', async () => {
      // No system gives it away.
      const port = 1;
      await assert.rejects(
        openSession(optionsFor({ host: '127.0.0.1', port }), new RecordedLog()),
        (error: unknown) =>
          error instanceof PubsubError &&
          error.code === 'broker-unreachable' &&
          error.message.includes(`cannot connect to 127.0.0.1:${port}`) &&
          error.message.includes('ECONNREFUSED'),
      );
    });

    it('aborting rejects with the reason of the signal and leaves no connection', async () => {
      await using server = await startScriptedServer(() => undefined);
      const abort = new AbortController();
      const opening = openSession(optionsFor(server), new RecordedLog(), abort.signal);
      const connection = await server.connection();
      abort.abort(new Error('enough'));
      await assert.rejects(within(opening, DEADLINE_MS, 'openSession rejects'), /enough/);
      await connection.waitForClose();
    });

    it('an aborted signal makes no connection', async () => {
      await using server = await startScriptedServer();
      const opening = openSession(
        optionsFor(server),
        new RecordedLog(),
        AbortSignal.abort(new Error('enough')),
      );
      await assert.rejects(opening, /enough/);
      assert.equal(server.accepted, 0);
    });
  });
});
