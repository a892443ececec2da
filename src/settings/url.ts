/**
 * One URL for what several settings say: `stomp+ssl://user@host1:61613,host2:61613/vhost`. Hides percent-encoding, IPv6
 * addresses and any number of servers. What it complains of never shows the part that may hold a password.
 */

export interface Server {
  readonly host: string;
  readonly port: number;
}

/** What is not in the URL is undefined. */
export interface BrokerUrl {
  readonly servers: readonly Server[];
  readonly useSsl: true | undefined;
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly vhost: string | undefined;
}

const DEFAULT_PORT = 61_613;

/** Throws an Error that says what is expected. */
export function parseBrokerUrl(text: string): BrokerUrl {
  const [, scheme, rest = ''] = /^(stomp|stomp\+ssl):\/\/([^?#]*)$/i.exec(text) ?? [];
  if (scheme === undefined) {
    const [other] = /^[a-z][a-z0-9+.-]*:\/\//i.exec(text) ?? [];
    const found = other === undefined || /^stomp(?:\+ssl)?:/i.test(other) ? '' : ` in the place of ${other}`;
    throw new Error(
      `stomp://user@host:port/vhost or stomp+ssl://..., with commas between several hosts, expected${found}`,
    );
  }
  const slash = rest.indexOf('/');
  const authority = slash === -1 ? rest : rest.slice(0, slash);
  const path = slash === -1 ? '' : rest.slice(slash + 1);
  if (path.includes('/')) throw new Error('a "/" in the virtual host is written %2F');
  const at = authority.lastIndexOf('@');
  const [user = '', ...password] = authority.slice(0, Math.max(at, 0)).split(':');
  return {
    servers: authority
      .slice(at + 1)
      .split(',')
      .map(parseServer),
    useSsl: scheme.toLowerCase() === 'stomp' ? undefined : true,
    user: user === '' ? undefined : decode(user, 'user'),
    password: password.length === 0 ? undefined : decode(password.join(':'), 'password'),
    vhost: path === '' ? undefined : decode(path, 'virtual host'),
  };
}

function parseServer(text: string): Server {
  const [, host, port] = /^(\[[^[\]]+\]|[^:[\]\s]+)(?::(\d{1,5}))?$/.exec(text) ?? [];
  const number = port === undefined ? DEFAULT_PORT : Number(port);
  if (host === undefined || number < 1 || number > 65_535)
    throw new Error(`host:port or [IPv6]:port expected at ${JSON.stringify(text)}`);
  return { host: withoutBrackets(decode(host, 'host')), port: number };
}

function decode(text: string, part: string): string {
  let decoded: string;
  try {
    decoded = decodeURIComponent(text);
  } catch {
    throw new Error(`percent-encoding of the ${part} that can be decoded expected`);
  }
  if (/[\r\n\0]/.test(decoded)) throw new Error(`no line breaks or NUL bytes in the ${part} expected`);
  return decoded;
}

/** `::1` of `[::1]`. */
export function withoutBrackets(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}
