import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { printable, printableText } from '../../src/printable.js';

const breaking = /[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/u;

describe('printable', () => {
  it('escapes what moves a cursor or turns the direction of text, and leaves all else', () => {
    assert.equal(
      printable('a\x1b[2J\x7f\u009b31m\u202eé😀\n'),
      'a\\u001b[2J\\u007f\\u009b31m\\u202eé😀\\u000a',
    );
    assert.equal(printableText('a\n\tb\r\u2066'), 'a\n\tb\\u000d\\u2066');
  });

  it('leaves no such character in any text', () => {
    const text = fc.string({
      unit: fc.oneof(
        fc.integer({ min: 0, max: 0x2100 }).map((code) => String.fromCharCode(code)),
        fc.string(),
      ),
    });
    fc.assert(
      fc.property(text, (given) => {
        assert.doesNotMatch(printable(given), breaking);
        assert.doesNotMatch(printableText(given).replace(/[\n\t]/g, ''), breaking);
      }),
    );
  });

  it('makes of a line of JSON one that means the same', () => {
    const value = { 'a\u202e': ['\x1b\u009b', '\\u001b', '\n'] };
    assert.deepEqual(JSON.parse(printable(JSON.stringify(value))), value);
  });
});
