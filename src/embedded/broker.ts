/**
 * The embedded broker: an in-memory STOMP broker inside this process, for development and tests. It keeps nothing on
 * disk and speaks as RabbitMQ 3.10.8 does where brokers differ. This file owns the listener; everything a user of the
 * broker can ask of it is here.
 */
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { PubsubError } from '../errors.js';
import type { Headers } from '../stomp/frames.js';
import { version } from '../version.js';
import type { Behaviour } from './behaviour.js';
import { Channel } from './channel.js';
import { type Clock, systemClock } from './clock.js';
import { obey } from './commands.js';
import { Connection, type ConnectionEvent, type ConnectionSurroundings } from './connection.js';
import { parseDestination } from './destinations.js';
import { type BrokerLimits, defaultLimits } from './limits.js';
import { readMessage } from './message.js';
import type { Queue } from './queue.js';
import { type Counters, type MessageEvent, Queues } from './queues.js';
import { Refusal } from './refusal.js';
import type { QueueArguments } from './arguments.js';

export type { Behaviour } from './behaviour.js';
export type { BrokerLimits } from './limits.js';
export type { Clock } from './clock.js';
export type { Counters } from './queues.js';

/** `client` is the peer's address and port. */
export type BrokerEvent = ConnectionEvent | MessageEvent;

export interface EmbeddedBrokerOptions extends Behaviour {
  /** 127.0.0.1 when absent. Any address that is not loopback needs user and password. */
  readonly host?: string;
  /** A free one when absent or 0. */
  readonly port?: number;
  /** Both or none: without them every login is good. */
  readonly user?: string;
  readonly password?: string;
  readonly limits?: Partial<BrokerLimits>;
  /** Called synchronously; must not throw. */
  readonly onEvent?: (event: BrokerEvent) => void;
  readonly clock?: Clock;
}

export interface QueueState {
  readonly name: string;
  /** All messages in it: waiting and unsettled. */
  readonly depth: number;
  /** Delivered and not yet settled. */
  readonly unsettled: number;
  readonly consumers: number;
  readonly bytes: number;
  readonly arguments: QueueArguments;
  readonly isDurable: boolean;
  readonly isExclusive: boolean;
  readonly isAutoDelete: boolean;
}

export interface StoredMessage {
  readonly headers: Headers;
  readonly body: Buffer;
}

/** Resolves when it listens. Rejects with the listener's error (EADDRINUSE …) or `invalid-usage`. */
export async function startEmbeddedBroker(options: EmbeddedBrokerOptions = {}): Promise<EmbeddedBroker> {
  const { host = '127.0.0.1', port = 0, user, password } = options;
  if ((user === undefined) !== (password === undefined))
    throw new PubsubError('invalid-usage', 'the embedded broker takes a user and a password, or neither');
  if (user === undefined && !isLoopback(host)) {
    throw new PubsubError(
      'invalid-usage',
      `an embedded broker on ${host} can be reached by others: give it --user and --password, or use 127.0.0.1`,
    );
  }
  const server = createServer({ allowHalfOpen: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port }, () => {
      server.off('error', reject);
      resolve();
    });
  });
  return new EmbeddedBroker(server, host, options);
}

/** For clients to close their side when the broker does. */
const CLOSE_MS = 500;

export class EmbeddedBroker {
  readonly host: string;
  readonly port: number;
  #server: Server;
  #queues: Queues;
  #surroundings: ConnectionSurroundings;
  #connections = new Set<Connection>();
  /** Those that have not logged in, the one that has waited longest first. */
  #strangers = new Set<Connection>();

