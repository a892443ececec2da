import assert from 'node:assert/strict';
import { describe, it, mock } from 'node:test';
import fc from 'fast-check';
import { PubsubError } from '../../../src/errors.js';
import {
  type DecoderOptions,
  encodeFrame,
  encodeHead,
  type Frame,
  FrameDecoder,
} from '../../../src/stomp/frames.js';
import { copyHeaders, createHeaders, FrameError, readHead } from '../../../src/stomp/headers.js';

const lenient: DecoderOptions = { strict: false, headerBytes: 65_536, bodyBytes: 65_536 };
const strict: DecoderOptions = { ...lenient, strict: true };

type Push = (decoder: FrameDecoder, chunk: Buffer) => void;

function decodeBy(push: Push, chunks: readonly (Buffer | string)[], options: DecoderOptions): Frame[] {
  const frames: Frame[] = [];
  const decoder = new FrameDecoder(options, (frame) => frames.push(frame));
  for (const chunk of chunks) push(decoder, Buffer.from(chunk as Buffer));
  assert.equal(decoder.isMidFrame, false, 'all frames are complete');
  return frames;
}

/** As a socket does that reads into the same memory again and again. */
const pushCopy: Push = (decoder, chunk) => {
  decoder.pushCopy(chunk);
  chunk.fill('~');
};

function decode(chunks: readonly (Buffer | string)[], options: DecoderOptions = strict): Frame[] {
  const frames = decodeBy((decoder, chunk) => decoder.push(chunk), chunks, options);
  assert.deepEqual(plain(decodeBy(pushCopy, chunks, options)), plain(frames));
  return frames;
}

/** Frames in a form that deepEqual can compare: bodies as text of bytes, headers as pairs in their order. */
function plain(frames: readonly Frame[]) {
  return frames.map(({ command, headers, body, oversized }) => ({
    command,
    headers: Object.entries(headers),
    body: body.toString('latin1'),
    oversized,
  }));
}

const bytesOf = (bytes: Buffer): Buffer[] => Array.from(bytes, (byte) => Buffer.of(byte));

function* twoWaySplits(bytes: Buffer): Generator<Buffer[]> {
  for (let at = 0; at <= bytes.length; at++) yield [bytes.subarray(0, at), bytes.subarray(at)];
}

/** Tells of the bytes of each Buffer.concat. */
function countConcat(onBytes: (bytes: number) => void) {
  const concat = Buffer.concat.bind(Buffer);
  return mock.method(Buffer, 'concat', (pieces: readonly Uint8Array[]) => {
    const all = concat(pieces);
    onBytes(all.length);
    return all;
  });
}

/** Whole code points only: half of a surrogate pair is no UTF-8. The characters with a meaning come often. */
const text = fc
  .array(
    fc.oneof(
      fc.constantFrom(':', '\\', '\r', '\n', '\\n', 'é', '€', '😀', ' '),
      fc.string({ unit: 'binary', maxLength: 3 }),
    ),
    { maxLength: 5 },
  )
  .map((parts) => parts.join('').replaceAll('\0', ''));
const headerName = text.filter((name) => name !== 'content-length');
const headers = fc.dictionary(
  fc.oneof(headerName, fc.constantFrom('__proto__', 'constructor', 'hasOwnProperty', 'toString')),
  text,
  { maxKeys: 4 },
);
const command = fc.constantFrom('SEND', 'MESSAGE', 'RECEIPT', 'ERROR', 'ACK', 'SUBSCRIBE');
const body = fc.oneof(
  fc.uint8Array({ maxLength: 20 }),
  fc.constantFrom(Uint8Array.of(0), Uint8Array.of(0, 10, 0), Buffer.from('{"ä":"€"}')),
);

interface Generated {
  readonly wire: Buffer;
  readonly frame: ReturnType<typeof plain>[number];
}

