/** The faults of the soak, each with how often it comes and what it does; it is over when its promise resolves. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Scene } from './scene.js';

export interface Fault {
  readonly name: string;
  /** Against the sum of all. */
  readonly weight: number;
  /** Resolves when nothing stands in the way of recovery. Rejects when a consumer did not end as it must. */
  strike(scene: Scene, random: Random): Promise<void>;
}

/** From 0 up to, not including, `below`. */
export type Random = (below: number) => number;

/** From well below to well above the time after which missing heart-beats end a connection (2.5 s). */
const duration = (random: Random) => 500 + random(5500);

export const faults: readonly Fault[] = [
  {
    name: 'kill -9 a consumer',
    weight: 4,
    strike: ({ replaceMortal }) => replaceMortal((mortal) => mortal.kill()),
  },
  {
    name: 'SIGTERM a consumer, start another',
    weight: 4,
    strike: ({ replaceMortal }) =>
      replaceMortal(async (mortal) => {
        mortal.signal('SIGTERM');
        const { code } = await mortal.exit();
        if (code !== 0)
          throw new Error(`SIGTERM ended a consumer with ${code ?? 'a signal'}: ${mortal.stderr}`);
      }),
  },
  {
    name: 'SIGSTOP a consumer for a while',
    weight: 3,
    strike: async ({ steady, mortal }, random) => {
      const consumer = random(2) < 1 ? steady : mortal();
      consumer.signal('SIGSTOP');
      await delay(duration(random));
      consumer.signal('SIGCONT');
    },
  },
  {
    name: 'cut all connections',
    weight: 3,
    strike: ({ proxy }) => {
      proxy.cut();
      return Promise.resolve();
    },
  },
  {
    name: 'cut in the middle of a frame',
    weight: 3,
    strike: async ({ proxy, recovered }, random) => {
      proxy.cutAfterBytes(random(2) < 1 ? 'toServer' : 'toClient', Math.ceil(random(2000)));
      await recovered();
    },
  },
  {
    name: 'stall all connections for a while',
    weight: 3,
    strike: async ({ proxy }, random) => {
      const direction = (['toServer', 'toClient', undefined] as const)[Math.floor(random(3))];
      proxy.stall(direction);
      await delay(duration(random));
      proxy.resume(direction);
    },
  },
  {
    name: 'refuse connections for a while',
    weight: 2,
    strike: async ({ proxy }, random) => {
      await proxy.refuse();
      proxy.cut();
      await delay(duration(random));
      await proxy.accept();
    },
  },
  { name: 'kill -9 the broker, start it again', weight: 1, strike: ({ broker }) => broker.restart('kill') },
  { name: 'stop the broker, start it again', weight: 1, strike: ({ broker }) => broker.restart('clean') },
  {
    name: 'SIGSTOP the broker for a while',
    weight: 2,
    strike: async ({ broker }, random) => {
      broker.pause();
      await delay(duration(random));
      broker.resume();
    },
  },
];

/** The same numbers for the same seed (mulberry32). */
export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below;
  };
}

export function pickFault(random: Random): Fault {
  let rest = random(faults.reduce((sum, { weight }) => sum + weight, 0));
  return faults.find(({ weight }) => (rest -= weight) < 0)!;
}
