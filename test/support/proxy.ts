/**
 * A TCP proxy that fails on demand, for fault tests: real sockets on both sides. Hides that a cut must reach both ends,
 * that a stalled connection must not pass on even its end, and that back-pressure is passed through. Each connection
 * is a pair of sockets; a direction of it is flowing or stalled.
 */
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { type Frame, FrameDecoder } from '../../src/stomp/frames.js';
import { Deferral } from './deferral.js';
import type { Address } from './raw-client.js';
import { freePorts } from './server-process.js';
import { until } from './until.js';

export type Direction = 'toServer' | 'toClient';

const DEADLINE_MS = 30_000;

/** A frame that is waited for. */
interface Watch {
  readonly direction: Direction;
  readonly isMatch: (frame: Frame) => boolean;
  readonly isHeld: boolean;
  readonly seen: () => void;
}

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
  readonly deferral: Deferral | undefined;
}

export interface ProxyOptions {
  /**
   * The server sees nothing of a transaction before its COMMIT, and nothing of one that is aborted. Only for connections
   * that speak STOMP; what is waited for, counted and cut toServer is what goes to the server.
   */
  readonly defersTransactions?: boolean;
}

export class Proxy implements AsyncDisposable {
  readonly host = '127.0.0.1';
  readonly port: number;
  /** How many have been accepted so far. */
  connections = 0;
  #listener: Server;
  #target: Address;
  readonly #options: ProxyOptions;
  readonly #pairs = new Set<Pair>();
  readonly #stalled = new Set<Direction>();
  /** What passes on the ends of connections that are held back, by direction. */
  readonly #heldEnds: Record<Direction, (() => void)[]> = { toServer: [], toClient: [] };
  readonly #budgets = new Map<Direction, { left: number; readonly then: () => void }>();
  readonly #onConnection: ((count: number) => void)[] = [];
  readonly #onFrame: ((direction: Direction, frame: Frame) => void)[] = [];
  #watch: Watch | undefined;