/** One frame and its bytes: with LF or CRLF, with a content-length where the body needs one, with EOLs behind it. */
const generated: fc.Arbitrary<Generated> = fc
  .record({
    command,
    headers,
    body,
    hasLength: fc.boolean(),
    eol: fc.constantFrom('\n', '\r\n'),
    between: fc.constantFrom('', '\n', '\r\n', '\n\n\r\n'),
  })
  .map(({ command, headers, body, hasLength, eol, between }) => {
    const all: Record<string, string> = Object.assign(Object.create(null) as object, headers);
    if (hasLength || body.includes(0)) all['content-length'] = String(body.length);
    const head = encodeHead(command, all).replaceAll('\n', eol);
    const wire = Buffer.concat([Buffer.from(head), body, Buffer.from(`\0${between}`)]);
    const frame = {
      command,
      headers: Object.entries(all),
      body: Buffer.from(body).toString('latin1'),
      oversized: undefined,
    };
    return { wire, frame };
  });

/** Receipts, and what begins like one. */
const receiptLike: fc.Arbitrary<Pick<Generated, 'wire'>> = fc
  .tuple(
    fc.constantFrom(
      'RECEIPT\nreceipt-id:',
      'RECEIPT\r\nreceipt-id:',
      'RECEIPT\nreceipt:',
      '\nRECEIPT\nreceipt-id:',
    ),
    fc.oneof(
      fc.nat().map(String),
      fc.constantFrom('', '007', '1 ', '1e3', 'x', '-1', '1'.repeat(15), '1'.repeat(16)),
    ),
    fc.constantFrom('\n\n', '\n\n', '\n\r\n', '\nx:y\n\n', '\nreceipt-id:8\n\n'),
    fc.constantFrom('', '', 'body', 'RECEIPT\nreceipt-id:1\n\n'),
    fc.constantFrom('\0', '\0\n', '\0\r\n'),
  )
  .map((parts) => ({ wire: Buffer.from(parts.join('')) }));

/** The number of a receipt that says nothing else; any other frame as it is. */
function asReceipt(frame: ReturnType<typeof plain>[number]) {
  const { command, headers, body } = frame;
  const isBare = command === 'RECEIPT' && headers.length === 1 && body === '';
  const [, id] = /^receipt-id:(\d{1,15})$/.exec(headers.map((header) => header.join(':')).join()) ?? [];
  return isBare && id !== undefined ? Number(id) : frame;
}

/** Lines as no decent client writes them: names that begin alike, come twice or are empty, each line with an end of its own. */
const crookedHead = fc
  .record({
    command: fc.constantFrom('MESSAGE', 'RECEIPT', 'OTHER'),
    lines: fc.array(
      fc.tuple(
        fc.constantFrom('a', 'ab', 'abc', '', '__proto__', 'constructor', '7', 'é', 'n'.repeat(200), 'x\\c'),
        fc.constantFrom('', 'x', ':', 'ab:', 'a\\n', ' é', 'v'.repeat(40)),
        fc.constantFrom('\n', '\r\n'),
      ),
      { maxLength: 8 },
    ),
    hasNonsense: fc.boolean(),
    blank: fc.constantFrom('\n', '\r\n'),
  })
  .map(({ command, lines, hasNonsense, blank }) => ({
    command,
    text: [
      `${command}\n`,
      ...lines.map(([name, value, end]) => `${name}:${value}${end}`),
      hasNonsense ? 'nonsense\n' : '',
      blank,
    ].join(''),
  }));

/** Some heads in a row with the same long list of names, of which one or two lines may be left out, repeated or nonsense. */
const nearlyAlike = fc
  .record({
    times: fc.constantFrom(1, 2, 5, 8),
    count: fc.constantFrom(15, 16, 17, 25, 128, 129, 140),
    changes: fc.array(
      fc.record({
        at: fc.nat(150),
        left: fc.nat(1),
        line: fc.constantFrom(
          'n3:',
          'n16:',
          '__proto__:',
          'new:',
          'nonsense',
          '7:',
          'n4:\\n',
          `${'n'.repeat(200)}:`,
        ),
      }),
      { maxLength: 2 },
    ),
  })
  .map(({ times, count, changes }) => {
    const lines = Array.from({ length: count }, (_, index) => (index === 5 ? '__proto__:' : `n${index}:`));
    for (const { at, left, line } of changes) lines.splice(at, left, line);
    return { times, lines };
  });

