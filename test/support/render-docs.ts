import { writeDocs } from './docs.js';

writeDocs();
