/**
 * What others use to consume and to publish with confirmations, as each of these libraries shows it in its own
 * documentation. They are installed when they are asked for, into a folder of this run, and are no dependencies.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import type { Meter } from './meter.js';
import { makeBody, peers, type Peer, type Task } from './task.js';

const versions: Readonly<Record<Peer, string>> = {
  stompit: '1.0.0',
  '@stomp/stompjs': '7',
  amqplib: '0.10',
  '@cloudamqp/amqp-client': '3',
};

/** Resolves with the folder; whoever asked for it removes it. */
export async function installPeers(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'stomp-pubsub-peers-'));
  const packages = peers.map((name) => `${name}@${versions[name]}`);
  await promisify(execFile)('npm', ['install', '--prefix', folder, '--no-audit', '--no-fund', ...packages]);
  return folder;
}

interface Running {
  /** Sends one message; resolves, or calls back, when it is confirmed. */
  readonly send: (json: string) => Promise<void>;
  /** Hands each body to `take` and acks it. */
  readonly receive: (take: (json: string) => void) => unknown;
  readonly end: () => void;
}

/** Publishes as many at once as the window allows. */
export async function publishByPeer(peer: Peer, task: Task, meter: Meter): Promise<void> {
  const { send, end } = await openers[peer](task);
  const count = task.warmUp + task.messages;
  let sent = 0;
  const sendInTurn = async () => {
    while (sent < count) {
      await send(JSON.stringify(makeBody(sent++, task.bodyBytes)));
      meter.tick();
    }
  };
  await Promise.all(Array.from({ length: task.window }, sendInTurn));
  end();
}

export async function consumeByPeer(peer: Peer, task: Task, meter: Meter): Promise<void> {
  const { receive, end } = await openers[peer](task);
  await new Promise<void>((resolve) => {
    receive((json) => {
      JSON.parse(json);
      if (meter.tick()) resolve();
    });
  });
  end();
}

// The packages have no types here: what is used of them is described by hand.
/* eslint-disable @typescript-eslint/no-unsafe-assignment, @typescript-eslint/no-unsafe-call, @typescript-eslint/no-unsafe-member-access, @typescript-eslint/no-explicit-any, @typescript-eslint/no-unsafe-argument, @typescript-eslint/no-unsafe-return */

async function load(peer: Peer, task: Task): Promise<any> {
  const require = createRequire(join(task.peer?.folder ?? '', 'package.json'));
  return import(pathToFileURL(require.resolve(peer)).href);
}

