/**
 * A thread of a worker process that runs no callback: it ends the process, and what that spawned, when the consumer is
 * gone, and tells what the process is at, both also while a callback blocks it.
 */
import { Socket } from 'node:net';
import { workerData } from 'node:worker_threads';
import { descriptors, OBSERVATION_BYTES } from './worker-protocol.js';

/** See createCalling. */
const calling = workerData as Float64Array;

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
  for (let count = questions.length; count > 0; count--) socket.write(observe());
});
socket.on('error', () => undefined);
socket.on('close', () => process.kill(-process.pid, 'SIGKILL'));
