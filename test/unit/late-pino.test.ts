import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { pino } from 'pino';
import { LateLogger } from '../../src/late-pino.js';

/** A logger that is made later, the lines that it has written, and how often it was made. */
function logger() {
  const lines: Record<string, unknown>[] = [];
  const seen = { made: 0 };
  const write = (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>);
  const log = new LateLogger(
    () => {
      seen.made++;
      const formatters = { level: (level: string) => ({ level }) };
      return pino({ base: {}, level: 'trace', formatters, timestamp: false }, { write });
    },
    () => false,
  );
  return { log, lines, seen };
}

describe('a logger that is made later', () => {
  it('is made for the first line that its level lets through, once', () => {
    const { log, lines, seen } = logger();
    log.debug({}, 'left out');
    assert.deepEqual([log.isLevelEnabled('info'), log.isLevelEnabled('debug')], [true, false]);
    log.level = 'warn';
    log.info({}, 'left out');
    assert.equal(seen.made, 0);
    log.warn({ n: 1 }, 'first');
    log.error({ n: 2 }, 'second');
    assert.deepEqual(lines, [
      { level: 'warn', n: 1, msg: 'first' },
      { level: 'error', n: 2, msg: 'second' },
    ]);
    assert.equal(seen.made, 1);
  });

  it('takes other levels, before and after', () => {
    const { log, lines } = logger();
    log.level = 'silent';
    log.error({}, 'left out');
    log.level = 'debug';
    log.debug({}, 'one');
    log.level = 'error';
    log.warn({}, 'left out');
    log.error({}, 'two');
    assert.throws(() => ((log as { level: string }).level = 'loud'), /loud/);
    assert.deepEqual(
      lines.map(({ msg }) => msg),
      ['one', 'two'],
    );
  });

  it('takes lines as pino does', () => {
    const { log, lines } = logger();
    const { fatal } = log;
    log.info('%d of %d', 1, 2);
    fatal({ n: 3 });
    log.trace('left out');
    assert.deepEqual(lines, [
      { level: 'info', msg: '1 of 2' },
      { level: 'fatal', n: 3 },
    ]);
  });

  it('has children of its level', () => {
    const { log, lines, seen } = logger();
    const child = log.child({ consumer: 'orders' });
    child.debug({}, 'left out');
    child.info({}, 'of a child');
    log.child({}, { level: 'error' }).info({}, 'left out');
    assert.deepEqual(lines, [{ level: 'info', consumer: 'orders', msg: 'of a child' }]);
    assert.equal(seen.made, 1);
  });
});
