/** From settings to what a TLS connection is given: authorities, a certificate with its key, the name that is asked for. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext, type ConnectionOptions, type SecureContext } from 'node:tls';
import { PubsubError, reasonOf } from '../errors.js';
import type { Settings } from '../settings.js';

/** Files are read for each connection, so that renewed certificates count. Throws `invalid-setting`. */
export function tlsOptions(settings: Settings, host: string): ConnectionOptions {
  const { sslServerName, sslVerify } = settings;
  return {
    // An IP address is no name for SNI; the certificate is then checked against the address.
    ...(sslServerName === undefined ? {} : { servername: sslServerName }),
    ...(sslServerName === undefined && !/^[\d.]+$|:/.test(host) ? { servername: host } : {}),
    secureContext: secureContext(settings),
    rejectUnauthorized: sslVerify,
  };
}

function secureContext({ caFile, certFile, keyFile }: Settings): SecureContext {
  const files = {
    ...(caFile === undefined ? {} : { ca: readAuthorities(caFile) }),
    ...(certFile === undefined ? {} : { cert: readPem('DEFAULT_STOMP_CERT_FILE', certFile) }),
    ...(keyFile === undefined ? {} : { key: readPem('DEFAULT_STOMP_KEY_FILE', keyFile) }),
  };
  try {
    return createSecureContext(files);
  } catch (error) {
    const message = `DEFAULT_STOMP_CERT_FILE, DEFAULT_STOMP_KEY_FILE: no certificate with its key: ${reasonOf(error)}`;
    throw new PubsubError('invalid-setting', message, { cause: error });
  }
}

/** Without one OpenSSL would trust nobody, and say so of the broker's certificate. */
function readAuthorities(file: string): Buffer {
  const variable = 'DEFAULT_STOMP_CA_CERTS';
  const pem = readPem(variable, file);
  const [first] =
    /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[^]*?(?:-----END|$)/.exec(pem.toString('latin1')) ?? [];
  if (first === undefined)
    throw new PubsubError(
      'invalid-setting',
      `${variable}: no certificate in ${file}; PEM is expected (BEGIN CERTIFICATE)`,
    );
  try {
    new X509Certificate(pem);
    return pem;
  } catch (error) {
    throw new PubsubError('invalid-setting', `${variable}: ${file} cannot be used: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

function readPem(variable: string, file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new PubsubError('invalid-setting', `${variable}: ${reasonOf(error)}`, { cause: error });
  }
}
