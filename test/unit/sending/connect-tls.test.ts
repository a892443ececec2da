import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { before, describe, it } from 'node:test';
import { TLSSocket, type TlsOptions } from 'node:tls';
import { PubsubError } from '../../../src/errors.js';
import type { Settings } from '../../../src/settings.js';
import { resolve } from '../../../src/settings/resolve.js';
import { connectOnce } from '../../../src/sending/connect.js';
import type { Session } from '../../../src/sending/connect.js';
import { openBeside } from '../../../src/stomp/open.js';
import { type ScriptedServer, startScriptedServer } from '../../support/scripted-server.js';
import { until, within } from '../../support/until.js';
import { Authority, type Certificate, opensslMissing } from './certificates.js';
import { DEADLINE_MS, RecordedLog } from '../stomp/session-under-test.js';

const skip = opensslMissing() ?? false;

const startTls = (certificate: Certificate, options: TlsOptions = {}): Promise<ScriptedServer> =>
  startScriptedServer(undefined, { tls: { cert: certificate.cert, key: certificate.key, ...options } });

/** With a system that trusts nothing but what is given here. */
function connect(
  server: Pick<ScriptedServer, 'host' | 'port'>,
  settings: Partial<Settings>,
): Promise<Session> {
  const { host, port } = server;
  const all = resolve(
    { host, port, useSsl: true, connectTimeoutSeconds: DEADLINE_MS / 1000, ...settings },
    {},
  );
  return within(connectOnce(all, new RecordedLog()), DEADLINE_MS * 2, 'connectOnce settles');
}

async function assertRefused(connecting: Promise<Session>, text: RegExp, advice: RegExp): Promise<void> {
  await assert.rejects(connecting, (error: unknown) => {
    assert.ok(error instanceof PubsubError, String(error));
    assert.equal(error.code, 'broker-refused');
    assert.match(error.message, text);
    assert.match(error.message, advice);
    assert.doesNotMatch(error.message, /\n/);
    return true;
  });
}

/** The server's end of its first connection. */
async function peerOf(server: ScriptedServer): Promise<TLSSocket & { readonly servername?: unknown }> {
  const { socket } = await server.connection();
  assert.ok(socket instanceof TLSSocket);
  return socket;
}

/** Frames pass in both directions. */
async function assertWorks(session: Session): Promise<void> {
  await within(session.request('SEND', { destination: 'a' }, 'ü'), DEADLINE_MS, 'a SEND is confirmed');
  await within(session.close(), DEADLINE_MS, 'close() resolves');
}

/** A server of OpenSSL that wants client certificates, and says by alerts what it has against one, as brokers do. */
async function startAsking(version: string, { certFile, keyFile }: Certificate, caFile: string) {
  const files = ['-cert', certFile, '-key', keyFile, '-CAfile', caFile];
  const args = [
    's_server',
    '-accept',
    '127.0.0.1:0',
    version,
    ...files,
    '-Verify',
    '1',
    '-verify_return_error',
  ];
  const child = spawn('openssl', args, { stdio: ['pipe', 'pipe', 'ignore'] });
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const [, port] = await until(
    () => /^ACCEPT 127\.0\.0\.1:(\d+)$/m.exec(said),
    DEADLINE_MS,
    () => `ACCEPT and its port in ${said}`,
  );
  const stop = async () => {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  };
  return { host: '127.0.0.1' as const, port: Number(port), [Symbol.asyncDispose]: stop };
}

