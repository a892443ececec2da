/**
 * The two ends of a socket: our decoder and our writer, with stompit's Client between them for the handshake, the outgoing
 * heart-beats and the teardown; the only place that knows stompit. MESSAGE, RECEIPT and ERROR frames go from the decoder
 * straight to the session, in wire order: RabbitMQ answers a SUBSCRIBE it refuses with an ERROR and then a RECEIPT, and
 * stompit hands frames on a tick later, one by one.
 */
import type { Socket } from 'node:net';
import stompit from 'stompit';
import { reasonOf } from '../errors.js';
import { FrameDecoder, type Frame } from './frames.js';
import { FrameError, type Headers } from './headers.js';
import { transportEnd, type EndCause } from './session-end.js';
import { FrameWriter } from './writer.js';

/** RabbitMQ takes any number of headers; what goes beyond this is dropped but for what settles the message. */
const MAX_HEADER_BYTES = 16 * 1024 * 1024;
/** Beats leave early: ActiveMQ 5.17 drops a client whose beat is a few ms late. */
const EARLY_BEAT = 0.3;

type StompitClient = InstanceType<typeof stompit.Client>;

export interface Wire {
  readonly writer: FrameWriter;
  /** Sends CONNECT; `onConnected` is called once, with the headers of CONNECTED. Throws what cannot be sent. */
  handshake(headers: Headers, onConnected: (headers: Readonly<Headers>) => void): void;
  destroy(): void;
}

interface WireOptions {
  readonly outgoingHeartbeatMs: number;
  readonly maxBodyBytes: number;
}

/** `onFrame` gets every frame but CONNECTED, `onEnd` why there are no more; that may be called more than once. */
export function createWire(
  socket: Socket,
  { outgoingHeartbeatMs, maxBodyBytes }: WireOptions,
  onFrame: (frame: Frame) => void,
  onEnd: (end: EndCause) => void,
): Wire {
  // Heard before stompit, which takes the end of a connection, and its reset, for a fault in the protocol.
  socket.on('error', (error) => onEnd(transportEnd(error)));
  socket.on('end', () => onEnd(transportEnd(socket.errored ?? new Error('the server ended the connection'))));
  const writer = new FrameWriter(socket);
  const client: StompitClient = new stompit.Client(socket, {
    outgoingFrameStream: writer,
    transform: createTransform(maxBodyBytes, onFrame),
    heartbeatOutputMargin: Math.floor(outgoingHeartbeatMs * EARLY_BEAT),
  });
  client.on('error', (error: Error & { code?: string; isProtocolError?: () => boolean }) => {
    onEnd(transportEnd(error));
  });
  client.on('end', () => onEnd({ kind: 'transport', message: 'connection ended' }));
  // stompit hears neither a socket that closes without FIN nor one that is destroyed.
  socket.on('close', () => onEnd({ kind: 'transport', message: 'connection closed' }));
  return {
    writer,
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

function createTransform(bodyBytes: number, onFrame: (frame: Frame) => void) {
  type Incoming = Parameters<ConstructorParameters<typeof stompit.Client>[1]['transform']>;
  let pushToStompit: (frame: object) => void = () => undefined;
  const decoder = new FrameDecoder({ strict: false, headerBytes: MAX_HEADER_BYTES, bodyBytes }, (frame) => {
    // CONNECTED is stompit's: it reads the version and starts the heart-beats.
    if (frame.command === 'CONNECTED') pushToStompit(asStompitFrame(frame));
    else onFrame(frame);
  });
  return function transform(
    this: { push(frame: object): void },
    chunk: Incoming[0],
    _encoding: string,
    callback: Incoming[2],
  ): void {
    pushToStompit = (frame) => this.push(frame);
    try {
      decoder.push(chunk);
      callback();
    } catch (error) {
      callback(error instanceof Error ? error : new FrameError(reasonOf(error)));
    }
  };
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
