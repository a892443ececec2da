import { conformance } from './suite.js';

conformance('activemq');
