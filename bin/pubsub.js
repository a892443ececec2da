#!/usr/bin/env node
import { runPubsub } from '../dist/src/cli.js';

await runPubsub();
