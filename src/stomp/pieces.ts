/**
 * The bytes of one head or body as they arrive, in chunks of any size. Hides that small chunks are copied together: a
 * Buffer takes some hundred bytes beside its content, and a view of a few bytes keeps the whole chunk it is of. Each
 * byte is copied at most twice, and at most twice the bytes that arrived are kept. Something long, of a length that is known,
 * gets its place when an eighth of it is there: from then on no chunk is kept beside it, and a length alone takes nothing.
 */

/** From here on a chunk's own cost does not count, and copying it would. */
const LARGE_BYTES = 4096;
const FIRST_BLOCK_BYTES = 256;
const LAST_BLOCK_BYTES = 64 * 1024;
const NOTHING = Buffer.alloc(0);
/** Below it the chunks are kept until the last is there. */
const LONG_BYTES = 1024 * 1024;
const PART = 1 / 8;

export class Pieces {
  #full: Buffer[] = [];
  /** Takes small pieces; those that come one after the other get blocks that double. */
  #block = NOTHING;
  #used = 0;
  #bytes = 0;
  #isDropping = false;
  /** Of all that is to come; 0 for not known. */
  #expected = 0;
  #whole: Buffer | undefined;

  /** Of all pieces since the last `take`, dropped ones included. */
  get bytes(): number {
    return this.#bytes;
  }

  /** So many bytes are to come until `take`; no more may be added then. */
  expect(bytes: number): void {
    this.#expected = bytes;
  }

  add(piece: Buffer): void {
    const start = this.#bytes;
    this.#bytes += piece.length;
    if (this.#isDropping || piece.length === 0) return;
    if (this.#whole !== undefined) {
      piece.copy(this.#whole, start);
      return;
    }
    this.#keep(piece);
    if (this.#expected >= LONG_BYTES && this.#bytes >= this.#expected * PART) this.#allocate();
  }

  /** Copies the start of `bytes` that belongs to something long that has its place; returns how much that is. */
  fill(bytes: Buffer): number {
    if (this.#whole === undefined) return 0;
    const copied = bytes.copy(this.#whole, this.#bytes);
    this.#bytes += copied;
    return copied;
  }

  #allocate(): void {
    const whole = Buffer.allocUnsafeSlow(this.#expected);
    this.#closeBlock();
    let at = 0;
    for (const piece of this.#full) at += piece.copy(whole, at);
    this.#forget();
    this.#whole = whole;
  }

  #keep(piece: Buffer): void {
    if (piece.length >= LARGE_BYTES) {
      this.#closeBlock();
      this.#block = NOTHING;
      this.#full.push(piece);
      return;
    }
    const copied = piece.copy(this.#block, this.#used);
    this.#used += copied;
    if (copied === piece.length) return;
    const doubled = Math.min(LAST_BLOCK_BYTES, this.#block.length * 2);
    this.#closeBlock();
    this.#block = Buffer.allocUnsafeSlow(Math.max(FIRST_BLOCK_BYTES, doubled, piece.length - copied));
    this.#used = piece.copy(this.#block, 0, copied);
  }

  /** Forgets what it has and only counts what comes, until `take`. */
  drop(): void {
    this.#forget();
    this.#isDropping = true;
  }

  /** All bytes and the last piece, which is not copied when it is the only one; then it is empty again. */
  take(last: Buffer = NOTHING): Buffer {
    if (this.#bytes === 0 && !this.#isDropping) return last;
    this.add(last);
    this.#closeBlock();
    const [first = NOTHING] = this.#full;
    const all = this.#whole ?? (this.#full.length > 1 ? Buffer.concat(this.#full) : first);
    this.#forget();
    this.#expected = 0;
    this.#bytes = 0;
    this.#isDropping = false;
    return all;
  }

  #closeBlock(): void {
    if (this.#used > 0) this.#full.push(this.#block.subarray(0, this.#used));
    this.#used = 0;
  }

  #forget(): void {
    this.#whole = undefined;
    this.#full = [];
    this.#block = NOTHING;
    this.#used = 0;
  }
}
