/** Ways to a broker and what is in the way: URLs, files of credentials, IPv6, other ports, limits. */
import assert from 'node:assert/strict';
import { renameSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { startBroker } from '../../src/testing.js';
import { brokerUnderTest } from '../support/brokers.js';
import { run } from '../support/process.js';
import { freePorts } from '../support/server-process.js';
import { until } from '../support/until.js';
import {
  at,
  complaint,
  DEADLINE_MS,
  fixture,
  publish,
  startPubsub,
  stopPubsub,
  temporaryFolder,
  unique,
} from './commands.js';

const none = { env: {} };
const ack = fixture('plain.js#ack');

async function listen(server: Server, t: { after: (end: () => unknown) => void }): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

describe('STOMP_URL', () => {
  it('names servers, tried in turn, login and virtual host, percent-encoded', async (t) => {
    const broker = await startBroker({ user: 'a@b/c', password: 'p:ä@' });
    t.after(() => broker.close());
    const [gone, more] = (await freePorts(2)) as [number, number];
    const url = `stomp://a%40b%2Fc:p%3A%C3%A4%40@127.0.0.1:${gone},localhost:${more},127.0.0.1:${broker.port}/%2F`;
    const { code, stderr } = await publish(none, ['/queue/x', '1'], { env: { STOMP_URL: url } });
    assert.equal(code, 0, stderr);
    const flag = await publish(none, ['/queue/x', '1', '--url', url], {
      env: { STOMP_SERVER_HOST: 'elsewhere.invalid', STOMP_SERVER_USER: 'nobody' },
    });
    assert.equal(flag.code, 0, flag.stderr);
    const nearer = await publish(none, ['/queue/x', '1', '--password', 'wrong'], { env: { STOMP_URL: url } });
    assert.equal(nearer.code, 4, nearer.stderr);
    assert.match(nearer.stderr, /STOMP_SERVER_PASSWORD/);
    assert.equal(broker.depth('/queue/x'), 2);
  });

  it('of an IPv6 address has brackets, and STOMP_SERVER_HOST may', async (t) => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
    });
    server.listen(0, '::1');
    await once(server, 'listening');
    t.after(() => server.close());
    const { port } = server.address() as AddressInfo;
    for (const env of [
      { STOMP_URL: `stomp://[::1]:${port}` },
      { STOMP_SERVER_HOST: '::1', STOMP_SERVER_PORT: String(port) },
      { STOMP_SERVER_HOST: '[::1]', STOMP_SERVER_PORT: String(port) },
    ]) {
      const { code, stderr } = await publish(none, ['/queue/x', '1'], { env });
      assert.equal(code, 4, stderr);
      assert.match(
        complaint(stderr),
        new RegExp(`cannot connect to \\[::1\\]:${port}: this is a port of HTTP`),
      );
    }
  });

  const wrong: [env: Record<string, string>, flags: string[], told: RegExp][] = [
    [
      { STOMP_URL: 'amqp://u:secret@h' },
      [],
      /STOMP_URL: stomp:\/\/user@host:port\/vhost.* not the value given/,
    ],
    [{ STOMP_URL: 'http://h:61613' }, [], /STOMP_URL: .* in the place of http:\/\//],
    [{ STOMP_URL: 'stomp://u:secret@h:70000' }, [], /host:port or \[IPv6\]:port expected at "h:70000"/],
    [{ STOMP_URL: 'stomp://u:secret@h,' }, [], /expected at ""/],
    [{ STOMP_URL: 'stomp://u:secret@::1' }, [], /\[IPv6\]/],
    [{ STOMP_URL: 'stomp://u:secret%ff@h' }, [], /percent-encoding of the password/],
    [{ STOMP_URL: 'stomp://h/a/b' }, [], /virtual host is written %2F/],
    [{ STOMP_URL: 'stomp://h/a?x=secret' }, [], /stomp:\/\/user@host/],
    [
      { STOMP_URL: 'stomp://h', STOMP_SERVER_HOST: 'g' },
      [],
      /STOMP_URL and STOMP_SERVER_HOST: both are given/,
    ],
    [
      { STOMP_URL: 'stomp://u:secret@h', STOMP_SERVER_USER: 'v' },
      [],
      /STOMP_URL and STOMP_SERVER_USER: both/,
    ],
    [{ STOMP_URL: 'stomp+ssl://h', STOMP_USE_SSL: 'false' }, [], /STOMP_URL and STOMP_USE_SSL: both/],
    [{ STOMP_URL: 'stomp://h' }, ['--port', '61614'], /another port needs another host/],
    [
      { STOMP_SERVER_USER: 'u', STOMP_SERVER_USER_FILE: 'f' },
      [],
      /STOMP_SERVER_USER and STOMP_SERVER_USER_FILE: give one/,
    ],
    [
      { STOMP_SERVER_PASSWORD: 'secret', STOMP_SERVER_PASSWORD_FILE: 'f' },
      [],
      /STOMP_SERVER_PASSWORD and STOMP_SERVER_PASSWORD_FILE: give one/,
    ],
    [{ DEFAULT_STOMP_CA_CERTS: 'ca.pem' }, [], /given without TLS, and nothing is sent in clear text/],
    [
      { DEFAULT_STOMP_CERT_FILE: 'c', DEFAULT_STOMP_KEY_FILE: 'k', STOMP_URL: 'stomp://h' },
      [],
      /given without TLS/,
    ],
    [
      { STOMP_SERVER_PASSWORD_FILE: '/nowhere/secret' },
      [],
      /STOMP_SERVER_PASSWORD_FILE.*\/nowhere\/secret cannot be read/,
    ],
  ];
  for (const [env, flags, told] of wrong) {
    it(`refuses ${JSON.stringify(env)} ${flags.join(' ')} with 2`, async () => {
      const { code, stderr } = await publish(none, ['/queue/x', '1', ...flags], { env });
      assert.equal(code, 2, stderr);
      assert.match(stderr, told);
      assert.doesNotMatch(stderr.replaceAll('/nowhere/secret', ''), /secret/);
    });
  }

  it('stomp+ssl connects with TLS, and files of TLS are taken with it', async () => {
    const [port = 0] = await freePorts(1);
    const env = { STOMP_URL: `stomp+ssl://127.0.0.1:${port}`, DEFAULT_STOMP_CA_CERTS: '/nowhere/ca.pem' };
    const { code, stderr } = await publish(none, ['/queue/x', '1'], { env });
    assert.equal(code, 2, stderr);
    assert.match(stderr, /DEFAULT_STOMP_CA_CERTS: .*\/nowhere\/ca\.pem/);
    const plain = await publish(none, ['/queue/x', '1', '--no-ssl'], { env });
    assert.equal(plain.code, 4, plain.stderr);
  });
});

