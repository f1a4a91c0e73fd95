import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  layerHeights,
  planEncodings,
  sentLayers,
  showsScreen,
  trimEncoding,
} from '../src/layers.ts';

const plan = { codec: 'h264', adapt: true, maxBitrate: 2_500_000, frameRate: 30 } as const;
const camera = { height: 720, contentHint: 'motion' };
const screen = { height: 1080, contentHint: 'detail' };
const small = { height: 480, contentHint: 'motion' };

test('a camera is sent in three qualities, the lowest first', () => {
  const layers = planEncodings(plan, camera).map(
    ({ rid, scaleResolutionDownBy, maxBitrate, active }) => [
      rid,
      scaleResolutionDownBy,
      maxBitrate,
      active,
    ],
  );
  assert.deepEqual(layers, [
    ['q', 4, 150_000, true],
    ['h', 2, 500_000, true],
    ['f', 1, 2_000_000, true],
  ]);
  assert.deepEqual(layerHeights(planEncodings(plan, camera), camera), [180, 360, 720]);
});

test('a screen is not shrunk to a quarter, and a small picture is sent once with all its bits', () => {
  assert.deepEqual(sentLayers(screen), [false, true, true]);
  assert.deepEqual(layerHeights(planEncodings(plan, screen), screen), [0, 540, 1080]);
  const encodings = planEncodings(plan, small);
  assert.deepEqual(
    encodings.map(({ active }) => active),
    [false, false, true],
  );
  assert.equal(encodings[2]?.maxBitrate, 2_500_000);
});

test('who does not adapt sends one stream, and scalable codecs one of three', () => {
  assert.equal(planEncodings({ ...plan, adapt: false }, camera).length, 1);
  const mode = (codec: 'vp9' | 'av1', picture: typeof camera, adapt = true) =>
    planEncodings({ ...plan, codec, adapt }, picture).map((encoding) => encoding.scalabilityMode);
  assert.deepEqual(mode('vp9', camera), ['L3T3_KEY']);
  assert.deepEqual(mode('av1', screen), ['L1T3']);
  assert.deepEqual(mode('vp9', camera, false), ['L1T3']);
  assert.deepEqual(
    layerHeights(planEncodings({ ...plan, codec: 'av1' }, camera), camera),
    [180, 360, 720],
  );
});

test('a scalable picture is cut down to what anybody wants', () => {
  const [planned] = planEncodings({ ...plan, codec: 'vp9' }, camera);
  assert.ok(planned);
  const cut = (wanted: boolean[]) => {
    const { scalabilityMode, scaleResolutionDownBy, maxBitrate } = trimEncoding(planned, wanted);
    return [scalabilityMode, scaleResolutionDownBy, maxBitrate];
  };
  const whole = ['L3T3_KEY', 1, 2_500_000];
  assert.deepEqual(cut([true, true, true]), whole);
  assert.deepEqual(cut([]), whole, 'nobody has said');
  assert.deepEqual(cut([true, true, false]), ['L2T3_KEY', 2, 613_208]);
  assert.deepEqual(cut([true, false, false]), ['L1T3', 4, 141_509]);
  assert.deepEqual(cut([false, false, false]), ['L1T3', 4, 141_509], 'something is always sent');
  const [single] = planEncodings({ ...plan, codec: 'vp9', adapt: false }, camera);
  assert.ok(single);
  assert.equal(trimEncoding(single, [true, false, false]), single);
});

test('a screen is known by its surface, and by its hint where browsers say nothing of that', () => {
  const shared = { displaySurface: 'monitor', height: 1080 };
  assert.equal(showsScreen(camera), false);
  assert.equal(showsScreen({ ...camera, displaySurface: undefined }), false);
  assert.equal(showsScreen(screen), true);
  assert.equal(showsScreen({ ...shared, contentHint: '' }), true);
  assert.equal(showsScreen({ ...shared, contentHint: 'motion' }), true, 'a film');
});
