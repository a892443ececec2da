import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openRaw } from '../../support/raw-client.js';
import { brokerFor } from './support.js';

/** Frames as they are sent (`|` for a line end) and what comes back, the last one with its text; `FIN` is the end. */
type Case = [sent: string, answers: string[], text: string];

const unequal = (argument: string, received: string, current: string) =>
  `PRECONDITION_FAILED - inequivalent arg '${argument}' for queue 'q' in vhost '/': received ${received} but current is ${current}`;
const locked =
  "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.";
const subscribe = 'SUBSCRIBE|id:s|receipt:1|destination:';
const send = 'SEND|receipt:1|destination:';
const fatal = (title: string) => [`ERROR ${title}`, 'FIN'];
const fatalWithReceipt = (title: string) => [`ERROR ${title}`, 'RECEIPT', 'FIN'];
const open = (title: string) => [`ERROR ${title}`];

/** A queue `q` is there with a dead-letter exchange, `plain` without arguments. Seen on RabbitMQ 3.10.8. */
const cases: Case[] = [
  [
    `${subscribe}/queue/q`,
    fatalWithReceipt('precondition_failed'),
    unequal('x-dead-letter-exchange', 'none', "the value '' of type 'longstr'"),
  ],
  [
    `${send}q`,
    fatal('precondition_failed'),
    unequal('x-dead-letter-exchange', 'none', "the value '' of type 'longstr'"),
  ],
  [
    `${send}q|x-dead-letter-exchange:|x-dead-letter-routing-key:b`,
    fatal('precondition_failed'),
    unequal('x-dead-letter-routing-key', "'b'", "'a'"),
  ],
  [
    `${send}q|x-dead-letter-exchange:|x-dead-letter-routing-key:a|x-max-length:4`,
    fatal('precondition_failed'),
    unequal('x-max-length', "the value '4' of type 'long'", 'none'),
  ],
  [
    `${subscribe}q|auto-delete:true`,
    fatalWithReceipt('precondition_failed'),
    unequal('auto_delete', "'true'", "'false'"),
  ],
  [`${subscribe}q|durable:false`, fatalWithReceipt('resource_locked'), locked],
  [`${subscribe}q|exclusive:true`, fatalWithReceipt('resource_locked'), locked],
  [
    `${send}new|x-dead-letter-routing-key:k`,
    fatal('precondition_failed'),
    "PRECONDITION_FAILED - invalid arg 'x-dead-letter-routing-key' for queue 'new' in vhost '/': routing_key_but_no_dlx_defined",
  ],
  [
    `${send}new|x-message-ttl:-1`,
    fatal('precondition_failed'),
    "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'new' in vhost '/': {value_negative,-1}",
  ],
  [
    `${send}new|x-expires:0`,
    fatal('precondition_failed'),
    "PRECONDITION_FAILED - invalid arg 'x-expires' for queue 'new' in vhost '/': {value_zero,0}",
  ],
  [
    `${send}new|x-queue-type:nope`,
    fatal('precondition_failed'),
    `PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue 'new' in vhost '/': "unsupported queue type 'nope'"`,
  ],
  [`${send}new|x-message-ttl:abc`, open('Processing error'), 'Processing error'],
  [`${subscribe}plain|prefetch-count:x`, open('Processing error'), 'Processing error'],
  [`${subscribe}plain|ack:nope`, open('Processing error'), 'Processing error'],
  [`${subscribe}/amq/queue/x`, fatalWithReceipt('not_found'), "NOT_FOUND - no queue 'x' in vhost '/'"],
  [`${subscribe}/exchange/x/k`, fatalWithReceipt('not_found'), "NOT_FOUND - no exchange 'x' in vhost '/'"],
  [`${send}/exchange/x/k`, fatal('not_found'), "NOT_FOUND - no exchange 'x' in vhost '/'"],
  [
    'SUBSCRIBE|id:s|destination:plain||\0SUBSCRIBE|id:s|receipt:1|destination:plain',
    fatalWithReceipt('Duplicated subscription identifier'),
    "A subscription identified by 'T_s' already exists.",
  ],
  [
    `${send}/foo/bar`,
    open('Unknown destination'),
    "'/foo/bar' is not a valid destination.\nValid destination types are: /temp-queue, /exchange, /topic, /queue, /amq/queue, /reply-queue/.\n",
  ],
  [`${send}/queue/a/b`, open('Invalid destination'), "'/a/b' is not a valid queue destination\n"],
  [`${subscribe}/topic/`, open('Invalid destination'), "'/' is not a valid topic destination\n"],
  [subscribe, open('Invalid destination'), 'Destination cannot be blank'],
  [
    `${subscribe}/temp-queue/x`,
    open('Invalid destination'),
    "'/temp-queue/x' is not a valid destination for 'SUBSCRIBE'\n",
  ],
  ['SEND|a:b', open('Missing destination'), `"SEND" must include a 'destination' header\n`],
  [`${send}plain|message-id:1`, open('Invalid header'), "'message-id' is not allowed on 'SEND'.\n"],
  [
    `${send}plain|expiration:abc`,
    fatal('precondition_failed'),
    "PRECONDITION_FAILED - invalid expiration 'abc': no_integer",
  ],
  [
    `${send}plain|user-id:x`,
    fatal('precondition_failed'),
    "PRECONDITION_FAILED - user_id property set to 'x' but authenticated user was 'guest'",
  ],
  ['ACK|receipt:1', open('Missing header'), '"ACK" must include the "id" header\n'],
  ['NACK|id:garbage|receipt:1', open('Invalid header'), '"NACK" must include a valid "id" header\n'],
  [
    'ACK|id:T_s@@session-x@@1|receipt:1',
    open('Subscription not found'),
    'Message with id "T_s@@session-x@@1" has no subscription',
  ],
  [
    'SUBSCRIBE|id:s|destination:plain||\0ACK|id:T_s@@session-x@@7|receipt:1',
    ['RECEIPT', ...fatal('precondition_failed')],
    'PRECONDITION_FAILED - unknown delivery tag 7',
  ],
  [
    'UNSUBSCRIBE|receipt:1',
    open('Missing destination or id'),
    "UNSUBSCRIBE must include a 'destination' or 'id' header",
  ],
  [
    'UNSUBSCRIBE|id:nope|receipt:1',
    open('No subscription found'),
    `UNSUBSCRIBE must refer to an existing subscription.\nSubscription to "id='nope'" not found.\n`,
  ],
  ['BEGIN|receipt:1', open('Missing transaction'), `"BEGIN" must include a 'transaction' header\n`],
  ['COMMIT|transaction:nope|receipt:1', open('Bad transaction'), 'Invalid transaction identifier: "nope"\n'],
  [`${send}plain|transaction:nope`, open('Bad transaction'), 'Invalid transaction identifier: "nope"\n'],
  [
    'BEGIN|transaction:a||\0BEGIN|transaction:a|receipt:1',
    open('Bad transaction'),
    'Transaction identifier "a" is in use already\n',
  ],
  ['FOO|a:b', open('Bad command'), 'Could not interpret command "FOO"\n'],
  ['__proto__|a:b', open('Bad command'), 'Could not interpret command "__proto__"\n'],
  // RabbitMQ ends these without an ERROR.
  [
    `${send}${'x'.repeat(256)}`,
    fatal('precondition_failed'),
    `PRECONDITION_FAILED - destination '${'x'.repeat(40)}...' is longer than 255 bytes`,
  ],
  [
    `${send}new|x-dead-letter-exchange:${'x'.repeat(256)}`,
    fatal('precondition_failed'),
    `PRECONDITION_FAILED - x-dead-letter-exchange '${'x'.repeat(40)}...' is longer than 255 bytes`,
  ],
  ['SEND|no colon', fatal('Malformed frame'), 'a header line of SEND has no colon'],
  ['SEND|a:\\x', fatal('Malformed frame'), 'undefined escape "\\\\x" in a header'],
  ['SEND|a:\0b', fatal('Malformed frame'), 'a header contains a NUL byte'],
  ['SEND|a:b|a:\0', fatal('Malformed frame'), 'a header contains a NUL byte'],
  ['CONNECT|accept-version:1.2', fatal('Illegal command'), 'You are logged in already\n'],
];

