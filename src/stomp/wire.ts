/**
 * The two ends of a socket: our decoder and our writer, with stompit's Client between them for the handshake, the outgoing
 * heart-beats and the teardown; the only place that knows stompit. MESSAGE, RECEIPT and ERROR frames go from the decoder
 * straight to the session, in wire order: RabbitMQ answers a SUBSCRIBE it refuses with an ERROR and then a RECEIPT, and
 * stompit hands frames on a tick later, one by one.
 */
import type { OnReadOpts, Socket } from 'node:net';
import { Duplex } from 'node:stream';
// Its Client alone: what else `stompit` brings along takes time at each start, and is not used.
import Client from 'stompit/lib/Client.js';
import { reasonOf } from '../errors.js';
import { FrameDecoder, type Frame } from './frames.js';
import type { Headers } from './headers.js';
import { transportEnd, type EndCause } from './session-end.js';
import { FrameWriter } from './writer.js';

/** RabbitMQ takes any number of headers; what goes beyond this is dropped but for what settles the message. */
const MAX_HEADER_BYTES = 16 * 1024 * 1024;
/** Of one read: what Node itself takes for it. */
const READ_BYTES = 64 * 1024;
/** Beats leave early: ActiveMQ 5.17 drops a client whose beat is a few ms late. */
const EARLY_BEAT = 0.3;

/** Makes the socket, which reads that way. */
export type Connect = (onread: OnReadOpts) => Socket;

export interface Wire {
  readonly socket: Socket;
  readonly writer: FrameWriter;
  /** Changes with each frame that comes but a plain receipt, and with each part of one; not with heart-beats. */
  readonly heard: number;
  /** Sends CONNECT; `onConnected` is called once, with the headers of CONNECTED. Throws what cannot be sent. */
  handshake(headers: Headers, onConnected: (headers: Readonly<Headers>) => void): void;
  destroy(): void;
}

interface WireOptions {
  readonly outgoingHeartbeatMs: number;
  readonly maxBodyBytes: number;
}

/**
 * `onFrame` gets every frame but CONNECTED and plain receipts, of which `onReceipt` gets the numbers; `onEnd` why there are no
 * more, and that more than once perhaps.
 */
export function createWire(
  connect: Connect,
  { outgoingHeartbeatMs, maxBodyBytes }: WireOptions,
  onFrame: (frame: Frame) => void,
  onReceipt: (id: number) => void,
  onEnd: (end: EndCause) => void,
): Wire {
  let connected: Frame | undefined;
  let heard = 0;
  const decoder = new FrameDecoder(
    { strict: false, headerBytes: MAX_HEADER_BYTES, bodyBytes: maxBodyBytes },
    (frame) => {
      heard++;
      if (frame.command !== 'CONNECTED' || connected !== undefined) {
        onFrame(frame);
        return;
      }
      // It is stompit's, which reads the version and starts the heart-beats.
      connected = frame;
      standIn.push(frame.command);
    },
    onReceipt,
  );
  // Memory of each read's own, which is what a socket takes, costs a tenth of a short message.
  const socket = connect({
    buffer: Buffer.allocUnsafeSlow(READ_BYTES),
    callback: (bytes, memory) => {
      try {
        decoder.pushCopy((memory as Buffer).subarray(0, bytes));
        if (decoder.isMidFrame) heard++;
      } catch (error) {
        onEnd({ kind: 'protocol', message: reasonOf(error) });
      }
      return true;
    },
  });
  // Heard before stompit, which takes the end of a connection, and its reset, for a fault in the protocol.
  socket.on('error', (error) => onEnd(transportEnd(error)));
  socket.on('end', () => onEnd(transportEnd(socket.errored ?? new Error('the server ended the connection'))));
  const writer = new FrameWriter(socket);
  const standIn = createStandIn(socket);
  const client = new Client(standIn, {
    outgoingFrameStream: writer,
    transform(_chunk, _encoding, callback) {
      if (connected !== undefined) this.push(asStompitFrame(connected));
      callback();
    },
    heartbeatOutputMargin: Math.floor(outgoingHeartbeatMs * EARLY_BEAT),
  });
  client.on('error', (error: Error & { code?: string; isProtocolError?: () => boolean }) => {
    onEnd(transportEnd(error));
  });
  client.on('end', () => onEnd({ kind: 'transport', message: 'connection ended' }));
  // stompit hears neither a socket that closes without FIN nor one that is destroyed.
  socket.on('close', () => onEnd({ kind: 'transport', message: 'connection closed' }));
  socket.resume();
  return {
    socket,
    writer,
    get heard() {
      return heard;
    },
    handshake: (headers, onConnected) => {
      client.connect(headers, (error) => {
        if (error === null) onConnected(client.headers);
      });
      // Ours is the check of the broker's beats: stompit's kills a healthy connection after a blocked event loop.
      client.setHeartbeat([outgoingHeartbeatMs, 0]);
    },
    destroy: () => client.destroy(),
  };
}

/**
 * What stompit has for a socket: nothing comes from it but one chunk at CONNECTED, and its end is the socket's. stompit
 * reads a socket through a stream of frames that holds one, so that each chunk stops the reading, and starts it again, which
 * costs as much as all else about a long body.
 */
function createStandIn(socket: Socket): Duplex {
  const standIn = new Duplex({
    read: () => undefined,
    destroy: (error, callback) => {
      socket.destroy();
      callback(error);
    },
  });
  socket.on('close', () => standIn.destroy());
  return standIn;
}

/** What stompit's Client asks of a frame. Bodies are complete, so whoever waits for the end is called at once. */
function asStompitFrame({ command, headers, body }: Frame) {
  return {
    command,
    headers,
    on: (_event: 'end', listener: () => void) => listener(),
    readEmptyBody: (callback: (isEmpty: boolean) => void) => callback(body.length === 0),
  };
}
