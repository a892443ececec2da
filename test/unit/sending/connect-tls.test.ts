import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { TLSSocket, type TlsOptions } from 'node:tls';
import { PubsubError } from '../../../src/errors.js';
import { resolve, type Settings } from '../../../src/settings.js';
import { connectOnce } from '../../../src/sending/connect.js';
import type { Session } from '../../../src/stomp/session.js';
import { type ScriptedServer, startScriptedServer } from '../../support/scripted-server.js';
import { within } from '../../support/until.js';
import { Authority, type Certificate, opensslMissing } from './certificates.js';
import { DEADLINE_MS, RecordedLog } from '../stomp/session-under-test.js';

const skip = opensslMissing() ?? false;

const startTls = (certificate: Certificate, options: TlsOptions = {}): Promise<ScriptedServer> =>
  startScriptedServer(undefined, { tls: { cert: certificate.cert, key: certificate.key, ...options } });

/** With a system that trusts nothing but what is given here. */
function connect(server: ScriptedServer, settings: Partial<Settings>): Promise<Session> {
  const { host, port } = server;
  const all = resolve(
    { host, port, useSsl: true, connectTimeoutSeconds: DEADLINE_MS / 1000, ...settings },
    {},
  );
  return within(connectOnce(all, new RecordedLog()), DEADLINE_MS * 2, 'connectOnce settles');
}

async function assertRefused(connecting: Promise<Session>, text: RegExp): Promise<void> {
  await assert.rejects(connecting, (error: unknown) => {
    assert.ok(error instanceof PubsubError, String(error));
    assert.equal(error.code, 'broker-refused');
    assert.match(error.message, text);
    assert.match(error.message, /check STOMP_USE_SSL, the port and the certificates/);
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
    await assertRefused(connect(server, {}), /certificate/);
    assert.deepEqual(
      server.connections.flatMap(({ chunks }) => chunks),
      [],
    );
  });

  it('a certificate for another name is refused', async () => {
    await using server = await startTls(other);
    await assertRefused(connect(server, { caFile: authority.caFile }), /altnames|127\.0\.0\.1/);
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
    await assertRefused(connect(server, settings), /broker\.test/);
  });

  it('the name of the host is sent, and its certificate accepted', async () => {
    await using server = await startTls(good);
    await assertWorks(await connect(server, { caFile: authority.caFile, host: 'localhost' }));
    assert.equal((await peerOf(server)).servername, 'localhost');
  });

  it('a self-signed certificate is refused', async () => {
    await using server = await startTls(authority.selfSigned('127.0.0.1'));
    await assertRefused(connect(server, {}), /self[- ]signed/);
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
