/**
 * The yardstick: as fast a STOMP client as can be written simply on a Node socket, with none of the care of the product.
 * It sends the same frames: client-individual acknowledgement with one ACK for each message, and SENDs with the
 * product's headers and a receipt each. It knows the shape of these brokers' frames (LF alone, no repeated headers),
 * hands ids back as they came, escapes and all, and writes what one chunk of input led to at once.
 */
import { randomUUID } from 'node:crypto';
import { connect, type Socket } from 'node:net';

/** Where and as whom to connect. */
export interface Login {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly vhost?: string;
}

const LF = 10;
const EMPTY = Buffer.alloc(0);

export class RawClient {
  readonly #socket: Socket;
  readonly #receipts = new Map<string, () => void>();
  #onConnected: () => void = () => undefined;
  #onMessage: (body: unknown) => void = () => undefined;
  #rest: Buffer = EMPTY;
  #output = '';
  #lastReceipt = 0;
  /** Lines of headers that each message has beside the standard ones. */
  moreLines = '';

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk) => {
      this.#read(chunk);
      this.flush();
    });
  }

  /** Resolves at CONNECTED. */
  static open({ host, port, user, password, vhost = '/' }: Login): Promise<RawClient> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port, noDelay: true }).once('error', reject);
      const client = new RawClient(socket);
      client.#onConnected = () => resolve(client);
      client.#output = `CONNECT\naccept-version:1.2\nhost:${vhost}\nlogin:${user}\npasscode:${password}\n\n\0`;
      client.flush();
    });
  }

  /** Subscribes to a queue; each message is acknowledged after `onMessage` has had its parsed body. */
  subscribe(queue: string, prefetch: number, onMessage: (body: unknown) => void): void {
    this.#onMessage = onMessage;
    this.#output +=
      `SUBSCRIBE\nid:bench\ndestination:/queue/${queue}\nack:client-individual\nprefetch-count:${prefetch}\n` +
      `activemq.prefetchSize:${prefetch}\nx-dead-letter-exchange:\nx-dead-letter-routing-key:DLQ.${queue}\n\n\0`;
    this.flush();
  }

  /** Puts a persistent message into the output; `onConfirmed`, if any, is called at its receipt. */
  send(queue: string, body: unknown, onConfirmed: (() => void) | undefined, transaction?: string): void {
    const json = JSON.stringify(body);
    const receipt = onConfirmed === undefined ? '' : `receipt:${this.#expect(onConfirmed)}\n`;
    this.#output +=
      `SEND\ndestination:/queue/${queue}\ncontent-type:application/json;charset=utf-8\n` +
      `content-length:${Buffer.byteLength(json)}\ncorrelation-id:${randomUUID()}\n` +
      `tshoot-destination:/queue/${queue}\nx-dead-letter-exchange:\nx-dead-letter-routing-key:DLQ.${queue}\n` +
      `persistent:true\n${this.moreLines}${receipt}${transaction === undefined ? '' : `transaction:${transaction}\n`}\n${json}\0`;
  }

  /** Puts BEGIN or COMMIT into the output; `onConfirmed` is called at its receipt. */
  transaction(command: 'BEGIN' | 'COMMIT', id: string, onConfirmed: () => void): void {
    this.#output += `${command}\ntransaction:${id}\nreceipt:${this.#expect(onConfirmed)}\n\n\0`;
  }

  /** Writes the output. What is put there while input is handled needs no call. */
  flush(): void {
    if (this.#output === '') return;
    this.#socket.write(this.#output);
    this.#output = '';
  }

  /** Resolves when the broker has confirmed the DISCONNECT, and with it every ACK before. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#receipts.set('bye', () => {
        this.#socket.destroy();
        resolve();
      });
      this.#output += 'DISCONNECT\nreceipt:bye\n\n\0';
      this.flush();
    });
  }

  /** The id of a receipt to ask for. */
  #expect(onReceipt: () => void): string {
    const receipt = String(++this.#lastReceipt);
    this.#receipts.set(receipt, onReceipt);
    return receipt;
  }

  #read(chunk: Buffer): void {
    const input = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let start = 0;
    for (;;) {
      while (input[start] === LF) start++;
      const headEnd = input.indexOf('\n\n', start);
      if (headEnd === -1) break;
      const head = input.toString('latin1', start, headEnd + 1);
      const length = headerOf(head, '\ncontent-length:');
      const bodyStart = headEnd + 2;
      const bodyEnd = length === undefined ? input.indexOf(0, bodyStart) : bodyStart + Number(length);
      if (bodyEnd === -1 || bodyEnd >= input.length) break;
      this.#handle(head, input, bodyStart, bodyEnd);
      start = bodyEnd + 1;
    }
    this.#rest = start === input.length ? EMPTY : input.subarray(start);
  }

  #handle(head: string, input: Buffer, bodyStart: number, bodyEnd: number): void {
    if (head.startsWith('MESSAGE')) {
      this.#onMessage(JSON.parse(input.toString('utf8', bodyStart, bodyEnd)));
      this.#output += `ACK\nid:${headerOf(head, '\nack:') ?? ''}\n\n\0`;
    } else if (head.startsWith('RECEIPT')) {
      const id = headerOf(head, '\nreceipt-id:') ?? '';
      const onReceipt = this.#receipts.get(id);
      this.#receipts.delete(id);
      onReceipt?.();
    } else if (head.startsWith('CONNECTED')) {
      this.#onConnected();
    } else {
      throw new Error(`the broker sent ${head}${input.toString('utf8', bodyStart, bodyEnd)}`);
    }
  }
}

