import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { isPinoLoaded, loadPino } from '../../src/late-pino.js';
import { log, redirectLog } from '../../src/log.js';

const written: string[] = [];
redirectLog((line) => void written.push(line.replace(/"time":"[^"]+"/, '"time":""')), 'debug');

/** All lines that were written since. */
const taken = () => written.splice(0);

const value = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.double(),
  fc.integer(),
  fc.boolean(),
  fc.constant(undefined),
);
const line = fc.record({
  level: fc.constantFrom('debug', 'info', 'warn', 'error'),
  fields: fc.dictionary(fc.stringMatching(/^[a-z][A-Za-z]{0,9}$/), value, { noNullPrototype: true }),
  message: fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('100 %', '%s of %d', '%%')),
});

// The first test of this process: pino is loaded once, and stays.
test('a line that is written without pino is what pino makes of it', () => {
  const lines = fc.sample(line, 300);
  const writeAll = () => lines.forEach(({ level, fields, message }) => log[level](fields, message));
  log.info({ destination: '/queue/x', count: 1, isLate: undefined }, 'message published');
  assert.deepEqual(taken(), [
    `{"level":"info","time":"","pid":${process.pid},"destination":"/queue/x","count":1,"msg":"message published"}\n`,
  ]);
  log.debug({ big: '\ud800"' }, 'in plain words');
  assert.equal(isPinoLoaded(), false);
  writeAll();
  const before = taken().slice(1);
  loadPino();
  writeAll();
  assert.deepEqual(before, taken());
});

test('what is secret is redacted in the first line already', async () => {
  const from = JSON.stringify(new URL('../../src/log.js', import.meta.url));
  const script = `import(${from}).then(({ log }) => {
    log.info({ passcode: 'hunter2' }, 'one');
    log.info({ login: 'hunter2', server: { passcode: 'hunter2' } }, 'two');
  })`;
  const { stderr } = await promisify(execFile)(process.execPath, ['-e', script]);
  assert.equal(stderr.match(/\[redacted\]/g)?.length, 3);
  assert.doesNotMatch(stderr, /hunter2/);
});
