import assert from 'node:assert/strict';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { type Proxy, startProxy } from '../../support/proxy.js';
import { until } from '../../support/until.js';

const DEADLINE_MS = 30_000;

interface End {
  readonly socket: Socket;
  received: string;
  /** `end`, or the error's code, in the order of their coming. */
  readonly events: string[];
}

const servers: Server[] = [];

function listen(onSocket: (socket: Socket) => void): Promise<number> {
  const server = createServer(onSocket);
  servers.push(server);
  return new Promise((resolve) =>
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port)),
  );
}

function watch(socket: Socket): End {
  const end: End = { socket, received: '', events: [] };
  socket.on('data', (chunk) => (end.received += chunk.toString()));
  socket.on('end', () => end.events.push('end'));
  socket.on('error', (error: NodeJS.ErrnoException) => end.events.push(error.code ?? error.message));
  socket.on('close', () => end.events.push('close'));
  return end;
}

describe('the proxy', () => {
  let accepted: End[];
  let proxy: Proxy;

  beforeEach(async () => {
    accepted = [];
    proxy = await startProxy({
      host: '127.0.0.1',
      port: await listen((socket) => accepted.push(watch(socket))),
    });
  });
  afterEach(async () => {
    await proxy.close();
    for (const server of servers.splice(0)) server.close();
  });

  async function open(): Promise<{ client: End; peer: End }> {
    const count = accepted.length;
    const client = watch(connect({ host: proxy.host, port: proxy.port }));
    const peer = await until(() => accepted[count], DEADLINE_MS, 'a connection at the server');
    return { client, peer };
  }
  const saw = (end: End, event: string) => until(() => end.events.includes(event), DEADLINE_MS, event);
  const got = (end: End, text: string) =>
    until(
      () => end.received === text,
      DEADLINE_MS,
      () => `${text}, so far ${end.received}`,
    );

  it('forwards both ways and counts its connections', async () => {
    const { client, peer } = await open();
    client.socket.write('ping');
    await got(peer, 'ping');
    peer.socket.write('pong');
    await got(client, 'pong');
    client.socket.end();
    await saw(peer, 'end');
    assert.equal(proxy.connections, 1);
  });

  it('cuts both ends with a reset', async () => {
    const { client, peer } = await open();
    proxy.cut();
    await Promise.all([saw(client, 'ECONNRESET'), saw(peer, 'ECONNRESET')]);
    await until(() => proxy.open === 0, DEADLINE_MS, 'no open connection');
  });

  it('ends both ends with a FIN', async () => {
    const { client, peer } = await open();
    proxy.end();
    await Promise.all([saw(client, 'end'), saw(peer, 'end')]);
  });

  it('holds one direction back and forwards what it held, the end included', async () => {
    const { client, peer } = await open();
    proxy.stall('toServer');
    client.socket.end('held');
    peer.socket.write('flowing');
    await got(client, 'flowing');
    assert.equal(peer.received, '');
    assert.deepEqual(peer.events, []);
    proxy.resume();
    await got(peer, 'held');
    await saw(peer, 'end');
  });

  it('holds back an end that comes alone, and a reset', async () => {
    const [ending, resetting] = [await open(), await open()];
    proxy.stall();
    ending.client.socket.end();
    resetting.client.socket.resetAndDestroy();
    await saw(resetting.client, 'close');
    const { client, peer } = await open();
    proxy.resume('toClient');
    peer.socket.write('later');
    await got(client, 'later');
    assert.deepEqual([ending.peer.events, resetting.peer.events], [[], []]);
    proxy.resume();
    await Promise.all([saw(ending.peer, 'end'), saw(resetting.peer, 'ECONNRESET')]);
  });

  it('shows each frame once, and forwards one that it held when it is resumed', async () => {
    const { client, peer } = await open();
    const seen: string[] = [];
    proxy.onFrame((direction, { command }) => seen.push(`${command} ${direction}`));
    const isHeld = proxy.frame('toServer', ({ command }) => command === 'ACK', { isHeld: true });
    client.socket.write('SEND\n\n\0');
    await got(peer, 'SEND\n\n\0');
    client.socket.write('ACK\n\n\0');
    await isHeld;
    client.socket.write('NACK\n\n\0');
    peer.socket.write('RECEIPT\n\n\0');
    await got(client, 'RECEIPT\n\n\0');
    assert.equal(peer.received, 'SEND\n\n\0');
    proxy.resume();
    await got(peer, 'SEND\n\n\0ACK\n\n\0NACK\n\n\0');
    assert.deepEqual(seen, ['SEND toServer', 'ACK toServer', 'RECEIPT toClient', 'NACK toServer']);
  });

  it('cuts after exactly so many bytes', async () => {
    const { client, peer } = await open();
    proxy.cutAfterBytes('toClient', 5);
    peer.socket.write('abc');
    await got(client, 'abc');
    peer.socket.write('defgh');
    await saw(client, 'close');
    assert.equal(client.received, 'abcde');
  });

  it('refuses, accepts again on its port and sends new connections elsewhere', async () => {
    await proxy.refuse();
    const refused = watch(connect({ host: proxy.host, port: proxy.port }));
    await saw(refused, 'ECONNREFUSED');
    await proxy.accept();
    proxy.retarget({ host: '127.0.0.1', port: await listen((socket) => socket.end('other')) });
    const client = watch(connect({ host: proxy.host, port: proxy.port }));
    await got(client, 'other');
  });
});