describe('files of credentials', () => {
  it('are read for every connection, without one line break; what is wrong later is told and tried again', async (t) => {
    const folder = temporaryFolder({ user: 'app\n', password: 'old' });
    const [user, password] = [join(folder, 'user'), join(folder, 'password')];
    const [port = 0] = await freePorts(1);
    const first = await startBroker({ port, user: 'app', password: 'old' });
    const running = await startPubsub({ env: at(port) }, 'x', ack, {
      env: { STOMP_SERVER_USER_FILE: user, STOMP_SERVER_PASSWORD_FILE: password, STOMP_WAIT_TO_CONNECT: '0' },
    });
    await first.close();
    writeFileSync(`${password}.new`, 'new\r\n');
    renameSync(`${password}.new`, password);
    const second = await startBroker({ port, user: 'app', password: 'new' });
    t.after(() => second.close());
    await until(
      () => running.said('subscribed').length === 2,
      DEADLINE_MS,
      () => `a second subscription in ${running.stderr}`,
    );
    writeFileSync(password, '');
    second.dropConnections();
    await running.waitFor(/a setting cannot be used now; trying again slowly/);
    assert.match(running.stderr, /STOMP_SERVER_PASSWORD_FILE[^\n]*password is empty/);
    await stopPubsub(running);
  });

  for (const [content, told] of [
    ['', /is empty/],
    ['\n', /is empty/],
    ['a\nb\n', /more than one line/],
  ] as const) {
    it(`with ${JSON.stringify(content)} end a start with 2`, async () => {
      const folder = temporaryFolder({ user: content });
      const env = { STOMP_SERVER_USER_FILE: join(folder, 'user') };
      const running = run('pubsub', ['x', ack], { env });
      assert.deepEqual(await running.exit(), { code: 2, signal: null });
      assert.match(running.stderr, told);
      const moving = run('pubsub', ['move-messages', 'a', 'b'], {
        env: { STOMP_SOURCE_USER_FILE: join(folder, 'user') },
      });
      assert.deepEqual(await moving.exit(), { code: 2, signal: null });
      assert.match(moving.stderr, told);
    });
  }
});

