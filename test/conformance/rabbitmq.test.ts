import { conformance } from './suite.js';

conformance('rabbitmq');
