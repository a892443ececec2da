import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  encodePlain,
  FrameGatherer,
  FrameReader,
  PREFIX,
  type WireFrame,
} from '../../../../src/consumer/workers/frames.js';
import { inheritedFlags } from '../../../../src/consumer/workers/flags.js';

const kind = fc.integer({ min: 0x80, max: 0xff });
const frame = fc.record(
  {
    kind,
    number: fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
    head: fc.string({ unit: 'binary', maxLength: 50 }).map((text) => Buffer.from(text).toString()),
    body: fc.uint8Array({ maxLength: 40_000 }),
  },
  { noNullPrototype: true },
);

const ways: [where: string, put: (reader: FrameReader, bytes: Buffer) => number][] = [
  [
    'in whatever chunks they come',
    (reader, bytes) => {
      reader.push(bytes);
      return bytes.length;
    },
  ],
  [
    'where the reader says to put what comes',
    (reader, bytes) => {
      const place = reader.place();
      const copied = bytes.copy(place);
      reader.push(place.subarray(0, copied));
      return copied;
    },
  ],
];
for (const [where, put] of ways) {
  test(`frames are read as they were gathered, ${where}`, () => {
    const property = fc.property(
      fc.array(frame, { maxLength: 8 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 70_000 })),
      (frames, sizes) => {
        const gatherer = new FrameGatherer();
        for (const { kind, number, head, body } of frames) gatherer.add(kind, number, head, body);
        const bytes = Buffer.concat(gatherer.take());
        assert.ok(gatherer.isEmpty);
        const read: WireFrame[] = [];
        const reader = new FrameReader(
          (known) => known >= 0x80,
          (frame) => read.push(frame),
        );
        for (let from = 0; from < bytes.length;) {
          const size: number = (sizes.next() as IteratorResult<number, undefined>).value ?? 1;
          from += put(reader, bytes.subarray(from, from + size));
        }
        // What came later has been put over nothing of them.
        const told = read.map(({ kind, number, head, body }) => ({
          ...{ kind, number, head: head.toString(), body: new Uint8Array(body) },
        }));
        assert.deepEqual(told, frames);
      },
    );
    fc.assert(property, { numRuns: 200 });
  });
}

test('a plain frame is one without head and body', () => {
  const buffer = Buffer.alloc(2 * PREFIX, 0xff);
  assert.equal(encodePlain(buffer, PREFIX, 0x93, 7), 2 * PREFIX);
  const read: unknown[] = [];
  new FrameReader(
    () => true,
    ({ kind, number, head, body }) => read.push(kind, number, head.length, body.length),
  ).push(buffer.subarray(PREFIX));
  assert.deepEqual(read, [0x93, 7, 0, 0]);
});

test('text between frames is no frame', () => {
  const reader = new FrameReader(
    (known) => known >= 0x80,
    () => undefined,
  );
  assert.throws(() => reader.push(Buffer.from('junk')), /no frame/);
});

test("a worker inherits the flags of Node, but not the debugger's nor a script of the command line", () => {
  const given = [
    ...['--inspect-brk=0', '--inspect-port', '9230', '--enable-source-maps'],
    ...['--import', './a.mjs', '-e', 'code', '--test', '--max-old-space-size=100'],
  ];
  assert.deepEqual(inheritedFlags(given), [
    '--enable-source-maps',
    '--import',
    './a.mjs',
    '--max-old-space-size=100',
  ]);
});