/** `name` with the line feed before it and the colon after it. */
function headerOf(head: string, name: string): string | undefined {
  const at = head.indexOf(name);
  if (at === -1) return undefined;
  return head.slice(at + name.length, head.indexOf('\n', at + name.length));
}

/** Publishes `count` messages, never more than `window` of them unconfirmed; resolves when all are confirmed. */
export function publishAll(
  client: RawClient,
  queue: string,
  { count, window }: { readonly count: number; readonly window: number },
  makeBody: (index: number) => unknown,
  onConfirmed: () => void = () => undefined,
): Promise<void> {
  return new Promise((resolve) => {
    let sent = 0;
    let confirmed = 0;
    const sendNext = () => client.send(queue, makeBody(sent++), onReceipt);
    const onReceipt = () => {
      onConfirmed();
      if (++confirmed === count) resolve();
      else if (sent < count) sendNext();
    };
    while (sent < Math.min(window, count)) sendNext();
    client.flush();
  });
}

/** Publishes `count` messages in one transaction; resolves when COMMIT is confirmed and all of them that are to be. */
export function publishInTransaction(
  client: RawClient,
  queue: string,
  { count, isConfirmed }: { readonly count: number; readonly isConfirmed: boolean },
  makeBody: (index: number) => unknown,
): Promise<void> {
  return new Promise((resolve) => {
    let left = isConfirmed ? count + 2 : 2;
    const onReceipt = () => {
      if (--left === 0) resolve();
    };
    client.transaction('BEGIN', 'raw', onReceipt);
    for (let sent = 0; sent < count; sent++) {
      client.send(queue, makeBody(sent), isConfirmed ? onReceipt : undefined, 'raw');
      if (sent % 100 === 0) client.flush();
    }
    client.transaction('COMMIT', 'raw', onReceipt);
    client.flush();
  });
}

/** Takes `count` messages off a queue; resolves when the last has been handed to `onMessage`. */
export function consumeAll(
  client: RawClient,
  queue: string,
  { count, prefetch }: { readonly count: number; readonly prefetch: number },
  onMessage: () => void = () => undefined,
): Promise<void> {
  return new Promise((resolve) => {
    let received = 0;
    client.subscribe(queue, prefetch, () => {
      onMessage();
      if (++received === count) resolve();
    });
  });
}