  /** Of a server that listens; users call startEmbeddedBroker. */
  constructor(server: Server, host: string, options: EmbeddedBrokerOptions) {
    const { user, password, limits, onEvent, clock = systemClock } = options;
    const report = (event: BrokerEvent): void => onEvent?.(event);
    this.host = host;
    this.port = (server.address() as AddressInfo).port;
    this.#server = server;
    this.#queues = new Queues({ ...defaultLimits, ...limits }, clock, report, options);
    this.#surroundings = {
      queues: this.#queues,
      server: `stomp-pubsub-embedded/${version}`,
      credentials: user === undefined || password === undefined ? undefined : { user, password },
      report,
      loggedIn: (connection) => this.#strangers.delete(connection),
      closed: (connection) => {
        this.#connections.delete(connection);
        this.#strangers.delete(connection);
      },
    };
    server.on('connection', (socket) => this.#accept(socket));
  }

  get counters(): Readonly<Counters> {
    return { ...this.#queues.counters };
  }

  /** Open sockets, logged in or not. */
  get connections(): number {
    return this.#connections.size;
  }

  /** Messages in a queue, unsettled ones included; 0 when there is no such queue. */
  depth(destination: string): number {
    const queue = this.#find(destination);
    return queue === undefined ? 0 : queue.waiting + queue.unsettled;
  }

  /** The messages that wait in a queue, the next one first; those delivered and unsettled are not among them. */
  messages(destination: string): StoredMessage[] {
    return this.#find(destination)?.messages().map(readMessage) ?? [];
  }

  queues(): QueueState[] {
    return this.#queues.all().map((queue) => ({
      name: queue.name,
      depth: queue.waiting + queue.unsettled,
      unsettled: queue.unsettled,
      consumers: queue.consumers,
      bytes: queue.bytes,
      arguments: queue.declaration.arguments,
      isDurable: queue.declaration.isDurable,
      isExclusive: queue.declaration.isExclusive,
      isAutoDelete: queue.declaration.isAutoDelete,
    }));
  }

  /** Does what a SEND with these headers does. Throws `broker-refused` with the text of the ERROR. */
  publish(destination: string, body: string | Uint8Array, headers: Readonly<Headers> = {}): void {
    const refusals: Refusal[] = [];
    const nothing = (): void => undefined;
    const output = { isWritable: false, deliver: nothing, cancelled: nothing };
    const client = {
      version: '1.2',
      session: '',
      user: headers['user-id'] ?? '',
      queues: this.#queues,
      channel: new Channel(this.#queues, output),
      receipt: nothing,
      error: (refusal: Refusal) => refusals.push(refusal),
      end: nothing,
      subscribed: nothing,
    };
    obey(client, { command: 'SEND', headers: { ...headers, destination }, body: Buffer.from(body) });
    client.channel.close();
    const [refusal] = refusals;
    if (refusal !== undefined) throw new PubsubError('broker-refused', refusal.message.trimEnd());
  }

  /** Resets every connection, as a network that breaks; their unsettled messages go back. */
  dropConnections(): void {
    for (const connection of this.#connections) connection.reset();
  }

  /** Ends every connection and the listener; resolves when all are closed. Messages are gone. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => {
        // Node tells the server of a closed socket before the socket's own listeners.
        this.dropConnections();
        resolve();
      });
      for (const connection of this.#connections) connection.end();
      systemClock.after(CLOSE_MS, () => this.dropConnections());
    });
  }

  #accept(socket: Socket): void {
    const connection = new Connection(socket, this.#surroundings);
    this.#connections.add(connection);
    this.#strangers.add(connection);
    const { connections, connectionsBeforeLogin } = this.#queues.limits;
    const [oldest] = this.#strangers;
    if (this.#strangers.size > connectionsBeforeLogin) oldest?.giveWay();
    if (this.#connections.size > connections) {
      const detail = `no more than ${connections} connections to this embedded broker`;
      connection.refuse(new Refusal('Too many connections', detail, true));
    }
  }

  #find(destination: string): Queue | undefined {
    return this.#queues.get(queueName(destination));
  }
}

function queueName(destination: string): string {
  const parsed = parseDestination(destination);
  if (parsed.kind === 'queue') return parsed.name;
  throw new PubsubError(
    'invalid-destination',
    `"${destination}" is no queue: a ${parsed.kind} holds no messages`,
  );
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(?:\.\d{1,3}){3}$/.test(host);
}
