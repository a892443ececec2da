/** The clocks of one measurement: of the whole process, in whichever thread messages are counted. */
import type { Measurement, Task } from './task.js';

/** Counts messages and holds the clocks against those after the warm-up. */
export class Meter {
  readonly #task: Pick<Task, 'warmUp' | 'messages'>;
  #count = 0;
  #startMs = 0;
  #startCpu = process.cpuUsage();
  measurement: Measurement | undefined;

  constructor(task: Pick<Task, 'warmUp' | 'messages'>) {
    this.#task = task;
  }

  /** To be called once for each message; true at the last. */
  tick(): boolean {
    const { warmUp, messages } = this.#task;
    this.#count++;
    if (this.#count === warmUp) {
      this.#startCpu = process.cpuUsage();
      this.#startMs = performance.now();
    }
    if (this.#count !== warmUp + messages) return false;
    const seconds = (performance.now() - this.#startMs) / 1000;
    const { user, system } = process.cpuUsage(this.#startCpu);
    this.measurement = {
      messagesPerSecond: messages / seconds,
      cpuMicrosPerMessage: (user + system) / messages,
    };
    return true;
  }
}