for (const [sent, answers, text] of cases) {
  test(`${JSON.stringify(sent)} is answered by ${answers.join(', ')}`, async (context) => {
    const { broker, connect } = await brokerFor(context);
    const arguments_ = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'a' };
    broker.publish('/queue/q', '', arguments_);
    broker.publish('/queue/plain', '');
    const client = await connect();
    client.write(`${sent.replaceAll('|', '\n')}\n\n\0`);
    if (answers.includes('FIN')) await client.closed;
    else await client.receipt('SEND', { destination: '/amq/queue/nowhere' }).catch(() => undefined);
    const seen = client.frames
      .filter(({ command, headers }) => command === 'ERROR' || headers['receipt-id'] === '1')
      .map(({ command, headers }) => (command === 'ERROR' ? `ERROR ${headers.message ?? ''}` : command));
    assert.deepEqual([...seen, ...(client.isClosed ? ['FIN'] : [])], answers);
    const error = client.frames.find(({ command }) => command === 'ERROR');
    assert.equal(error?.body.toString(), text);
    assert.equal(error.headers['content-type'], 'text/plain');
    assert.equal(error.headers.version, '1.0,1.1,1.2');
  });
}

const beforeLogin: [name: string, frame: string, title: string, text: string, isFatal: boolean][] = [
  [
    'a frame before CONNECT',
    'SEND\ndestination:q\n\n\0',
    'Illegal command',
    'You must log in using CONNECT first',
    false,
  ],
  [
    'another version',
    'CONNECT\naccept-version:1.3\n\n\0',
    'Version mismatch',
    'Supported versions are 1.0,1.1,1.2\n',
    false,
  ],
  [
    'heart-beats that are no numbers',
    'STOMP\nlogin:app\npasscode:secret\nheart-beat:abc\n\n\0',
    'Processing error',
    'Processing error',
    false,
  ],
  [
    'a wrong password',
    'CONNECT\nlogin:app\npasscode:no\n\n\0',
    'Bad CONNECT',
    "Access refused for user 'app'\n",
    true,
  ],
  ['no login where one is needed', 'CONNECT\n\n\0', 'Bad CONNECT', "Access refused for user 'guest'\n", true],
];
for (const [name, frame, title, text, isFatal] of beforeLogin) {
  test(`${name} is answered by ${title}`, async (context) => {
    const { login } = await brokerFor(context, { user: 'app', password: 'secret' });
    const client = await openRaw(login);
    context.after(() => client.destroy());
    client.write(frame);
    const error = await client.next('ERROR');
    assert.deepEqual([error.headers.message, error.body.toString()], [title, text]);
    if (isFatal) await client.closed;
    else {
      client.send('CONNECT', { login: 'app', passcode: 'secret' });
      await client.next('CONNECTED');
    }
  });
}
