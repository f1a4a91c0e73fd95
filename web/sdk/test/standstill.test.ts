import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StandstillWatch } from '../src/standstill.ts';

/** Looks once a second from `fromS` until something is to be tried, and returns when and what. */
function wait(watch: StandstillWatch, fromS: number, position = 1) {
  for (let atS = fromS; atS < fromS + 100; atS += 1) {
    const remedy = watch.look(position, atS * 1000);
    if (remedy) return { afterS: atS - fromS, remedy };
  }
  return undefined;
}

function play(watch: StandstillWatch, fromS: number, seconds: number): void {
  for (let atS = fromS; atS < fromS + seconds; atS += 1) {
    assert.equal(watch.look(atS, atS * 1000), undefined);
  }
}

test('a player that stands is sought first, then made anew, ever more rarely', () => {
  const watch = new StandstillWatch();
  const waits = [];
  for (let at = 0; at < 600; at += 100) {
    waits.push(wait(watch, at));
    watch.tried();
  }
  const [first, ...more] = waits;
  assert.deepEqual(first, { afterS: 7, remedy: 'seek' });
  assert.deepEqual(
    more.map((more) => more?.afterS),
    [7, 14, 28, 56, 60],
  );
  assert(more.every((more) => more?.remedy === 'renew'));
});

test('what is to be tried stays so until it was tried', () => {
  const watch = new StandstillWatch();
  assert.equal(wait(watch, 0)?.remedy, 'seek');
  assert.equal(watch.look(1, 8_000), 'seek');
  watch.tried();
  assert.equal(watch.look(1, 9_000), undefined);
});

test('a remedy that moves the player a little has not helped yet', () => {
  const watch = new StandstillWatch();
  wait(watch, 0);
  watch.tried();
  play(watch, 20, 3);
  assert.equal(wait(watch, 23)?.remedy, 'renew');
  watch.tried();
  play(watch, 50, 12);
  assert.deepEqual(wait(watch, 62), { afterS: 7, remedy: 'seek' });
});

test('a player that moves, or is paused, is left alone', () => {
  const watch = new StandstillWatch();
  play(watch, 0, 60);
  assert.equal(watch.look(59, 65_000), undefined);
  assert.equal(watch.stoodMs(65_000), 6_000);
  watch.reset();
  assert.equal(watch.stoodMs(66_000), 0);
  assert.equal(watch.look(59, 90_000), undefined);
  assert.equal(watch.look(59, 96_000), undefined);
});
