import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renderDocs } from '../support/docs.js';

for (const { file, actual, expected } of renderDocs()) {
  test(`${file.split('/').at(-1) ?? file} tells what the tables in the code say (npm run docs renders it)`, () => {
    assert.equal(actual, expected);
  });
}
