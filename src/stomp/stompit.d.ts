/** Our own typing of the stompit members in use: the published one describes another version (and members it lacks). */
declare module 'stompit/lib/Client.js' {
  import type { EventEmitter } from 'node:events';
  import type { Duplex } from 'node:stream';

  interface OutgoingFrame {
    headers: Record<string, string>;
    on(event: 'error', listener: (error: Error) => void): unknown;
    end(): void;
  }

  interface OutgoingFrameStream {
    frame(command: string, headers: Record<string, string>): OutgoingFrame;
    heartbeat(): void;
    finish(): void;
    hasFinished(): boolean;
    setVersion(version: string): boolean;
  }

  interface IncomingFrame {
    readonly command: string;
    readonly headers: Readonly<Record<string, string>>;
    on(event: 'end', listener: () => void): unknown;
    readEmptyBody(callback: (isEmpty: boolean) => void): void;
  }

  interface ClientOptions {
    outgoingFrameStream: OutgoingFrameStream;
    /** Reaches the stream.Transform that parses what comes in; `push` hands a parsed frame to the client. */
    transform: (
      this: { push(frame: IncomingFrame): void },
      chunk: Buffer,
      encoding: string,
      callback: (error?: Error) => void,
    ) => void;
    /** Milliseconds by which beats are sent earlier than promised. */
    heartbeatOutputMargin: number;
  }

  class Client extends EventEmitter {
    constructor(socket: Duplex, options: ClientOptions);
    readonly headers: Readonly<Record<string, string>>;
    connect(headers: Record<string, string>, callback: (error: Error | null) => void): void;
    setHeartbeat(heartbeat: [outgoingMs: number, incomingMs: number]): void;
    destroy(error?: Error): void;
  }

  export default Client;
  export type { ClientOptions, OutgoingFrame, OutgoingFrameStream, IncomingFrame };
}