describe('TLS', { skip }, () => {
  let authority: Authority;
  let good: Certificate;
  let other: Certificate;

  before(() => {
    authority = new Authority();
    good = authority.sign('DNS:localhost,IP:127.0.0.1');
    other = authority.sign('DNS:broker.test');
  });

  it('a certificate of the authority given, for the address, is accepted', async () => {
    await using server = await startTls(good);
    await assertWorks(await connect(server, { caFile: authority.caFile }));
    const { frames } = await server.connection();
    assert.equal(frames[1]!.body.toString(), 'ü');
  });

  it('a certificate of an authority that is not trusted is refused', async () => {
    await using server = await startTls(good);
    await assertRefused(connect(server, {}), /certificate/, /DEFAULT_STOMP_CA_CERTS/);
    assert.deepEqual(
      server.connections.flatMap(({ chunks }) => chunks),
      [],
    );
  });

  it('a certificate for another name is refused', async () => {
    await using server = await startTls(other);
    await assertRefused(
      connect(server, { caFile: authority.caFile }),
      /altnames|127\.0\.0\.1/,
      /STOMP_SSL_SERVER_NAME/,
    );
    assert.deepEqual(
      server.connections.flatMap(({ chunks }) => chunks),
      [],
    );
  });

  it('a certificate for the server name that is set is accepted, and the name is sent', async () => {
    await using server = await startTls(other);
    await assertWorks(await connect(server, { caFile: authority.caFile, sslServerName: 'broker.test' }));
    assert.equal((await peerOf(server)).servername, 'broker.test');
  });

  it('a certificate for another server name than the one set is refused', async () => {
    await using server = await startTls(good);
    const settings = { caFile: authority.caFile, sslServerName: 'broker.test' };
    await assertRefused(connect(server, settings), /broker\.test/, /STOMP_SSL_SERVER_NAME/);
  });

  it('the name of the host is sent, and its certificate accepted', async () => {
    await using server = await startTls(good);
    await assertWorks(await connect(server, { caFile: authority.caFile, host: 'localhost' }));
    assert.equal((await peerOf(server)).servername, 'localhost');
  });

  it('a self-signed certificate is refused', async () => {
    await using server = await startTls(authority.selfSigned('127.0.0.1'));
    await assertRefused(connect(server, {}), /self[- ]signed/, /DEFAULT_STOMP_CA_CERTS/);
  });

  it('any certificate is accepted when it shall not be verified', async () => {
    await using server = await startTls(authority.selfSigned('elsewhere'));
    await assertWorks(await connect(server, { sslVerify: false }));
  });

  it('the certificate of the client is sent', async () => {
    const client = authority.sign('DNS:client');
    await using server = await startTls(good, {
      requestCert: true,
      ca: good.cert,
      rejectUnauthorized: false,
    });
    const { certFile, keyFile } = client;
    await assertWorks(await connect(server, { caFile: authority.caFile, certFile, keyFile }));
    assert.equal((await peerOf(server)).getPeerCertificate().subjectaltname, 'DNS:client');
  });

  it('a certificate that has expired is named as that', async () => {
    await using server = await startTls(authority.sign('IP:127.0.0.1', { days: -1 }));
    await assertRefused(
      connect(server, { caFile: authority.caFile }),
      /expired/,
      /renew the certificate of the broker/,
    );
  });

  for (const version of ['-tls1_2', '-tls1_3']) {
    it(`a client certificate that the server wants, or does not trust, is asked for (${version})`, async () => {
      await using server = await startAsking(version, good, authority.caFile);
      const { caFile } = authority;
      const wanted = /set DEFAULT_STOMP_CERT_FILE and DEFAULT_STOMP_KEY_FILE/;
      await assertRefused(
        connect(server, { caFile }),
        /alert/,
        version === '-tls1_2' ? /client cert|CERT_FILE/ : wanted,
      );
      const { certFile, keyFile } = authority.selfSigned('stranger');
      const untrusted = /does not trust the client certificate/;
      await assertRefused(connect(server, { caFile, certFile, keyFile }), /alert/, untrusted);
      const old = authority.sign('DNS:client', { days: -1 });
      const expired = { caFile, certFile: old.certFile, keyFile: old.keyFile };
      await assertRefused(connect(server, expired), /expired/, /renew DEFAULT_STOMP_CERT_FILE/);
    });
  }

  it('a file of authorities without a certificate is a matter of settings', async () => {
    await using server = await startTls(good);
    const cut = readFileSync(authority.caFile).subarray(0, 200);
    for (const [content, told] of [
      [good.key, /no certificate in .*BEGIN CERTIFICATE/],
      ['garbage', /no certificate in/],
      ['', /no certificate in/],
      [cut, /cannot be used/],
    ] as const) {
      await assert.rejects(connect(server, { caFile: authority.file(content) }), (error: unknown) => {
        assert.ok(error instanceof PubsubError, String(error));
        assert.equal(error.code, 'invalid-setting');
        assert.match(error.message, /^DEFAULT_STOMP_CA_CERTS: /);
        assert.match(error.message, told);
        return true;
      });
    }
    assert.equal(server.accepted, 0);
  });

  it('a client without TLS on a port with it is told so', async () => {
    await using server = await startTls(good);
    // It hangs up without a word; RabbitMQ says one.
    await assert.rejects(connect(server, { useSsl: false }), { message: /STOMP_USE_SSL if it speaks TLS/ });
  });

  it('a client with TLS on a port without it is told so', async () => {
    await using server = await startScriptedServer(({ socket }) => {
      // Garbage to a server that waits for a line.
      socket.removeAllListeners('data');
      socket.once('data', () => socket.end('AMQP\0\0\x09\x01'));
    });
    await assertRefused(connect(server, {}), /wrong version number/, /this port speaks no TLS/);
  });

  it('certificates are read anew for each connection, and for one beside another', async () => {
    await using server = await startTls(good);
    const caFile = authority.file(readFileSync(authority.caFile));
    const session = await connect(server, { caFile });
    writeFileSync(caFile, authority.selfSigned('other').cert);
    await assert.rejects(openBeside(session, new RecordedLog()), /DEFAULT_STOMP_CA_CERTS/);
    writeFileSync(caFile, readFileSync(authority.caFile));
    const beside = await openBeside(session, new RecordedLog());
    await Promise.all([beside.close(), session.close()]);
  });

  it('a file that cannot be read is named with its variable', async () => {
    await using server = await startTls(good);
    await assert.rejects(
      connect(server, { caFile: '/nowhere/ca.pem' }),
      (error: unknown) =>
        error instanceof PubsubError &&
        error.code === 'invalid-setting' &&
        /DEFAULT_STOMP_CA_CERTS: .*\/nowhere\/ca\.pem/.test(error.message),
    );
    assert.equal(server.accepted, 0);
  });

  it('files that hold no certificate, or the key of another, are a matter of settings', async () => {
    await using server = await startTls(good);
    const garbage = authority.file('garbage');
    const { certFile, keyFile } = good;
    for (const files of [
      { certFile: garbage, keyFile },
      { certFile, keyFile: garbage },
      { certFile, keyFile: other.keyFile },
    ]) {
      await assert.rejects(connect(server, files), (error: unknown) => {
        assert.ok(error instanceof PubsubError, String(error));
        assert.equal(error.code, 'invalid-setting');
        assert.match(error.message, /DEFAULT_STOMP_CERT_FILE/);
        return true;
      });
    }
    assert.equal(server.accepted, 0);
  });

  it('T6: a TLS server that accepts and says nothing is given up in time', async () => {
    await using server = await startScriptedServer(() => undefined, {
      tls: { cert: good.cert, key: good.key },
    });
    await assert.rejects(
      connect(server, { caFile: authority.caFile, connectTimeoutSeconds: 0.5 }),
      (error: unknown) => error instanceof PubsubError && error.code === 'broker-unreachable',
    );
  });

  it('the standby server is spoken to with TLS too', async () => {
    await using first = await startScriptedServer((connection) => connection.reset());
    await using standby = await startTls(good);
    const session = await connect(first, {
      caFile: authority.caFile,
      standbyHost: standby.host,
      standbyPort: standby.port,
    });
    assert.equal(session.address, `${standby.host}:${standby.port}`);
    await assertWorks(session);
    assert.equal((await peerOf(standby)).encrypted, true);
  });
});
