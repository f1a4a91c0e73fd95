import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HoleWatch } from '../src/hole.ts';

const HOLE = [
  { start: 0, end: 2 },
  { start: 4, end: 9 },
];

test('goes on behind a hole that a player stands before', () => {
  const holes = new HoleWatch();
  assert.equal(holes.look(2, HOLE, 0), undefined);
  assert.equal(holes.look(2, HOLE, 1000), undefined);
  assert.equal(holes.look(2, HOLE, 1600), 4.01);
});

test('goes on at the first media, if there is none where the player is', () => {
  const holes = new HoleWatch();
  holes.look(0, [{ start: 2, end: 12 }], 0);
  assert.equal(holes.look(0, [{ start: 2, end: 12 }], 1600), 2.01);
});

test('a player that moves, or is paused, is left alone', () => {
  const holes = new HoleWatch();
  holes.look(1.8, HOLE, 0);
  assert.equal(holes.look(2, HOLE, 2000), undefined);
  holes.reset();
  assert.equal(holes.look(2, HOLE, 9000), undefined);
});

test('a link that brings nothing is waited for', () => {
  const holes = new HoleWatch();
  holes.look(2, [{ start: 0, end: 2 }], 0);
  assert.equal(holes.look(2, [{ start: 0, end: 2 }], 60_000), undefined);
});

test('a decoder that takes its time is waited for', () => {
  const holes = new HoleWatch();
  holes.look(1, HOLE, 0);
  assert.equal(holes.look(1, HOLE, 60_000), undefined);
});
