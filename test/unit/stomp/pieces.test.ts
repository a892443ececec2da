import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { FrameDecoder } from '../../../src/stomp/frames.js';
import { Pieces } from '../../../src/stomp/pieces.js';

const MIB = 1024 * 1024;

describe('pieces', () => {
  it('give back what was added, in any sizes, time and again', () => {
    const size = fc.oneof(fc.nat(20), fc.nat(5000), fc.constantFrom(255, 256, 257, 4095, 4096, 4097));
    const round = fc.tuple(fc.array(size, { maxLength: 30 }), size);
    fc.assert(
      fc.property(fc.array(round, { maxLength: 4 }), (rounds) => {
        const pieces = new Pieces();
        const filled = (length: number, value: number) => Buffer.alloc(length, value % 256);
        for (const [sizes, lastSize] of rounds) {
          const added = sizes.map(filled);
          for (const piece of added) pieces.add(piece);
          const last = filled(lastSize, 255);
          const whole = Buffer.concat([...added, last]);
          assert.equal(pieces.bytes, whole.length - lastSize);
          assert.ok(pieces.take(last).equals(whole));
          assert.equal(pieces.bytes, 0);
        }
      }),
    );
  });

  it('only count what is dropped', () => {
    const pieces = new Pieces();
    pieces.add(Buffer.from('abc'));
    pieces.drop();
    pieces.add(Buffer.alloc(10_000));
    assert.equal(pieces.bytes, 10_003);
    assert.equal(pieces.take().length, 0);
    pieces.add(Buffer.from('d'));
    assert.equal(pieces.take(Buffer.from('e')).toString(), 'de');
  });

  it('give back something long of a known length, whatever sizes it comes in', () => {
    const length = MIB + 12_345;
    const whole = Buffer.from(Uint8Array.from({ length }, (_byte, index) => (index * 7) % 251));
    for (const size of [100, 4095, 4096, 65_536, 300_000, length - 1, length]) {
      const pieces = new Pieces();
      for (let round = 0; round < 2; round++) {
        pieces.expect(length);
        let at = 0;
        for (; at + size < length; at += size) pieces.add(whole.subarray(at, at + size));
        assert.equal(pieces.bytes, at);
        assert.ok(pieces.take(whole.subarray(at)).equals(whole), `in pieces of ${size}`);
        pieces.add(Buffer.from('short'));
        assert.equal(pieces.take().toString(), 'short');
      }
    }
  });

  it('forget something long that is dropped on its way', () => {
    const pieces = new Pieces();
    pieces.expect(2 * MIB);
    pieces.add(Buffer.alloc(MIB));
    pieces.drop();
    pieces.add(Buffer.alloc(MIB));
    assert.deepEqual([pieces.bytes, pieces.take().length], [2 * MIB, 0]);
    pieces.add(Buffer.from('next'));
    assert.equal(pieces.take().toString(), 'next');
  });

  it('take nothing for a length that is only told', () => {
    const before = process.memoryUsage().arrayBuffers;
    const all = Array.from({ length: 20 }, () => new Pieces());
    for (const pieces of all) {
      pieces.expect(500 * MIB);
      pieces.add(Buffer.alloc(5000));
    }
    assert.ok(process.memoryUsage().arrayBuffers - before < MIB);
    assert.equal(all[0]!.bytes, 5000);
  });

  it('hand on a piece that is alone without copying it', () => {
    const piece = Buffer.from('alone');
    assert.equal(new Pieces().take(piece), piece);
  });
});

for (const [what, length, chunk] of [
  ['a million chunks of one byte', MIB, () => Buffer.allocUnsafeSlow(1)],
  ['the ends of large chunks', 512, () => Buffer.allocUnsafeSlow(64 * 1024).subarray(0, 1)],
] as const) {
  it(`the decoder keeps of ${what} little more than those bytes`, () => {
    const decoder = new FrameDecoder(
      { strict: true, headerBytes: 2 * MIB, bodyBytes: 2 * MIB },
      () => undefined,
    );
    decoder.push(Buffer.from(`SEND\ncontent-length:${2 * MIB}\n\n`));
    const before = liveBytes();
    for (let sent = 0; sent < length; sent++) decoder.push(chunk());
    const growth = liveBytes() - before;
    assert.equal(decoder.isMidFrame, true);
    assert.ok(growth < 2 * length + MIB, `${growth} bytes are kept for ${length}`);
  });
}

function liveBytes(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  for (let times = 0; times < 3; times++) collect();
  return process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
}
