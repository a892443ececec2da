import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { brokerEnd, describeEnd, endError, transportEnd } from '../../../src/stomp/session-end.js';

const errorFrame = (message: string | undefined, body = '') => ({
  command: 'ERROR',
  headers: message === undefined ? {} : { message },
  body: Buffer.from(body),
});
const unknown = () => undefined;
const told = (message: string | undefined, body?: string) =>
  brokerEnd(errorFrame(message, body), unknown).message;

describe('brokerEnd', () => {
  it("T26: takes RabbitMQ's summary with its body, and ActiveMQ's message without its stack trace", () => {
    const refused = "Access refused for user 'guest'\n";
    assert.equal(
      told('Bad CONNECT', refused),
      'the broker says "Bad CONNECT: Access refused for user \'guest\'"',
    );
    const trace =
      'java.lang.SecurityException: User name [u] or password is invalid.\n\tat org.apache.X.y(X.java:1)\n';
    assert.equal(
      told('User name [u] or password is invalid.', trace),
      'the broker says "User name [u] or password is invalid."',
    );
  });

  it('says something of a frame that says nothing', () => {
    assert.equal(told(undefined), 'the broker says "ERROR"');
  });

  it('goes by what is known of the text', () => {
    const diagnosis = { isConfiguration: true, advice: 'check the password' };
    const end = brokerEnd(errorFrame('Bad CONNECT'), (text) =>
      text === 'Bad CONNECT' ? diagnosis : undefined,
    );
    assert.deepEqual(end, { kind: 'broker', message: 'the broker says "Bad CONNECT"', ...diagnosis });
    assert.equal(describeEnd(end), 'the broker says "Bad CONNECT" (check the password)');
    assert.equal(endError(end, 'SEND').code, 'broker-refused');
  });

  it('keeps no more than some kilobytes, wherever a broker puts the rest', () => {
    const long = 'x'.repeat(1e6);
    for (const [message, body] of [
      ['summary', `${long} y`],
      [long, ''],
      [long, long],
      [undefined, long],
    ] as const) {
      assert.ok(told(message, body).length < 10_000);
    }
  });
});

describe('transportEnd', () => {
  const failure = (code: string, message = 'it failed') => Object.assign(new Error(message), { code });

  it('takes an error of a certificate for what only settings cure', () => {
    for (const code of ['CERT_HAS_EXPIRED', 'DEPTH_ZERO_SELF_SIGNED_CERT', 'ERR_TLS_CERT_ALTNAME_INVALID']) {
      const end = transportEnd(failure(code));
      assert.deepEqual([end.isConfiguration, end.code], [true, code]);
      assert.equal(endError(end, 'cannot connect', 'broker-unreachable').code, 'broker-refused');
    }
  });

  it('takes a connection that is refused or reset for what waiting cures', () => {
    assert.match(describeEnd(transportEnd(failure('ECONNREFUSED'))), /it failed \(nothing listens there/);
    const reset = transportEnd(failure('ECONNRESET'));
    assert.equal(describeEnd(reset), 'it failed');
    assert.equal(endError(reset, 'SEND').code, 'connection-lost');
    assert.equal(endError(reset, 'SEND', 'not-confirmed').code, 'not-confirmed');
  });

  it('tells what was wrong with each address of a name', () => {
    const failures = ['one', 'two'].map((message) => new Error(message));
    const all = Object.assign(new AggregateError(failures), { code: 'ECONNREFUSED' });
    assert.match(describeEnd(transportEnd(all)), /^one; two \(/);
  });
});
