/**
 * RECEIPT frames as brokers write them, one header and no body, read by their bytes. A publisher gets one for each message,
 * and to make text and an object of headers of it costs as much as all else about that message. Every other frame, and a
 * RECEIPT that is written in another way or is not all there, is the decoder's.
 */

const START = Buffer.from('RECEIPT\nreceipt-id:');
const LF = 10;
const ZERO = 48;
/** A number of so many digits is exact. */
const MOST_DIGITS = 15;

/**
 * Tells the numbers of the receipts that begin there, one behind the other, and returns where something else begins. What
 * keeps a connection alive between frames, line feeds, is passed over.
 */
export function readPlainReceipts(chunk: Buffer, start: number, onReceipt: (id: number) => void): number {
  for (let at = start; ;) {
    while (chunk[at] === LF) at++;
    if (!startsAt(chunk, at)) return at;
    let id = 0;
    let end = at + START.length;
    for (let digit = digitAt(chunk, end); digit !== -1; digit = digitAt(chunk, ++end)) id = id * 10 + digit;
    const digits = end - at - START.length;
    if (digits === 0 || digits > MOST_DIGITS) return at;
    if (chunk[end] !== LF || chunk[end + 1] !== LF || chunk[end + 2] !== 0) return at;
    at = end + 3;
    onReceipt(id);
  }
}

function startsAt(chunk: Buffer, at: number): boolean {
  for (let index = 0; index < START.length; index++) {
    if (chunk[at + index] !== START[index]) return false;
  }
  return true;
}

/** -1 for what is none. */
function digitAt(chunk: Buffer, at: number): number {
  const digit = (chunk[at] ?? 0) - ZERO;
  return digit >= 0 && digit <= 9 ? digit : -1;
}
