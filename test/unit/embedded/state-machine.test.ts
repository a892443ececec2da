import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Channel } from '../../../src/embedded/channel.js';
import type { Client } from '../../../src/embedded/client.js';
import { obey } from '../../../src/embedded/commands.js';
import { defaultLimits } from '../../../src/embedded/limits.js';
import type { Message } from '../../../src/embedded/message.js';
import { Queues } from '../../../src/embedded/queues.js';
import type { Headers } from '../../../src/stomp/frames.js';
import { TestClock } from './support.js';

/**
 * Random sequences of what clients do against a model that knows only what must be true of any broker: which message
 * is where, who holds it, and whether it was delivered before. The model never looks into the broker.
 */
const QUEUES = ['a', 'b'];
const CLIENTS = 3;

interface Held {
  readonly body: string;
  readonly queue: string;
  readonly tag: number;
}
class World {
  readonly queues = new Queues(defaultLimits, new TestClock(), () => undefined);
  /** Where each message must be: its queue, or gone. */
  readonly places = new Map<string, string>();
  readonly delivered = new Set<string>();
  /** When each message came into its queue, and of each queue the last one delivered for the first time. */
  readonly #entered = new Map<string, number>();
  readonly #youngest = new Map<string, number>();
  #sent = 0;
  #connections = 0;
  #entries = 0;
  readonly clients = Array.from({ length: CLIENTS }, (_, at) => new Actor(this, at));

  nextBody(): string {
    return String(this.#sent++);
  }
  enter(body: string, queue: string): void {
    this.places.set(body, queue);
    this.#entered.set(body, this.#entries++);
    this.delivered.delete(body);
  }

  nextSession(): string {
    return `session-${this.#connections++}`;
  }

  arrived(actor: Actor, held: Held, isRedelivered: boolean, isAuto: boolean): void {
    const { body, queue } = held;
    assert.equal(this.places.get(body), queue, `${body} is delivered from where it is`);
    const holder = this.clients.find((client) => client.held.some((other) => other.body === body));
    assert.equal(holder, undefined, `${body} is held by one consumer at most`);
    assert.equal(isRedelivered, this.delivered.has(body), `redelivered of ${body} is true`);
    if (!isRedelivered) {
      const entered = this.#entered.get(body) ?? -1;
      const last = this.#youngest.get(queue) ?? -1;
      assert.ok(entered > last, `${body} is delivered in its turn`);
      this.#youngest.set(queue, entered);
    }
    this.delivered.add(body);
    if (isAuto) this.places.delete(body);
    else actor.held.push(held);
  }

  /** Everything is waiting where the model says, or held; and nothing else is there. */
  check(): void {
    for (const name of [...QUEUES, 'dlq']) {
      const should = [...this.places].filter(([, queue]) => queue === name).map(([body]) => body);
      const queue = this.queues.get(name);
      const held = this.clients.flatMap((client) => client.held).filter((one) => one.queue === name);
      const waiting = queue?.messages().map(({ body }) => String(body)) ?? [];
      const order = waiting.map((body) => this.#entered.get(body) ?? -1);
      assert.deepEqual(
        order,
        order.toSorted((a, b) => a - b),
        `the order of ${name}`,
      );
      const is = [...waiting, ...held.map(({ body }) => body)];
      assert.deepEqual(is.sort(byNumber), should.sort(byNumber), `the messages of ${name}`);
      assert.equal(queue?.unsettled ?? 0, held.length);
    }
  }
}

const byNumber = (a: string, b: string): number => Number(a) - Number(b);

class Actor {
  held: Held[] = [];
  readonly #world: World;
  readonly #index: number;
  #client: Client;
  #output = { isWritable: true };
  #transaction: (() => void)[] | undefined;
  #subscriptions = new Map<string, string>();
  errors: string[] = [];

  constructor(world: World, index: number) {
    this.#world = world;
    this.#index = index;
    this.#client = this.#connect();
  }

  #connect(): Client {
    const world = this.#world;
    const session = this.#world.nextSession();
    this.#output = { isWritable: true };
    const output = Object.assign(this.#output, {
      deliver: (
        subscription: { options: { ackMode: string; tag: string }; queue: { name: string } },
        tag: number,
        message: Message,
      ) => {
        const held = { body: String(message.body), queue: subscription.queue.name, tag };
        world.arrived(this, held, message.redelivered, subscription.options.ackMode === 'auto');
      },
      cancelled: () => undefined,
    });
    return {
      version: '1.2',
      session,
      user: 'guest',
      queues: world.queues,
      channel: new Channel(world.queues, output),
      receipt: () => undefined,
      error: ({ message }) => this.errors.push(message),
      end: () => undefined,
      subscribed: () => undefined,
    };
  }

  #obey(command: string, headers: Headers, body = ''): void {
    obey(this.#client, { command, headers, body: Buffer.from(body) });
    assert.deepEqual(this.errors, [], `${command} of client ${this.#index}`);
  }

