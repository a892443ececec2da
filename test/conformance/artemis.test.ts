import { conformance } from './suite.js';

conformance('artemis');
