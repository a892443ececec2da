/** The clocks of one measurement: of the process in which messages are counted, and of one that works with it. */
import type { Measurement, Task } from './task.js';

/** Counts messages and holds the clocks against those after the warm-up. */
export class Meter {
  readonly #task: Pick<Task, 'warmUp' | 'messages'>;
  #count = 0;
  readonly #others: () => number;
  #startMs = 0;
  #startCpu = process.cpuUsage();
  #startOthers = 0;
  measurement: Measurement | undefined;

  /** `others`: processor time, in microseconds, of a process that works with this one. */
  constructor(task: Pick<Task, 'warmUp' | 'messages'>, others = () => 0) {
    this.#task = task;
    this.#others = others;
  }

  /** To be called once for each message; true at the last. */
  tick(): boolean {
    const { warmUp, messages } = this.#task;
    this.#count++;
    if (this.#count === warmUp) {
      this.#startCpu = process.cpuUsage();
      this.#startOthers = this.#others();
      this.#startMs = performance.now();
    }
    if (this.#count !== warmUp + messages) return false;
    const seconds = (performance.now() - this.#startMs) / 1000;
    const { user, system } = process.cpuUsage(this.#startCpu);
    const others = this.#others() - this.#startOthers;
    this.measurement = {
      messagesPerSecond: messages / seconds,
      cpuMicrosPerMessage: (user + system + others) / messages,
      consumerCpuMicrosPerMessage: (others === 0 ? user + system : others) / messages,
      mostMib: process.resourceUsage().maxRSS / 1024,
    };
    return true;
  }
}
