#!/usr/bin/env node
import { runPublish } from '../dist/src/cli.js';

await runPublish();
