/**
 * A thread of a worker process that runs no callback: it ends the process, and what that spawned, when the consumer is
 * gone, and tells what the process is at and which verdicts were given, also while a callback blocks it.
 */
import { Socket } from 'node:net';
import { workerData } from 'node:worker_threads';
import { SharedFrames } from './outbox.js';
import { descriptors } from './descriptors.js';
import { OBSERVATION_BYTES, type WatchData } from './protocol.js';

const { calling, verdicts: memory } = workerData as WatchData;
const verdicts = new SharedFrames(memory);

function observe(): Buffer {
  const answer = Buffer.alloc(OBSERVATION_BYTES);
  const [current = 0, sinceMs = 0, lastStarted = 0, behindMs = 0] = calling;
  const forMs = Number(process.hrtime.bigint()) / 1e6 - behindMs - sinceMs;
  const told = [current, forMs, lastStarted, process.memoryUsage.rss()];
  told.forEach((value, index) => answer.writeDoubleLE(value, index * 8));
  return answer;
}

const socket = new Socket({ fd: descriptors.watch });
socket.on('data', (questions) => {
  // What a callback that blocks the process keeps back is told before.
  verdicts.flush();
  for (let count = questions.length; count > 0; count--) socket.write(observe());
});
socket.on('error', () => undefined);
socket.on('close', () => process.kill(-process.pid, 'SIGKILL'));
