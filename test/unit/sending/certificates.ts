/** Certificates for tests, made with the openssl command in a folder that goes with the process. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { keepDirectory } from '../../support/keeper.js';

/** Why there are none; undefined when there can be. */
export function opensslMissing(): string | undefined {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'needs the openssl command: apt-get install openssl';
  }
}

export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: Buffer;
  readonly key: Buffer;
}

export class Authority {
  readonly #folder = mkdtempSync(join(tmpdir(), 'stomp-pubsub-tls-'));
  readonly #ca: Certificate;
  #count = 0;

  constructor() {
    keepDirectory(this.#folder);
    this.#ca = this.selfSigned('Test CA');
  }

  get caFile(): string {
    return this.#ca.certFile;
  }

  /** Signed by this authority, for these names: `DNS:broker.test,IP:127.0.0.1`; negative `days` for one that has expired. */
  sign(names: string, { days = 2 } = {}): Certificate {
    const { key, cert, request, extensions } = this.#files();
    writeFileSync(extensions, `subjectAltName=${names}\n`);
    openssl('req', ...newKey(key), '-subj', '/CN=broker', '-out', request);
    openssl(
      ...['x509', '-req', '-in', request, '-CA', this.#ca.certFile, '-CAkey', this.#ca.keyFile],
      ...['-set_serial', String(++this.#count), '-days', String(days), '-extfile', extensions, '-out', cert],
    );
    return read(cert, key);
  }

  /** Signed by nobody but itself. */
  selfSigned(name: string): Certificate {
    const { key, cert } = this.#files();
    openssl('req', '-x509', ...newKey(key), '-subj', `/CN=${name}`, '-days', '2', '-out', cert);
    return read(cert, key);
  }

  /** A file with this content. */
  file(content: string | Uint8Array): string {
    const { cert } = this.#files();
    writeFileSync(cert, content);
    return cert;
  }

  #files() {
    const base = join(this.#folder, String(++this.#count));
    return {
      key: `${base}.key`,
      cert: `${base}.pem`,
      request: `${base}.csr`,
      extensions: `${base}.ext`,
    };
  }
}

const newKey = (file: string): string[] => [
  ...['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', file],
];

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

function read(certFile: string, keyFile: string): Certificate {
  return { certFile, keyFile, cert: readFileSync(certFile), key: readFileSync(keyFile) };
}
