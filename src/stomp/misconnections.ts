/**
 * What an attempt to connect met in place of a STOMP broker that would have it: other protocols, told by their first bytes,
 * and certificates, told by the codes of Node and OpenSSL. For each, what to change.
 */

const TO_STOMP =
  'give STOMP_SERVER_PORT the port of STOMP, which is 61613 unless the broker was told otherwise';

/** Bytes (in hex) that a server of another protocol answers a CONNECT with, or greets with. */
const strangers: readonly [pattern: RegExp, message: string, advice: string][] = [
  // An alert, or a handshake.
  [
    /^1[56]030[0-4]/,
    'this port speaks TLS',
    'set STOMP_USE_SSL=true (--ssl), or give STOMP_SERVER_PORT the port without TLS',
  ],
  [/^414d5150/, 'this is a port of AMQP', TO_STOMP],
  [/^485454502f/, 'this is a port of HTTP', TO_STOMP],
  // ActiveMQ greets with the length of a command, its type and its magic.
  [/^.{10}4163746976654d51/, 'this is a port of OpenWire', TO_STOMP],
];

/** Whom these first bytes are of; undefined for what may be STOMP. */
export function strangerOf(first: Buffer) {
  const start = first.toString('hex', 0, 16);
  const found = strangers.find(([pattern]) => pattern.test(start));
  if (found === undefined) return undefined;
  const [, message, advice] = found;
  return { kind: 'protocol', message, advice, isConfiguration: true } as const;
}

const clientFiles = 'DEFAULT_STOMP_CERT_FILE and DEFAULT_STOMP_KEY_FILE';

/** Codes of Node and OpenSSL; an ALERT is what the server told before it hung up. */
const certificates: readonly [pattern: RegExp, advice: string][] = [
  [/^CERT_HAS_EXPIRED/, 'renew the certificate of the broker, or that of its authority, which has expired'],
  [/^CERT_NOT_YET_VALID/, 'the certificate of the broker is valid later: are the clocks right?'],
  [/ALTNAME_INVALID/, 'connect by a name that the certificate has, or give that as STOMP_SSL_SERVER_NAME'],
  [/SELF_SIGNED|DEPTH_ZERO|^UNABLE_TO_/, 'give the authority of its certificate as DEFAULT_STOMP_CA_CERTS'],
  [/ALERT_CERTIFICATE_REQUIRED/, `the broker asks for a client certificate: set ${clientFiles}`],
  // What RabbitMQ 3.10 says for want of one, with TLS 1.2.
  [
    /ALERT_HANDSHAKE_FAILURE/,
    `the broker asks for a client certificate (set ${clientFiles}), or shares no version or cipher of TLS`,
  ],
  [/ALERT_CERTIFICATE_EXPIRED/, 'the client certificate has expired: renew DEFAULT_STOMP_CERT_FILE'],
  [
    /ALERT_(?:BAD_CERTIFICATE|UNKNOWN_CA|CERTIFICATE_UNKNOWN|UNSUPPORTED_CERTIFICATE)/,
    'the broker does not trust the client certificate: DEFAULT_STOMP_CERT_FILE must be of an authority that it knows',
  ],
  [
    /WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG/,
    'this port speaks no TLS: give STOMP_SERVER_PORT the port with TLS, or leave STOMP_USE_SSL away',
  ],
  [/^(?:CERT_|ERR_TLS_|ERR_SSL_|ERR_OSSL_|EPROTO)/, 'check STOMP_USE_SSL, the port and the certificates'],
];

/** What to do about an error of TLS; undefined for a code of anything else. */
export function tlsAdvice(code: string): string | undefined {
  return certificates.find(([pattern]) => pattern.test(code))?.[1];
}

/** `tlsv13 alert certificate required` of what OpenSSL says with its own files and lines. */
export function tlsReason(message: string): string {
  return /:SSL routines:[^:]*:([^:]+):/.exec(message)?.[1] ?? message;
}
