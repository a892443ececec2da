import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Outbox } from '../../../src/sending/outbox.js';
import { classic } from '../brokers/sources.js';
import { messageEncoder } from '../../../src/sending/heads.js';
import { resolve } from '../../../src/settings/resolve.js';
import { type Script, startScriptedServer } from '../../support/scripted-server.js';
import { within } from '../../support/until.js';
import { DEADLINE_MS, RecordedLog } from '../stomp/session-under-test.js';

const LIMIT = 100;

/** Ends the connection of a message over the limit as ActiveMQ does: with an ERROR that names no message. */
const limiting: Script = async (connection) => {
  await connection.accept({ server: 'ActiveMQ/5.17.2' });
  for (;;) {
    const frame = await connection.take(Infinity);
    if (frame.body.length > LIMIT) {
      connection.send('ERROR', { message: 'The maximum data length was exceeded' });
      connection.end();
      return;
    }
    connection.confirm(frame);
  }
};

describe('an outbox', () => {
  it('leaves out a message that the broker calls too large, though others were under way with it', async () => {
    await using server = await startScriptedServer(limiting);
    const settings = resolve({}, { STOMP_SERVER_HOST: server.host, STOMP_SERVER_PORT: String(server.port) });
    const leftOut: [code: string, number: number][] = [];
    const signal = new AbortController().signal;
    const outbox = new Outbox(
      {
        ...{ settings, log: new RecordedLog(), stop: signal, abort: signal },
        onUnreadable: ({ code }, number) => leftOut.push([code, number]),
      },
      0,
    );
    const encode = messageEncoder('/queue/orders', classic);
    for (let number = 1; number <= 9; number++)
      outbox.add(number, encode(JSON.stringify(number === 5 ? 'x'.repeat(LIMIT) : number)));
    const sent = Promise.race([outbox.settled(), outbox.failed]);
    await within(sent, DEADLINE_MS, 'all is settled');
    assert.deepEqual([leftOut, outbox.confirmed, outbox.confirmedUpTo], [[['message-too-large', 5]], 8, 9]);
    await outbox.close();
  });
});