describe('a port of something else is named, with what to change:', () => {
  it('HTTP', async (t) => {
    const port = await listen(createHttpServer(), t);
    const { code, stderr } = await publish({ env: at(port) }, ['/queue/x', '1']);
    assert.equal(code, 4, stderr);
    assert.match(
      complaint(stderr),
      /^cannot connect to 127\.0\.0\.1:\d+: this is a port of HTTP \(give STOMP_SERVER_PORT .* 61613/,
    );
  });

  for (const [name, answer, told] of [
    // The first bytes that AMQP 0-9-1 and OpenWire have brokers answer.
    ['AMQP', Buffer.from('AMQP\0\0\x09\x01', 'latin1'), /this is a port of AMQP \(give STOMP_SERVER_PORT/],
    ['OpenWire', Buffer.from('\0\0\0\xf0\x01ActiveMQ\0\0\0\x0c', 'latin1'), /this is a port of OpenWire/],
    ['TLS', Buffer.from('1503010002020a', 'hex'), /this port speaks TLS \(set STOMP_USE_SSL=true/],
    ['nothing that says a word', Buffer.alloc(0), /no word of STOMP: check the port, and STOMP_USE_SSL/],
  ] as const) {
    it(name, async (t) => {
      const server = createServer((socket) => {
        socket.on('error', () => undefined);
        socket.once('data', () => socket.end(answer));
      });
      const port = await listen(server, t);
      const { code, stderr } = await publish({ env: at(port) }, ['/queue/x', '1', '--reconnect-for', '0']);
      assert.equal(code, 4, stderr);
      assert.match(complaint(stderr), told);
    });
  }
});

it('variables of django-stomp that change nothing, and misspelt ones, are warned about', async (t) => {
  const broker = await startBroker();
  t.after(() => broker.close());
  const env = { DEFAULT_STOMP_SSL_VERSION: '5', DEFAULT_STOMP_CA_CERT: 'x', DEFAULT_OTHER: '1' };
  const { code, logLines, stderr } = await publish(broker, ['/queue/x', '1'], { env });
  assert.equal(code, 0, stderr);
  assert.deepEqual(
    logLines
      .filter((line) => 'variable' in line)
      .map(({ level, variable, meant, msg }) => [level, variable, meant, msg]),
    [
      ['warn', 'DEFAULT_STOMP_SSL_VERSION', undefined, 'this variable changes nothing here'],
      ['warn', 'DEFAULT_STOMP_CA_CERT', 'DEFAULT_STOMP_CA_CERTS', 'unknown variable; is it misspelt?'],
    ],
  );
});

const rabbitmq = brokerUnderTest('rabbitmq');
it(
  'a virtual host that is denied for a limit of connections names that',
  { skip: rabbitmq?.ctl === undefined && 'needs a RabbitMQ of our own' },
  async (t) => {
    const { ctl, env } = rabbitmq!;
    const user = unique('crowded');
    await ctl!('add_user', user, 'secret');
    t.after(() => ctl!('delete_user', user));
    await ctl!('set_permissions', user, '.*', '.*', '.*');
    await ctl!('set_user_limits', user, '{"max-connections":0}');
    const login = { STOMP_SERVER_USER: user, STOMP_SERVER_PASSWORD: 'secret' };
    const { code, stderr } = await publish({ env }, ['/queue/x', '1'], { env: login });
    assert.equal(code, 4, stderr);
    assert.match(complaint(stderr), /access denied.*max-connections/);
  },
);
