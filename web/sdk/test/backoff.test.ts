import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backoff } from '../src/backoff.ts';

test('waits double up to the cap', () => {
  const backoff = new Backoff({ firstMs: 100, capMs: 1000 }, () => 1);
  const waits = Array.from({ length: 6 }, () => backoff.next());
  assert.deepEqual(waits, [100, 200, 400, 800, 1000, 1000]);
});

test('chance shortens a wait by half at most', () => {
  const backoff = new Backoff({ firstMs: 100, capMs: 1000 }, () => 0);
  assert.equal(backoff.next(), 50);
});

test('a reset begins anew', () => {
  const backoff = new Backoff({ firstMs: 100, capMs: 1000 }, () => 1);
  backoff.next();
  backoff.next();
  assert.equal(backoff.attempt, 2);
  backoff.reset();
  assert.equal(backoff.next(), 100);
});