/** The same by the letter of the protocol, slowly. */
function readSlowly(text: string): [string, string][] {
  const plain = (part: string) => part.replaceAll('\\c', ':').replaceAll('\\n', '\n');
  const headers = new Map<string, string>();
  for (const line of text.split('\n').slice(1)) {
    const [, name, value] = /^([^:]*):([^]*?)\r?$/.exec(line) ?? [];
    if (name !== undefined && !headers.has(plain(name))) headers.set(plain(name), plain(value ?? ''));
  }
  return [...headers];
}

describe('FrameDecoder', () => {
  it('reads each head for itself, whatever the heads before it were like', () => {
    fc.assert(
      fc.property(fc.array(crookedHead, { minLength: 1, maxLength: 8 }), (heads) => {
        const wire = heads.map(({ text }) => `${text}\0`).join('');
        const expected = heads.map(({ command, text }) => [command, new Map(readSlowly(text))]);
        for (const chunks of [[wire], heads.map(({ text }) => `${text}\0`), bytesOf(Buffer.from(wire))]) {
          const frames = decode(chunks, lenient);
          assert.deepEqual(
            frames.map(({ command, headers }) => [command, new Map(Object.entries(headers))]),
            expected,
          );
          for (const { command, headers, lines } of frames) {
            assert.equal(Object.getPrototypeOf(headers), null);
            const again = readHead(`${command}\n${lines!}`, false);
            assert.deepEqual(Object.entries(again.headers), Object.entries(headers));
          }
        }
      }),
    );
  });

  it('reads each of many long heads for itself, like those before it or almost so', () => {
    fc.assert(
      fc.property(fc.array(nearlyAlike, { minLength: 1, maxLength: 12 }), (runs) => {
        const heads = runs.flatMap(({ times, lines }) =>
          Array.from({ length: times }, (_, time) =>
            lines.map((line, index) => `${line}${index}.${time}\n`).join(''),
          ),
        );
        const texts = heads.map((lines) => `MESSAGE\n${lines}\n`);
        const frames = decode([texts.map((text) => `${text}\0`).join('')], lenient);
        assert.deepEqual(
          frames.map(({ headers }) => new Map(Object.entries(headers))),
          texts.map((text) => new Map(readSlowly(text))),
        );
        for (const { headers } of frames) {
          assert.equal(Object.getPrototypeOf(headers), null);
          assert.deepEqual(Object.entries(copyHeaders(headers)), Object.entries(headers));
        }
      }),
    );
  });

  it('reads heads of several kinds that take turns, each with names of its own', () => {
    const kinds = ['first', 'again', 'third'].map((kind) => (time: number) => {
      const count = kind === 'again' ? 20 : 18;
      const lines = Array.from(
        { length: count },
        (_, index) => `${index < 5 ? 'n' : kind}${index}:${time}\n`,
      );
      return `MESSAGE\n${lines.join('')}\n`;
    });
    const [first, again, third] = kinds;
    const runs = [first, again, first, again, first, third, again, first].flatMap((kind) =>
      [kind, kind, kind, kind, kind, kind, again].map((each) => each!),
    );
    for (const [time, kind] of runs.entries())
      assert.deepEqual(Object.entries(readHead(kind(time), true).headers), [...readSlowly(kind(time))]);
  });

  it('does not take over a name of a long head that was longer, was broken off or had a line of nonsense', () => {
    const lines = (count: number) => Array.from({ length: count }, (_, index) => `m${index}:${index}\n`);
    const same = Array.from({ length: 6 }, () => lines(20).join(''));
    const longer = [...lines(24), 'm3:again\n'].join('');
    const noisy = [...lines(200).slice(0, 100), 'nonsense\n'].join('');
    const read = (text: string) => new Map(Object.entries(readHead(`MESSAGE\n${text}`, false).headers));
    for (const text of [longer, ...same, longer, ...Array.from({ length: 6 }, () => noisy), ...same])
      assert.deepEqual(read(text), new Map(readSlowly(`MESSAGE\n${text}`)));
    const other = ['o0:0\n', ...lines(20).slice(1)];
    assert.throws(() => readHead(`MESSAGE\n${[...other, 'nonsense\n'].join('')}`, true), /has no colon/);
    assert.deepEqual(read(other.join('')), new Map(readSlowly(`MESSAGE\n${other.join('')}`)));
  });

  it('goes through a chunk of many heads once, whatever ends their lines and whatever is in the bodies', () => {
    const frames = {
      lf: 'MESSAGE\na:b\ncontent-length:3\n\nxyz\0',
      crlf: 'MESSAGE\r\na:b\r\ncontent-length:3\r\n\r\nxyz\0',
      'CR in bodies': 'MESSAGE\na:b\ncontent-length:3\n\nx\ry\0',
      'no content-length': 'MESSAGE\na:b\n\nx\r\n\n\0',
    };
    for (const [name, frame] of Object.entries(frames)) {
      const chunk = Buffer.from(frame.repeat(2000));
      let scanned = 0;
      type Find = (this: Buffer, value: string | number, offset?: number) => number;
      const find = (Buffer.prototype as { indexOf: Find }).indexOf;
      const indexOf = mock.method(
        Buffer.prototype as { indexOf: Find },
        'indexOf',
        function (this: Buffer, value: string | number, offset = 0) {
          const at = find.call(this, value, offset);
          scanned += (at === -1 ? this.length : at) - offset;
          return at;
        },
      );
      let count = 0;
      try {
        new FrameDecoder(lenient, () => count++).push(chunk);
      } finally {
        indexOf.mock.restore();
      }
      assert.equal(count, 2000, name);
      assert.ok(scanned <= 3 * chunk.length, `${name}: ${scanned} bytes were scanned for ${chunk.length}`);
    }
  });

  it('T18: decodes generated frames alike however their bytes are split', () => {
    fc.assert(
      fc.property(
        fc.array(generated, { minLength: 1, maxLength: 3 }),
        fc.array(fc.nat(), { maxLength: 6 }),
        (list, cuts) => {
          const wire = Buffer.concat(list.map((each) => each.wire));
          const expected = list.map(({ frame }) => frame);
          assert.deepEqual(plain(decode([wire])), expected);
          assert.deepEqual(plain(decode(bytesOf(wire))), expected);
          for (const chunks of twoWaySplits(wire)) assert.deepEqual(plain(decode(chunks)), expected);
          const places = [
            0,
            ...cuts.map((cut) => cut % (wire.length + 1)).sort((a, b) => a - b),
            wire.length,
          ];
          const chunks = places.slice(1).map((end, index) => wire.subarray(places[index], end));
          assert.deepEqual(plain(decode(chunks)), expected);
          assert.deepEqual(plain(decode(bytesOf(wire), lenient)), expected);
        },
      ),
    );
  });

  it('decodes long bodies and what is behind them alike however their bytes are split', () => {
    const length = 1024 * 1024 + 5;
    const body = Buffer.alloc(length, 'long, ');
    const long = encodeFrame('MESSAGE', { 'content-length': String(length) }, body);
    const wire = Buffer.concat([long, long, Buffer.from('RECEIPT\nreceipt-id:1\n\n\0')]);
    const roomy = { ...lenient, bodyBytes: length };
    for (const size of [4000, 65_536, length, wire.length]) {
      const chunks = [];
      for (let at = 0; at < wire.length; at += size) chunks.push(wire.subarray(at, at + size));
      const [first, second, receipt, ...rest] = decode(chunks, roomy);
      assert.ok(first!.body.equals(body) && second!.body.equals(body), `in pieces of ${size}`);
      assert.deepEqual([receipt!.command, rest.length], ['RECEIPT', 0]);
    }
  });

  it('T18: finds every three-way split of CRLF, UTF-8, escapes and NUL bytes', () => {
    const wire = Buffer.from(
      'MESSAGE\r\nsubscription:s\r\nkéy\\c:välue\\r\\n€\r\ncontent-length:5\r\n\r\nä\0\n\0\0\r\n\nRECEIPT\nreceipt-id:1\n\n\0',
    );
    const whole = plain(decode([wire]));
    assert.deepEqual(whole, [
      {
        command: 'MESSAGE',
        headers: [
          ['subscription', 's'],
          ['kéy:', 'välue\r\n€'],
          ['content-length', '5'],
        ],
        body: Buffer.from('ä\0\n\0').toString('latin1'),
        oversized: undefined,
      },
      { command: 'RECEIPT', headers: [['receipt-id', '1']], body: '', oversized: undefined },
    ]);
    for (let first = 0; first <= wire.length; first++) {
      for (let second = first; second <= wire.length; second++) {
        const chunks = [wire.subarray(0, first), wire.subarray(first, second), wire.subarray(second)];
        assert.deepEqual(plain(decode(chunks)), whole, `split at ${first} and ${second}`);
      }
    }
  });

  it('T18: reads a receipt for the same by its bytes, however they are split, and nothing else for one', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(receiptLike, generated), { maxLength: 5 }), (list) => {
        const wire = Buffer.concat(list.map((each) => each.wire));
        const expected = plain(decode([wire], lenient)).map(asReceipt);
        for (const chunks of [[wire], bytesOf(wire), ...twoWaySplits(wire)]) {
          const seen: unknown[] = [];
          const decoder = new FrameDecoder(
            lenient,
            (frame) => seen.push(asReceipt(plain([frame])[0]!)),
            (id) => seen.push(id),
          );
          for (const chunk of chunks) decoder.push(Buffer.from(chunk));
          assert.equal(decoder.isMidFrame, false);
          assert.deepEqual(seen, expected);
        }
      }),
    );
  });

  it('makes no frame of receipts as brokers write them, but of what only begins like one', () => {
    const seen: unknown[] = [];
    const decoder = new FrameDecoder(
      lenient,
      ({ headers }) => seen.push(headers['receipt-id']),
      (id) => seen.push(id),
    );
    for (const id of ['1', '20', '999999999999999', '9999999999999999', '3x', '', '-4', '5'])
      decoder.push(Buffer.from(`RECEIPT\nreceipt-id:${id}\n\n\0\n`));
    assert.deepEqual(seen, [1, 20, 999999999999999, '9999999999999999', '3x', '', '-4', 5]);
  });

  it('hands frames on within push, as each one ends', () => {
    const seen: string[] = [];
    const decoder = new FrameDecoder(lenient, ({ command }) => seen.push(command));
    decoder.push(Buffer.from('A\n\n\0B\n\n'));
    assert.deepEqual([seen, decoder.isMidFrame], [['A'], true]);
    decoder.push(Buffer.from('\0\n'));
    assert.deepEqual([seen, decoder.isMidFrame], [['A', 'B'], false]);
  });

  it('takes line feeds between frames for no part of any frame', () => {
    const frames: Frame[] = [];
    const decoder = new FrameDecoder(strict, (frame) => frames.push(frame));
    for (const beat of ['\n', '\r\n', '\n\n', '\r', '\n']) {
      decoder.push(Buffer.from(beat));
      assert.equal(decoder.isMidFrame, false);
    }
    decoder.push(Buffer.from('\nA\n\n\0'));
    assert.deepEqual(
      frames.map(({ command }) => command),
      ['A'],
    );
  });

  it('keeps the first of a repeated header', () => {
    const [frame] = decode(['MESSAGE\nfoo:first\nfoo:second\n\n\0']);
    assert.equal(frame?.headers.foo, 'first');
  });

  it('T2: takes names of Object.prototype for names like any other', () => {
    const [frame] = decode(['MESSAGE\nhasOwnProperty:1\n__proto__:2\nconstructor:3\ntoString:4\n\n\0']);
    assert.deepEqual(Object.entries(frame!.headers), [
      ['hasOwnProperty', '1'],
      ['__proto__', '2'],
      ['constructor', '3'],
      ['toString', '4'],
    ]);
    assert.equal(Object.getPrototypeOf(frame!.headers), null);
  });

  it('does not find headers that are not there by names of Object.prototype', () => {
    const [frame] = decode(['MESSAGE\n\n\0']);
    for (const name of ['toString', '__proto__']) assert.equal(frame!.headers[name], undefined);
  });

  it('keeps a value with colons and spaces as it stands', () => {
    const [frame] = decode(['MESSAGE\na: b:c \nempty:\n\n\0']);
    assert.deepEqual({ ...frame!.headers }, { a: ' b:c ', empty: '' });
  });

  it('does not un-escape CONNECTED, whose session id may contain a backslash', () => {
    const [frame] = decode(['CONNECTED\nsession:ID:\\c\\x\n\n\0']);
    assert.equal(frame!.headers.session, 'ID:\\c\\x');
  });

  it('T17: takes long header lines and many headers', () => {
    const lines = Array.from({ length: 5000 }, (_, index) => `h${index}:${index}\n`).join('');
    const long = 'x'.repeat(200_000);
    const options = { ...strict, headerBytes: 1_000_000 };
    const [frame] = decode([`MESSAGE\nlong:${long}\n${lines}\n\0`], options);
    assert.equal(frame!.headers.long, long);
    assert.equal(frame!.headers.h4999, '4999');
  });

  describe('what is wrong', () => {
    it('T17: an undefined escape is an error when strict and kept as it stands when lenient', () => {
      const wire = 'MESSAGE\na\\t:b\\x\\\\c\\\n\n\0';
      assert.throws(() => decode([wire]), FrameError);
      assert.deepEqual({ ...decode([wire], lenient)[0]!.headers }, { 'a\\t': 'b\\x\\c\\' });
    });

    it('a header line without a colon is an error when strict and skipped when lenient', () => {
      const wire = 'MESSAGE\na:1\nnonsense\nb:2\n\n\0';
      assert.throws(() => decode([wire]), FrameError);
      assert.deepEqual({ ...decode([wire], lenient)[0]!.headers }, { a: '1', b: '2' });
    });

    for (const value of ['-1', 'x', '1x', '1.5', '0x10', '', '1e3', '9'.repeat(16)]) {
      it(`a content-length of ${JSON.stringify(value)} is an error, strict or lenient`, () => {
        for (const options of [strict, lenient]) {
          assert.throws(() => decode([`MESSAGE\ncontent-length:${value}\n\n\0`], options), FrameError);
        }
      });
    }

    it('a body longer than its content-length is an error, strict or lenient', () => {
      for (const options of [strict, lenient]) {
        assert.throws(() => decode(['MESSAGE\ncontent-length:2\n\nabc\0'], options), FrameError);
        assert.throws(
          () => decode(bytesOf(Buffer.from('A\ncontent-length:2\n\nabc\0')), options),
          FrameError,
        );
      }
    });

    it('what the peer sent does not reach the text of an error at length', () => {
      const long = 'x'.repeat(1000);
      for (const wire of [`A\ncontent-length:${long}\n\n\0`, `${long}\nnonsense\n\n\0`]) {
        assert.throws(
          () => decode([wire]),
          (error: Error) => error.message.length < 200,
        );
      }
    });
  });

  describe('limits', () => {
    const small: DecoderOptions = { strict: false, headerBytes: 400, bodyBytes: 10 };
    const next = 'RECEIPT\nreceipt-id:7\n\n\0';

    it('a body of exactly the limit is kept, one more byte is dropped and flagged', () => {
      for (const length of ['', 'content-length:10\n']) {
        const [frame] = decode([`MESSAGE\n${length}\n0123456789\0`], small);
        assert.deepEqual([frame!.body.toString(), frame!.oversized], ['0123456789', undefined]);
      }
      for (const length of ['', 'content-length:11\n']) {
        const [frame] = decode([`MESSAGE\n${length}\n0123456789a\0`], small);
        assert.deepEqual([frame!.body.length, frame!.oversized], [0, 'body']);
      }
    });

    it('after an oversized body the next frame is intact, however the bytes are split', () => {
      for (const [length, body] of [
        ['', 'x'.repeat(50)],
        ['content-length:50\n', '\0'.repeat(50)],
      ] as const) {
        const wire = Buffer.from(`MESSAGE\nack:1\n${length}\n${body}\0\n${next}`);
        for (const chunks of [[wire], bytesOf(wire), ...twoWaySplits(wire)]) {
          const [message, receipt, ...rest] = decode(chunks, small);
          assert.deepEqual(
            [message!.headers.ack, message!.body.length, message!.oversized],
            ['1', 0, 'body'],
          );
          assert.deepEqual([receipt!.headers['receipt-id'], receipt!.oversized], ['7', undefined]);
          assert.deepEqual(rest, []);
        }
      }
    });

    it('of oversized headers those that settle a message survive, however the bytes are split', () => {
      const essential = {
        subscription: 's-1',
        destination: '/queue/orders',
        'message-id': 'T_s-1@@1',
        ack: 'T_s-1@@1',
        redelivered: 'true',
        persistent: 'true',
        'correlation-id': 'cörrelation',
        'content-length': '3',
      };
      const filler = Array.from({ length: 12 }, (_, index) => `x-${index}:${'é'.repeat(40)}\n`);
      const lines = Object.entries(essential).map(([name, value]) => `${name}:${value}\n`);
      for (const eol of ['\n', '\r\n']) {
        for (const all of [
          [...filler, ...lines],
          [...lines, ...filler],
          lines.flatMap((line, index) => [filler[index]!, line, filler[index + 4]!]),
        ]) {
          const head = `MESSAGE\n${all.join('')}\n`.replaceAll('\n', eol);
          const wire = Buffer.from(`${head}a\0b\0\n${next}`);
          for (const chunks of [[wire], bytesOf(wire), ...twoWaySplits(wire)]) {
            const [message, receipt, ...rest] = decode(chunks, small);
            assert.equal(message!.command, 'MESSAGE');
            assert.equal(message!.oversized, 'headers');
            for (const [name, value] of Object.entries(essential)) {
              assert.equal(message!.headers[name], value, name);
            }
            assert.equal(message!.body.toString(), 'a\0b');
            assert.deepEqual([receipt!.headers['receipt-id'], receipt!.oversized], ['7', undefined]);
            assert.deepEqual(rest, []);
          }
        }
      }
    });

    it('one endless header line is cut and the frame that follows is intact', () => {
      const wire = Buffer.from(`MESSAGE\nack:1\nlong:${'x'.repeat(50_000)}\nsubscription:s\n\n\0${next}`);
      for (const size of [1, 7, 1000, 50_030, wire.length]) {
        const chunks = [];
        for (let at = 0; at < wire.length; at += size) chunks.push(wire.subarray(at, at + size));
        const [message, receipt] = decode(chunks, { ...small, headerBytes: 10_000 });
        assert.equal(message!.oversized, 'headers');
        assert.deepEqual([message!.headers.ack, message!.headers.subscription], ['1', 's']);
        assert.equal(receipt!.headers['receipt-id'], '7');
      }
    });

    it('what is kept of oversized headers is bounded, whatever their names', () => {
      const line = `message:${'x'.repeat(300)}\n`;
      const chunks = ['ERROR\n', ...Array.from({ length: 1000 }, () => line), '\n\0'];
      let kept = 0;
      const concat = countConcat((bytes) => (kept = Math.max(kept, bytes)));
      try {
        const [frame] = decode(chunks, { ...small, headerBytes: 5000 });
        assert.equal(frame!.oversized, 'headers');
        assert.equal(frame!.headers.message, 'x'.repeat(300));
      } finally {
        concat.mock.restore();
      }
      assert.ok(kept > 0 && kept <= 10_000, `${kept} bytes were kept with a limit of 5000`);
    });

    it('a strict decoder refuses what is over a limit', () => {
      const refusing = { ...small, strict: true };
      assert.throws(() => decode([`A\n${'x:y\n'.repeat(120)}\n\0`], refusing), /headers are over the limit/);
      assert.throws(() => decode(['A\n\n0123456789a\0'], refusing), /body is over the limit/);
      assert.throws(() => decode(['A\ncontent-length:11\n\n'], refusing), /body is over the limit/);
    });

    it('a strict decoder refuses headers that never end, before they have ended', () => {
      const decoder = new FrameDecoder({ ...small, strict: true }, () => assert.fail('no frame has ended'));
      assert.throws(() => {
        for (;;) decoder.push(Buffer.from('x'));
      }, /headers are over the limit/);
    });
  });

  it('touches each byte of tiny chunks once', () => {
    const size = 20_000;
    const wire = Buffer.from(
      `A\nx:${'h'.repeat(size)}\n\n${'b'.repeat(size)}\0B\ncontent-length:${size}\n\n`,
    );
    const chunks = [...bytesOf(wire), ...bytesOf(Buffer.alloc(size)), Buffer.of(0)];
    let copied = 0;
    let scanned = 0;
    const concat = countConcat((bytes) => (copied += bytes));
    const indexOf = mock.method(
      Buffer.prototype as { indexOf(value: number, offset?: number): number },
      'indexOf',
      function (this: Buffer, value: number, offset = 0) {
        scanned += this.length - offset;
        return Uint8Array.prototype.indexOf.call(this, value, offset);
      },
    );
    try {
      const frames: Frame[] = [];
      const decoder = new FrameDecoder(lenient, (frame) => frames.push(frame));
      for (const chunk of chunks) decoder.push(chunk);
      assert.deepEqual(
        frames.map(({ command, body }) => [command, body.length]),
        [
          ['A', size],
          ['B', size],
        ],
      );
    } finally {
      concat.mock.restore();
      indexOf.mock.restore();
    }
    assert.ok(copied <= chunks.length, `${copied} bytes were copied for ${chunks.length}`);
    assert.ok(scanned <= chunks.length, `${scanned} bytes were scanned for ${chunks.length}`);
  });
});

