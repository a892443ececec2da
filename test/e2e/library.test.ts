/** How the library answers to what the compiler would refuse. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { consume, openPublisher, PubsubError, type ConsumeOptions, type Publisher } from '../../src/index.js';
import { startBroker, type TestBroker } from '../../src/testing.js';
import { packageRoot, runProgram } from '../support/process.js';
import { temporaryFolder } from './commands.js';
import { startScriptedServer } from './scripted-server.js';

describe('consume refuses, before it connects,', () => {
  const callback = () => undefined;
  const wrong: [what: string, options: object, expected: RegExp][] = [
    ['a missing callback', { destination: '/queue/x' }, /callback must be a function.* not undefined/],
    [
      'a callback of another type',
      { destination: '/queue/x', callback: {} },
      /callback must be .* not object/,
    ],
    ['a missing destination', { callback }, /destination must be a string, like .*, not undefined/],
    [
      'a destination of another type',
      { destination: 5, callback },
      /destination must be a string, like .*, not 5/,
    ],
  ];
  const signal = 'SIGTERM';
  wrong.push([
    'a signal of another type',
    { destination: '/queue/x', callback, signal },
    /signal must be an AbortSignal.* not "SIGTERM"/,
  ]);
  for (const [what, options, expected] of wrong) {
    it(what, async () => {
      await using server = await startScriptedServer();
      const address = { host: '127.0.0.1', port: server.port };
      await assert.rejects(consume({ ...address, ...options } as ConsumeOptions), (error) => {
        assert.ok(error instanceof PubsubError);
        assert.equal(error.code, 'invalid-usage');
        assert.match(error.message, expected);
        return true;
      });
      assert.equal(server.connections, 0);
    });
  }
});

describe('consume that is stopped while a callback is being set up resolves, and leaves no process behind:', () => {
  const moments = [
    ['at once', 'stop.abort();'],
    ['later', `process.once('SIGTERM', () => stop.abort());`],
  ] as const;
  for (const [moment, stopping] of moments) {
    it(moment, async () => {
      await using server = await startScriptedServer();
      const folder = temporaryFolder({
        'hangs.mjs': `
          export async function setup() {
            process.stderr.write('setup\\n');
            await new Promise(() => setInterval(() => {}, 1000));
          }
          export default () => {};`,
      });
      const options = { host: '127.0.0.1', port: server.port, destination: 'x', setupTimeoutSeconds: 3600 };
      const script = `
        import { consume } from 'stomp-pubsub';
        const stop = new AbortController();
        const options = ${JSON.stringify({ ...options, callback: join(folder, 'hangs.mjs') })};
        const consuming = consume({ ...options, signal: stop.signal });
        ${stopping}
        const { received } = await consuming;
        console.log('received', received);`;
      const running = runProgram(process.execPath, ['--input-type=module', '--eval', script]);
      if (moment === 'later') {
        await running.waitFor(/setup/);
        running.signal('SIGTERM');
      }
      // It ends by itself, which a worker that it waits for would not let it.
      assert.deepEqual(await running.exit(), { code: 0, signal: null }, running.stderr);
      assert.equal(running.stdout, 'received 0\n');
    });
  }
});

it('importing the library loads no embedded broker and no command', async () => {
  const fixtures = join(packageRoot, 'test/fixtures');
  const script = "await import('stomp-pubsub')";
  const flags = ['--import', join(fixtures, 'print-loaded.mjs'), '--input-type=module', '--eval', script];
  const running = runProgram(process.execPath, flags);
  assert.deepEqual(await running.exit(), { code: 0, signal: null }, running.stderr);
  const own = running.stdout
    .split('\n')
    .map((url) => /\/dist\/src\/(.*)\.js$/.exec(url)?.[1])
    .filter((name) => name !== undefined);
  assert.ok(own.includes('index') && own.includes('consumer/consumer'), running.stdout);
  assert.deepEqual(
    own.filter((name) => /^(?:embedded|commands|cli)\b/.test(name)),
    [],
  );
});

describe('an option that there is not', () => {
  const warnings: object[] = [];
  const quiet = () => undefined;
  const warn = (fields: object, message: string) => warnings.push({ ...fields, message });
  const log = { debug: quiet, info: quiet, warn, error: quiet, isLevelEnabled: () => false };
  const expected = [
    { option: 'concurency', meant: 'concurrency', message: 'unknown option; is it misspelt?' },
  ];
  const misspelt = { log, concurency: 5 };

  it('is told by consume', async () => {
    const drained = AbortSignal.abort();
    warnings.length = 0;
    await consume({ ...misspelt, destination: 'x', callback: () => undefined, signal: drained });
    assert.deepEqual(warnings, expected);
  });

  it('is told by openPublisher', async () => {
    warnings.length = 0;
    await openPublisher(misspelt).close();
    assert.deepEqual(warnings, expected);
  });
});

describe('a publisher', () => {
  /** What JavaScript sees of it. */
  type Untyped = Record<'send' | 'sendJson' | 'transaction', (...given: unknown[]) => Promise<unknown>>;
  const misuses: [what: string, use: (publisher: Untyped) => Promise<unknown>, expected: RegExp][] = [
    [
      'no destination',
      (publisher) => publisher.send(undefined, 1),
      /destination must be .*"\/queue\/orders", not undefined/,
    ],
    [
      'the body first',
      (publisher) => publisher.send({ id: 1 }, '/queue/x'),
      /destination must be .*, not object/,
    ],
    [
      'headers of another type',
      (publisher) => publisher.send('/queue/x', 1, { headers: ['a=b'] }),
      /headers must be .*, not an array/,
    ],
    [
      'options of another type',
      (publisher) => publisher.send('/queue/x', 1, 'text/csv'),
      /options must be .*, not "text\/csv"/,
    ],
    [
      'a content type of another type',
      (publisher) => publisher.send('/queue/x', 'a', { contentType: true }),
      /contentType must be .*, not true/,
    ],
    [
      'a time for a signal',
      (publisher) => publisher.send('/queue/x', 1, { signal: 5000 }),
      /signal must be an AbortSignal, like AbortSignal\.timeout\(5000\), not 5000/,
    ],
    [
      'a value for JSON text',
      (publisher) => publisher.sendJson('/queue/x', { id: 1 }),
      /json must be text .*, not object/,
    ],
    [
      'no options of a transaction',
      (publisher) => publisher.transaction(() => Promise.resolve(), null),
      /options must be an object, like \{ signal \}, not null/,
    ],
    ['no work', (publisher) => publisher.transaction(), /work must be a function.*, not undefined/],
    [
      'a message within a transaction',
      (publisher) => publisher.transaction((transaction: Untyped) => transaction.send(null, 1)),
      /destination must be .*, not null/,
    ],
  ];
  for (const [what, use, expected] of misuses) {
    it(`refuses ${what}, and goes on`, async () => {
      await using broker = await startBroker();
      await using publisher = openPublisher(at(broker));
      await assert.rejects(use(publisher as unknown as Untyped), isMisuse(expected));
      await publisher.send('/queue/x', 2);
      assert.deepEqual(
        broker.messages('x').map(({ body }) => body),
        [2],
      );
    });
  }

  it('is not opened with a URL for its options', () => {
    assert.throws(
      () => openPublisher('stomp://broker' as never),
      isMisuse(/options must be an object.*, not "stomp:\/\/broker"/),
    );
  });

  it('of an await using is closed at the end of its block, when everything is confirmed', async () => {
    await using broker = await startBroker();
    let kept: Publisher;
    {
      await using publisher = openPublisher(at(broker));
      kept = publisher;
      void publisher.send('/queue/x', 1);
    }
    assert.equal(broker.depth('x'), 1);
    await assert.rejects(kept.send('/queue/x', 2), isCode('invalid-usage'));
  });

  it('sends nothing by a signal that is aborted before, or while there is no connection', async () => {
    await using server = await startScriptedServer();
    await using publisher = openPublisher({ host: '127.0.0.1', port: server.port, connectTimeoutSeconds: 1 });
    await assert.rejects(
      publisher.send('/queue/x', 1, { signal: AbortSignal.abort() }),
      isCode('interrupted'),
    );
    await assert.rejects(
      publisher.transaction(() => Promise.resolve(), { signal: AbortSignal.abort() }),
      isCode('interrupted'),
    );
    assert.equal(server.connections, 0);
  });

  it('says of a message that is given up on its way that it may have arrived, and is usable after it', async () => {
    await using broker = await startBroker();
    await using publisher = openPublisher(at(broker));
    await publisher.send('/queue/x', 0);
    const giveUp = new AbortController();
    const sending = publisher.send('/queue/x', 1, { signal: giveUp.signal });
    giveUp.abort(new Error('the request is over'));
    await assert.rejects(sending, (error: unknown) => {
      assert.ok(isCode('not-confirmed')(error));
      assert.equal(((error as PubsubError).cause as Error).message, 'the request is over');
      return true;
    });
    await publisher.send('/queue/x', 2, { signal: new AbortController().signal });
    assert.deepEqual(
      broker.messages('x').map(({ body }) => body),
      [0, 1, 2],
    );
  });

  it('does not send what waits for room when it is given up, and keeps the room', async () => {
    await using broker = await startBroker();
    await using publisher = openPublisher({ ...at(broker), publishWindow: 1 });
    const giveUp = new AbortController();
    const first = publisher.send('/queue/x', 1);
    const second = publisher.send('/queue/x', 2, { signal: giveUp.signal });
    const third = publisher.send('/queue/x', 3);
    giveUp.abort();
    await assert.rejects(second, isCode('interrupted'));
    await Promise.all([first, third]);
    assert.deepEqual(
      broker.messages('x').map(({ body }) => body),
      [1, 3],
    );
  });

  it('rejects with what its work threw at once, and nothing escapes', async () => {
    await using broker = await startBroker();
    await using publisher = openPublisher(at(broker));
    const escaped: unknown[] = [];
    const note = (error: unknown) => void escaped.push(error);
    process.on('unhandledRejection', note);
    for (const signal of [undefined, new AbortController().signal])
      await assert.rejects(
        publisher.transaction(
          () => {
            throw new RangeError('at once');
          },
          { signal },
        ),
        RangeError,
      );
    await publisher.send('/queue/x', 1);
    process.off('unhandledRejection', note);
    assert.deepEqual(escaped, []);
    assert.equal(broker.depth('x'), 1);
  });

  it('one signal does for many sends', async () => {
    await using broker = await startBroker();
    await using publisher = openPublisher(at(broker));
    const { signal } = new AbortController();
    const warnings: Error[] = [];
    const note = (warning: Error) => void warnings.push(warning);
    process.on('warning', note);
    await Promise.all(Array.from({ length: 50 }, (_, n) => publisher.send('/queue/x', n, { signal })));
    // Warnings come in a later turn.
    await new Promise((resolve) => setImmediate(resolve));
    process.off('warning', note);
    assert.deepEqual(warnings, []);
  });

  it('rolls a transaction back that is given up in the middle', async () => {
    await using broker = await startBroker();
    await using publisher = openPublisher(at(broker));
    const giveUp = new AbortController();
    const transaction = publisher.transaction(
      async (sender) => {
        await sender.send('/queue/x', 1);
        giveUp.abort();
        await new Promise(() => undefined);
      },
      { signal: giveUp.signal },
    );
    await assert.rejects(transaction, isCode('interrupted'));
    await publisher.transaction((sender) => sender.send('/queue/x', 2), {
      signal: new AbortController().signal,
    });
    assert.deepEqual(
      broker.messages('x').map(({ body }) => body),
      [2],
    );
  });
});

const at = ({ host, port }: TestBroker) => ({ host, port });
const isCode = (code: string) => (error: unknown) => error instanceof PubsubError && error.code === code;
const isMisuse = (expected: RegExp) => (error: unknown) => {
  assert.ok(isCode('invalid-usage')(error), String(error));
  assert.match((error as Error).message, expected);
  return true;
};