  send(queue: string, isInTransaction: boolean): void {
    const world = this.#world;
    const body = world.nextBody();
    const headers: Headers = { destination: `/queue/${queue}`, ...argumentsOf(queue) };
    const apply = (): void => world.enter(body, queue);
    if (isInTransaction && this.#transaction !== undefined) {
      this.#transaction.push(apply);
      this.#obey('SEND', { ...headers, transaction: 't' }, body);
      return;
    }
    apply();
    this.#obey('SEND', headers, body);
  }

  subscribe(queue: string, prefetch: number, ack: string): void {
    const id = `${queue}-${ack}`;
    if (this.#subscriptions.has(id) || this.#transaction !== undefined) return;
    this.#subscriptions.set(id, queue);
    this.#obey('SUBSCRIBE', {
      destination: `/queue/${queue}`,
      id,
      ack,
      'prefetch-count': String(prefetch),
      ...argumentsOf(queue),
    });
  }

  settle(pick: number, how: 'ack' | 'reject' | 'requeue', isInTransaction: boolean): void {
    if (this.held.length === 0) return;
    const held = this.held[pick % this.held.length]!;
    const tag = `${held.queue}-client-individual`;
    if (!this.#subscriptions.has(tag)) return;
    const headers: Headers = {
      id: `T_${tag}@@${this.#client.session}@@${held.tag}`,
      requeue: String(how === 'requeue'),
    };
    const command = how === 'ack' ? 'ACK' : 'NACK';
    const apply = (): void => {
      this.held = this.held.filter((other) => other !== held);
      if (how === 'ack') this.#world.places.delete(held.body);
      if (how === 'reject') {
        if (held.queue === 'dlq') this.#world.places.delete(held.body);
        else this.#world.enter(held.body, 'dlq');
      }
    };
    if (isInTransaction && this.#transaction !== undefined) {
      if (this.#settledInTransaction.has(held.tag)) return;
      this.#settledInTransaction.add(held.tag);
      this.#transaction.push(apply);
      this.#obey(command, { ...headers, transaction: 't' });
      return;
    }
    if (this.#settledInTransaction.has(held.tag)) return;
    apply();
    this.#obey(command, headers);
  }
  #settledInTransaction = new Set<number>();

  begin(): void {
    if (this.#transaction !== undefined) return;
    this.#transaction = [];
    this.#obey('BEGIN', { transaction: 't' });
  }

  end(how: 'COMMIT' | 'ABORT'): void {
    if (this.#transaction === undefined) return;
    if (how === 'COMMIT') for (const apply of this.#transaction) apply();
    this.#transaction = undefined;
    this.#settledInTransaction.clear();
    this.#obey(how, { transaction: 't' });
  }

  drop(): void {
    this.held = [];
    this.#transaction = undefined;
    this.#settledInTransaction.clear();
    this.#subscriptions.clear();
    this.#output.isWritable = false;
    this.#client.channel.close();
    this.#client = this.#connect();
  }
}

function argumentsOf(queue: string): Headers {
  if (queue === 'dlq') return {};
  return { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dlq' };
}

const actor = fc.nat(CLIENTS - 1);
const queue = fc.constantFrom(...QUEUES);
const anyQueue = fc.constantFrom(...QUEUES, 'dlq');
type Step = (world: World) => void;
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.tuple(actor, queue, fc.boolean()).map(
      ([at, name, inside]): Step =>
        (world) =>
          world.clients[at]!.send(name, inside),
    ),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(actor, anyQueue, fc.nat(4), fc.constantFrom('client-individual', 'client-individual', 'auto'))
      .map(
        ([at, name, prefetch, ack]): Step =>
          (world) =>
            world.clients[at]!.subscribe(name, prefetch, ack),
      ),
  },
  {
    weight: 6,
    arbitrary: fc
      .tuple(
        actor,
        fc.nat(50),
        fc.constantFrom('ack' as const, 'reject' as const, 'requeue' as const),
        fc.boolean(),
      )
      .map(
        ([at, pick, how, inside]): Step =>
          (world) =>
            world.clients[at]!.settle(pick, how, inside),
      ),
  },
  {
    weight: 2,
    arbitrary: actor.map(
      (at): Step =>
        (world) =>
          world.clients[at]!.begin(),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(actor, fc.constantFrom('COMMIT' as const, 'ABORT' as const)).map(
      ([at, how]): Step =>
        (world) =>
          world.clients[at]!.end(how),
    ),
  },
  {
    weight: 1,
    arbitrary: actor.map(
      (at): Step =>
        (world) =>
          world.clients[at]!.drop(),
    ),
  },
);

test('whatever clients do, no message is lost, held twice, out of order or delivered again without saying so', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 120 }), (steps) => {
      const world = new World();
      world.clients[0]!.subscribe('dlq', 1, 'client-individual');
      world.clients[0]!.drop();
      for (const take of steps) {
        take(world);
        world.check();
      }
      for (const client of world.clients) client.drop();
      world.check();
    }),
    { numRuns: 1500 },
  );
});