describe('headers', () => {
  it('T2: have no prototype, and take __proto__ for a name, also in a copy', () => {
    const headers = createHeaders();
    headers.__proto__ = 'data';
    headers.a = 'b';
    for (const each of [headers, copyHeaders(headers), copyHeaders({ ['__proto__']: 'data', a: 'b' })]) {
      assert.equal(Object.getPrototypeOf(each), null);
      assert.deepEqual(Object.entries(each), [
        ['__proto__', 'data'],
        ['a', 'b'],
      ]);
    }
    const copy = copyHeaders(headers);
    copy.a = 'c';
    assert.equal(headers.a, 'b');
  });
});

describe('encodeFrame', () => {
  it('T25: escapes names and values so that decoding gives them back', () => {
    fc.assert(
      fc.property(command, headers, body, (command, headers, body) => {
        const all: Record<string, string> = Object.assign(Object.create(null) as object, headers);
        all['content-length'] = String(body.length);
        const [frame, ...rest] = decode([encodeFrame(command, all, body)]);
        assert.deepEqual(rest, []);
        assert.deepEqual(
          [frame!.command, Object.entries(frame!.headers), frame!.body.equals(body)],
          [command, Object.entries(all), true],
        );
      }),
    );
  });

  it('writes the escapes of STOMP 1.2', () => {
    const head = encodeHead('SEND', { 'a:b\\': 'c:\r\n\\n' });
    assert.equal(head, 'SEND\na\\cb\\\\:c\\c\\r\\n\\\\n\n\n');
  });

  it('leaves out headers that are undefined and keeps empty ones', () => {
    assert.equal(encodeHead('SEND', { a: undefined, b: '' }), 'SEND\nb:\n\n');
  });

  it('takes a body as text and as bytes', () => {
    const asText = encodeFrame('SEND', { a: 'b' }, 'ä€');
    assert.deepEqual(asText, encodeFrame('SEND', { a: 'b' }, Buffer.from('ä€')));
    assert.equal(asText.toString(), 'SEND\na:b\n\nä€\0');
  });

  it('T25: refuses a NUL byte in a header', () => {
    for (const header of [{ 'a\0': 'b' }, { a: 'b\0' }]) {
      assert.throws(
        () => encodeFrame('SEND', header),
        (error) => error instanceof PubsubError && error.code === 'invalid-header',
      );
    }
  });

  it('T25: refuses in CONNECT what would need an escape, and keeps colons and backslashes', () => {
    for (const text of ['a\nb', 'a\rb', 'a\0b']) {
      for (const header of [{ login: text }, { [text]: 'x' }]) {
        assert.throws(
          () => encodeHead('CONNECT', header),
          (error: unknown) =>
            error instanceof PubsubError && error.code === 'invalid-header' && !error.message.includes(text),
        );
      }
    }
    assert.equal(encodeHead('CONNECT', { passcode: 'a:b\\c' }), 'CONNECT\npasscode:a:b\\c\n\n');
  });
});