function queueHeaders(queue: string): Record<string, string> {
  return { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': `DLQ.${queue}` };
}

function sendHeaders(queue: string): Record<string, string> {
  return {
    destination: `/queue/${queue}`,
    'content-type': 'application/json;charset=utf-8',
    persistent: 'true',
    ...queueHeaders(queue),
  };
}

function subscribeHeaders({ queue, window }: Task): Record<string, string> {
  return {
    ack: 'client-individual',
    'prefetch-count': String(window),
    'activemq.prefetchSize': String(window),
    ...queueHeaders(queue),
  };
}

const openers: Readonly<Record<Peer, (task: Task) => Promise<Running>>> = {
  stompit: async (task) => {
    const { host, port, user, password, vhost = '/' } = task.login;
    const { default: stompit } = await load('stompit', task);
    const connectHeaders = { host: vhost, login: user, passcode: password };
    const client: any = await promisify(stompit.connect)({ host, port, connectHeaders });
    return {
      send: (json) =>
        new Promise((resolve) => {
          const headers = { ...sendHeaders(task.queue), 'content-length': Buffer.byteLength(json) };
          client.send(headers, { onReceipt: resolve }).end(json);
        }),
      receive: (take) =>
        client.subscribe(
          { destination: `/queue/${task.queue}`, ...subscribeHeaders(task) },
          (_error: unknown, message: any) =>
            message.readString('utf-8', (_failed: unknown, text: string) => {
              client.ack(message);
              take(text);
            }),
        ),
      end: () => client.destroy(),
    };
  },
  '@stomp/stompjs': async (task) => {
    const { user, password, vhost = '/' } = task.login;
    const { Client } = await load('@stomp/stompjs', task);
    const client = new Client({
      webSocketFactory: () => new SocketAsWebSocket(task.login),
      connectHeaders: { host: vhost, login: user, passcode: password },
      heartbeatIncoming: 0,
      heartbeatOutgoing: 0,
      reconnectDelay: 0,
    });
    await new Promise((resolve) => {
      client.onConnect = resolve;
      client.activate();
    });
    let lastReceipt = 0;
    return {
      send: (json) =>
        new Promise((resolve) => {
          const receipt = String(++lastReceipt);
          client.watchForReceipt(receipt, () => resolve());
          const { destination, ...headers } = sendHeaders(task.queue);
          client.publish({ destination, headers: { ...headers, receipt }, body: json });
        }),
      receive: (take) =>
        client.subscribe(
          `/queue/${task.queue}`,
          (message: any) => {
            message.ack();
            take(message.body);
          },
          subscribeHeaders(task),
        ),
      end: () => void client.deactivate(),
    };
  },
  amqplib: async (task) => {
    const { default: amqplib } = await load('amqplib', task);
    const connection = await amqplib.connect(amqpUrl(task));
    const channel = await connection.createConfirmChannel();
    await channel.assertQueue(task.queue, { durable: true, arguments: queueHeaders(task.queue) });
    await channel.prefetch(task.window);
    return {
      send: (json) =>
        new Promise((resolve, reject) => {
          channel.sendToQueue(task.queue, Buffer.from(json), { persistent: true }, (error: Error | null) => {
            if (error === null) resolve();
            else reject(error);
          });
        }),
      receive: (take) =>
        channel.consume(task.queue, (message: any) => {
          channel.ack(message);
          take(message.content.toString());
        }),
      end: () => void connection.close(),
    };
  },
  '@cloudamqp/amqp-client': async (task) => {
    const { AMQPClient } = await load('@cloudamqp/amqp-client', task);
    const connection = await new AMQPClient(amqpUrl(task)).connect();
    const channel = await connection.channel();
    await channel.confirmSelect();
    await channel.queueDeclare(task.queue, { durable: true }, queueHeaders(task.queue));
    await channel.basicQos(task.window);
    return {
      send: (json) => channel.basicPublish('', task.queue, json, { deliveryMode: 2 }),
      receive: (take) =>
        channel.basicConsume(task.queue, { noAck: false }, (message: any) => {
          void message.ack();
          take(message.bodyString());
        }),
      end: () => void connection.close(),
    };
  },
};

function amqpUrl({ login: { host, user, password, vhost = '/' }, peer }: Task): string {
  return `amqp://${user}:${password}@${host}:${peer?.amqpPort ?? 5672}/${encodeURIComponent(vhost)}`;
}

/** stompjs speaks to what looks like a WebSocket, also where there is a plain connection. */
class SocketAsWebSocket {
  readonly #socket: Socket;
  binaryType = 'arraybuffer';
  readyState = 0;
  onopen: () => void = () => undefined;
  onmessage: (event: { data: ArrayBuffer }) => void = () => undefined;
  onclose: (event: object) => void = () => undefined;
  onerror: (event: object) => void = () => undefined;

  constructor({ host, port }: Task['login']) {
    this.#socket = connect({ host, port, noDelay: true }, () => {
      this.readyState = 1;
      this.onopen();
    });
    this.#socket.on('data', (chunk) => this.onmessage({ data: Uint8Array.from(chunk).buffer }));
    this.#socket.on('error', (error) => this.onerror(error));
    this.#socket.on('close', () => {
      this.readyState = 3;
      this.onclose({});
    });
  }

  send(data: string | Uint8Array): void {
    this.#socket.write(data);
  }

  close(): void {
    this.#socket.end();
  }
}
