import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { diagnose } from '../../../src/brokers/diagnoses.js';

describe('diagnose', () => {
  /** The texts of both brokers as the session joins them: RabbitMQ's summary and body, ActiveMQ's message. */
  const known: readonly [text: string, isConfiguration: boolean, advice: RegExp][] = [
    ["Bad CONNECT: Access refused for user 'guest'", true, /STOMP_SERVER_USER and STOMP_SERVER_PASSWORD/],
    ['User name [u] or password is invalid.', true, /STOMP_SERVER_USER and STOMP_SERVER_PASSWORD/],
    ['User name [null] or password is invalid.', true, /STOMP_SERVER_USER and STOMP_SERVER_PASSWORD/],
    ["Bad CONNECT: Virtual host '/nope' access denied", true, /STOMP_SERVER_VHOST/],
    ['Version mismatch: Supported versions are 1.0,1.1,1.2', true, /STOMP 1\.2/],
    ['Invalid Protocol version[1.3], supported versions are: [1.2, 1.1, 1.0]', true, /STOMP 1\.2/],
    [
      "access_refused: ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'u'",
      true,
      /permission/,
    ],
    ['User u is not authorized to write to: queue://q', true, /permission/],
    ['User u is not authorized to read from: queue://q', true, /permission/],
    [
      'Broker: localhost - Client: c already connected from tcp://127.0.0.1:58744',
      false,
      /STOMP_LISTENER_CLIENT_ID/,
    ],
    [
      "resource_locked: RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'xpto' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.",
      true,
      /STOMP_DEFAULT_EXCLUSIVE_QUEUE/,
    ],
    [
      'precondition_failed: PRECONDITION_FAILED - message size 157286400 is larger than configured max size 134217728',
      true,
      /too large/,
    ],
    ['The maximum data length was exceeded', true, /too large/],
    ['The maximum number of headers was exceeded', true, /headers/],
    ['The maximum header length was exceeded', true, /headers/],
    [
      'AMQP channel died: Reason: {{case_clause,{error,content_properties_shortstr_overflow}}, [{rabbit_channel,deliver_to_queues,3,',
      true,
      /longer than 255 bytes/,
    ],
    [
      'precondition_failed: PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 6000 ms. This timeout value can be configured, see consumers doc guide to learn more',
      false,
      /consumer_timeout/,
    ],
    [
      "precondition_failed: PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'xpto' in vhost '/': received none but current is the value '' of type 'longstr'",
      true,
      /other arguments: use it as it is: --no-declare$/,
    ],
    [
      "precondition_failed: PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'xpto' in vhost '/': received none but current is the value '60000' of type 'long'",
      true,
      /other arguments: --queue-argument x-message-ttl=60000, or use it as it is: --no-declare$/,
    ],
    [
      "precondition_failed: PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'xpto' in vhost '/': received '900' but current is '700'",
      true,
      /--queue-argument x-message-ttl=700, or/,
    ],
    [
      "precondition_failed: PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'xpto' in vhost '/': received the value '9' of type 'long' but current is none",
      true,
      /leave --queue-argument x-max-length away, or use it as it is: --no-declare$/,
    ],
    [
      "precondition_failed: PRECONDITION_FAILED - inequivalent arg 'x-single-active-consumer' for queue 'xpto' in vhost '/': received none but current is the value 'true' of type 'bool'",
      true,
      /other arguments: use it as it is: --no-declare$/,
    ],
    [
      "precondition_failed: PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'xpto' in vhost '/': received none but current is the value 'stream' of type 'longstr'",
      true,
      /other arguments: use it as it is: --no-declare$/,
    ],
    [
      "precondition_failed: PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'xpto' in vhost '/' of queue type rabbit_quorum_queue",
      true,
      /^a quorum queue has no x-max-priority: leave it away, or use another --queue-type$/,
    ],
    [
      "precondition_failed: PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'DLQ.xpto' in vhost '/': received none but current is the value '60000' of type 'long'",
      true,
      /the dead-letter queue exists with other arguments: delete it, or use it as it is: --no-declare$/,
    ],
    [
      "precondition_failed: PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'xpto.retry.50' in vhost '/': received none but current is the value 'quorum' of type 'longstr'",
      true,
      /^delete this queue, in which messages wait for their retry$/,
    ],
    [
      "access_refused: ACCESS_REFUSED - queue 'xpto' in vhost '/' in exclusive use",
      false,
      /another consumer has the queue for itself/,
    ],
    [
      "precondition_failed: PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'xpto' in vhost '/': received the value 'quorum' of type 'longstr' but current is none",
      true,
      /STOMP_QUEUE_TYPE/,
    ],
    ['precondition_failed: PRECONDITION_FAILED - unknown delivery tag 1', false, /settled twice/],
    ['Unexpected ACK received for message-id [null]', false, /settled twice/],
    [
      "not_found: NOT_FOUND - home node 'rabbit@a' of durable queue 'x' in vhost '/' is down or inaccessible",
      false,
      /node that holds the queue is down/,
    ],
    [
      "not_found: NOT_FOUND - failed to perform operation on queue 'x' in vhost '/' due to timeout",
      false,
      /node that holds the queue is down/,
    ],
    ["not_found: NOT_FOUND - no queue 'x' in vhost '/'", true, /create what is missing/],
    ["Unknown destination: '/foo/bar' is not a valid destination.", true, /correct the destination/],
    ["Invalid destination: '/a/b' is not a valid queue destination", true, /correct the destination/],
    [
      'Server cancelled subscription: The server has canceled a subscription. No more messages will be delivered for "id=\'s\'".',
      false,
      /deleted/,
    ],
  ];
  for (const [text, isConfiguration, advice] of known) {
    const cure = isConfiguration ? 'what only settings cure' : 'what trying again cures';
    it(`takes ${JSON.stringify(text.slice(0, 90))} for ${cure}`, () => {
      const diagnosis = diagnose(text);
      assert.equal(diagnosis?.isConfiguration, isConfiguration);
      assert.match(diagnosis.advice, advice);
    });
  }

  /** What a client that speaks the protocol never causes, and what an operator did: trying again is all there is. */
  const unknown = [
    'Bad command: Could not interpret command "FOO"',
    'Unknown STOMP action: FOO',
    'Illegal command: You must log in using CONNECT first',
    'Not connected.',
    'Already connected.',
    'Processing error: Processing error',
    'content-length bytes were read and there was no trailing null byte',
    'AMQP channel died: Reason: {shutdown,{connection_closing,{server_initiated_close,320,<<"CONNECTION_FORCED">>}}}',
    '',
  ];
  for (const text of unknown) {
    it(`has nothing to say of ${JSON.stringify(text.slice(0, 60))}, which is tried again`, () => {
      assert.equal(diagnose(text), undefined);
    });
  }
});
