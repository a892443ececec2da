/**
 * A server for measurements on a noisy machine, in a process of its own: it floods whoever subscribes and confirms what is
 * sent at once, so that nothing but the client has work to do. A queue holds its last message, without end: each ACK
 * brings it again, with headers as RabbitMQ 3.10 sends them. It listens on 127.0.0.1 and prints its port.
 *
 * The other half of this file starts it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import type { Target } from './throughput.js';

interface Message {
  /** The lines that its sender gave it. */
  readonly lines: string;
  readonly body: Buffer;
}

/** As the last one sent to it. */
const queues = new Map<string, Message>();
/** From here on a body is written by itself. */
const LARGE_BYTES = 4096;

class Connection {
  readonly #socket: Socket;
  /** Of a frame that is not complete. */
  #chunks: Buffer[] = [];
  #received = 0;
  #needed = 0;
  #output = '';
  #subscription: { readonly id: string; readonly queue: string } | undefined;
  #delivered = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  serve(): void {
    this.#socket.setNoDelay(true).on('error', () => undefined);
    this.#socket.on('data', (chunk) => {
      this.#read(chunk);
      this.#flush();
    });
  }

  #read(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#received += chunk.length;
    if (this.#received < this.#needed) return;
    const input = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks);
    this.#needed = 0;
    let start = 0;
    for (;;) {
      while (input[start] === 10) start++;
      const headEnd = input.indexOf('\n\n', start);
      if (headEnd === -1) break;
      const head = input.toString('latin1', start, headEnd + 1);
      const length = valueOf(head, 'content-length');
      const bodyEnd = length === undefined ? input.indexOf(0, headEnd) : headEnd + 2 + Number(length);
      if (bodyEnd >= input.length) this.#needed = bodyEnd - start;
      if (bodyEnd === -1 || bodyEnd >= input.length) break;
      this.#handle(head, input.subarray(headEnd + 2, bodyEnd));
      start = bodyEnd + 1;
    }
    const rest = input.subarray(start);
    this.#received = rest.length;
    this.#chunks = rest.length === 0 ? [] : [rest];
  }

  #handle(head: string, body: Buffer): void {
    const command = head.slice(0, head.indexOf('\n'));
    if (command === 'CONNECT')
      this.#output += 'CONNECTED\nversion:1.2\nheart-beat:0,0\nserver:RabbitMQ/3.10.8\n\n\0';
    if (command === 'SEND') keep(head, body);
    if (command === 'ACK') this.#deliver(1);
    const receipt = valueOf(head, 'receipt');
    if (receipt !== undefined) this.#output += `RECEIPT\nreceipt-id:${receipt}\n\n\0`;
    if (command !== 'SUBSCRIBE') return;
    const queue = valueOf(head, 'destination') ?? '';
    // What is subscribed to beside the queue that floods, such as one to declare, stays silent.
    if (!queues.has(queue)) return;
    this.#subscription = { id: valueOf(head, 'id') ?? '', queue };
    this.#deliver(Number(valueOf(head, 'prefetch-count') ?? 1));
  }

  #deliver(count: number): void {
    const message = queues.get(this.#subscription?.queue ?? '');
    if (message === undefined || this.#subscription === undefined) return;
    const { id, queue } = this.#subscription;
    for (let left = count; left > 0; left--) {
      const number = ++this.#delivered;
      this.#output +=
        `MESSAGE\nsubscription:${id}\ndestination:${queue}\nmessage-id:T_${id}@@session-cAbCdEfGhIjKlMnOpQrStU@@${number}\n` +
        `redelivered:false\nack:T_${id}@@session-cAbCdEfGhIjKlMnOpQrStU@@${number}\n${message.lines}` +
        `content-length:${message.body.length}\n\n`;
      if (message.body.length < LARGE_BYTES) this.#output += message.body.toString('latin1');
      else {
        this.#flush();
        this.#socket.write(message.body);
      }
      this.#output += '\0';
    }
  }

  #flush(): void {
    if (this.#output !== '') this.#socket.write(this.#output, 'latin1');
    this.#output = '';
  }
}

function keep(head: string, body: Buffer): void {
  const lines = head
    .split('\n')
    .slice(1, -1)
    .filter((line) => !/^(?:destination|receipt|content-length):/.test(line));
  queues.set(valueOf(head, 'destination') ?? '', {
    lines: lines.map((line) => `${line}\n`).join(''),
    body: Buffer.from(body),
  });
}

function valueOf(head: string, name: string): string | undefined {
  const at = head.indexOf(`\n${name}:`);
  return at === -1 ? undefined : head.slice(at + name.length + 2, head.indexOf('\n', at + 1));
}

export interface FloodingServer extends Target {
  readonly name: string;
  readonly version: string;
  stop(): Promise<void>;
}

/** Resolves when it listens. */
export async function startFloodingServer(): Promise<FloodingServer> {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), 'serve'], {
    env: {},
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [port] = (await once(child.stdout, 'data')) as [Buffer];
  return {
    ...{ name: 'script', version: 'of this checkout', host: '127.0.0.1', port: Number(String(port)) },
    ...{ user: 'bench', password: 'bench', isEndless: true },
    stop: async () => {
      child.kill();
      await once(child, 'exit');
    },
  };
}

if (process.argv[2] === 'serve') {
  const server = createServer((socket) => new Connection(socket).serve()).listen(0, '127.0.0.1', () =>
    console.log((server.address() as AddressInfo).port),
  );
}