  /** Of a listening server; tests call startProxy. */
  constructor(listener: Server, target: Address, options: ProxyOptions) {
    this.#options = options;
    this.#listener = listener;
    this.#target = target;
    this.port = (listener.address() as AddressInfo).port;
    listener.on('connection', this.#accept);
  }

  /** How many are open now. */
  get open(): number {
    return this.#pairs.size;
  }

  /** Ends every connection with a reset on both sides; new ones are accepted. */
  cut(): void {
    for (const { client, server } of this.#pairs) {
      reset(client);
      reset(server);
    }
  }

  /** Ends every connection with a FIN on both sides, after what is on its way. */
  end(): void {
    for (const { client, server } of this.#pairs) {
      client.end();
      server.end();
    }
  }

  /** Forwards nothing in that direction (both when left out), now and on new connections; sockets stay open. */
  stall(direction?: Direction): void {
    for (const each of directions(direction)) {
      this.#stalled.add(each);
      for (const pair of this.#pairs) sourceOf(pair, each).pause();
    }
  }

  /** Forwards again, beginning with what was held back. */
  resume(direction?: Direction): void {
    for (const each of directions(direction)) {
      this.#stalled.delete(each);
      for (const pair of this.#pairs) sourceOf(pair, each).resume();
      // Behind what was held back, which a turn of `resume` lets go.
      for (const passOn of this.#heldEnds[each].splice(0)) setImmediate(passOn);
    }
    for (const pair of this.#pairs) this.#answer(pair);
  }

  /** Forwards `bytes` more in that direction, of all connections together, and then cuts. */
  cutAfterBytes(direction: Direction, bytes: number): void {
    this.afterBytes(direction, bytes, () => this.cut());
  }

  /** Forwards `bytes` more in that direction, of all connections together, holds back the rest and calls `then`. */
  afterBytes(direction: Direction, bytes: number, then: () => void): void {
    this.#budgets.set(direction, { left: bytes, then });
  }

  /**
   * Resolves when a matching frame goes that way, on any connection. Held: neither it nor anything after it arrives before
   * `resume`. Else it has been passed on.
   */
  frame(
    direction: Direction,
    isMatch: (frame: Frame) => boolean,
    { isHeld }: { isHeld: boolean },
  ): Promise<void> {
    return new Promise((resolve) => (this.#watch = { direction, isMatch, isHeld, seen: resolve }));
  }

  /** Sends bytes of the test's own that way on every connection: between frames, if nothing else flows. */
  inject(direction: Direction, bytes: string): void {
    for (const pair of this.#pairs) sinkOf(pair, direction).write(bytes);
  }

  /** Refuses new connections (ECONNREFUSED); open ones go on. Resolves when the port is closed. */
  async refuse(): Promise<void> {
    const listener = this.#listener;
    if (!listener.listening) return;
    // The callback of close waits for the open connections too; the port itself is closed at once.
    listener.close();
    await until(() => !listener.listening, DEADLINE_MS, 'the proxy closes its port');
  }

  /** Accepts again, on the same port. */
  async accept(): Promise<void> {
    if (this.#listener.listening) return;
    this.#listener = await listen(this.port);
    this.#listener.on('connection', this.#accept);
  }

  /** New connections go there; open ones stay where they are. */
  retarget(target: Address): void {
    this.#target = target;
  }

  /** `listener` gets the count with each connection accepted from now on. */
  onConnection(listener: (count: number) => void): void {
    this.#onConnection.push(listener);
  }

  /** `listener` gets each frame that comes here, before it is passed on; set it before the first connection. */
  onFrame(listener: (direction: Direction, frame: Frame) => void): void {
    this.#onFrame.push(listener);
  }

  /** Resolves when `count` connections have been accepted since the start; one more than now when left out. */
  async waitForConnection(count = this.connections + 1, deadlineMs = DEADLINE_MS): Promise<void> {
    await until(
      () => this.connections >= count,
      deadlineMs,
      () => `connection ${count} through the proxy; so far ${this.connections}`,
    );
  }

  /** Cuts and refuses, for good. */
  async close(): Promise<void> {
    this.cut();
    await this.refuse();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  readonly #accept = (client: Socket): void => {
    const server = connect({ ...this.#target, noDelay: true, allowHalfOpen: true });
    const deferral = this.#options.defersTransactions === true ? new Deferral() : undefined;
    const pair = { client, server, deferral };
    client.setNoDelay(true);
    this.#pairs.add(pair);
    this.connections++;
    this.#forward(pair, 'toServer');
    this.#forward(pair, 'toClient');
    for (const socket of [client, server]) {
      // What happened is told to the other side by 'close' below.
      socket.on('error', () => undefined);
    }
    for (const listener of this.#onConnection) listener(this.connections);
  };

  /** Of one direction of one connection: tells by its chunks, one after the other, whether one has what is waited for. */
  #watcher(direction: Direction): (chunk: Buffer) => Watch | undefined {
    let found: Watch | undefined;
    const limits = { strict: false, headerBytes: Infinity, bodyBytes: Infinity };
    const decoder = new FrameDecoder(limits, (frame) => {
      for (const listener of this.#onFrame) listener(direction, frame);
      if (this.#watch?.direction === direction && this.#watch.isMatch(frame)) {
        found = this.#watch;
        this.#watch = undefined;
      }
    });
    return (chunk) => {
      found = undefined;
      // Only then: others than STOMP's connections go through here too.
      const isOfUse = this.#watch !== undefined || this.#onFrame.length > 0;
      if (isOfUse || decoder.isMidFrame) decoder.push(chunk);
      return found;
    };
  }

  /** Sends the receipts that are due from here. */
  #answer({ client, deferral }: Pair): void {
    if (deferral === undefined || this.#stalled.has('toClient')) return;
    const receipts = deferral.takeReceipts();
    if (receipts.length > 0) client.write(receipts);
  }

  #forward(pair: Pair, direction: Direction): void {
    const from = sourceOf(pair, direction);
    const to = sinkOf(pair, direction);
    const isWatched = this.#watcher(direction);
    from.on('data', (received) => {
      const chunk = pair.deferral?.[direction](received) ?? received;
      this.#answer(pair);
      if (chunk.length === 0) return;
      const watch = isWatched(chunk);
      if (watch?.isHeld === true) {
        this.stall(direction);
        // Told before the next chunk.
        from.once('resume', () => to.write(chunk));
        watch.seen();
        return;
      }
      if (watch !== undefined) {
        to.write(chunk, watch.seen);
        return;
      }
      const budget = this.#budgets.get(direction);
      if (budget !== undefined && chunk.length >= budget.left) {
        this.#budgets.delete(direction);
        from.pause();
        to.write(chunk.subarray(0, budget.left), budget.then);
        return;
      }
      if (budget !== undefined) budget.left -= chunk.length;
      if (!to.write(chunk)) from.pause();
    });
    to.on('drain', () => {
      if (!this.#stalled.has(direction)) from.resume();
    });
    // A socket tells its end even if it is paused.
    const passOn = (end: () => void) => {
      if (this.#stalled.has(direction)) this.#heldEnds[direction].push(end);
      else end();
    };
    from.on('end', () => passOn(() => to.end()));
    from.on('close', () => {
      if (to.destroyed) this.#pairs.delete(pair);
      else passOn(() => (from.errored ? reset(to) : to.end()));
    });
    if (this.#stalled.has(direction)) from.pause();
  }
}

/** A proxy on a port of 127.0.0.1 that nobody else gets while it refuses; connections go to `target`. */
export async function startProxy(target: Address, options: ProxyOptions = {}): Promise<Proxy> {
  const [port] = (await freePorts(1)) as [number];
  return new Proxy(await listen(port), target, options);
}

function listen(port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer({ allowHalfOpen: true });
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}

const directions = (only: Direction | undefined): readonly Direction[] =>
  only === undefined ? ['toServer', 'toClient'] : [only];
const sourceOf = (pair: Pair, direction: Direction) => (direction === 'toServer' ? pair.client : pair.server);
const sinkOf = (pair: Pair, direction: Direction) => (direction === 'toServer' ? pair.server : pair.client);

/**
 * RST, or a plain close for a socket that has been told to end: resetting that leaves its handle open on Node 20.20, and
 * the process never ends.
 */
function reset(socket: Socket): void {
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}
