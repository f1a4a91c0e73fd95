import { readClock, replaceCameraByClock } from '../support/clock.ts';
import { expect, test } from '../support/fixtures.ts';
import { Studio, Watch } from '../support/pages.ts';
import { noteRow } from './table.ts';

test('low-latency HLS', async ({ server, room, newPage }) => {
  const broadcaster = await newPage();
  await replaceCameraByClock(broadcaster.context());
  const studio = await Studio.open(broadcaster, server, room, '?codec=h264');
  await studio.goLive();
  await studio.switchHls();
  await studio.expectOutput('/hls/', 'live');
  const viewer = await newPage();
  const watch = await Watch.open(viewer, server, room, '?player=hls');
  await watch.expectPlaying(10);
  const { latencies, misread } = await readClock(viewer, 20_000);
  expect(misread, 'frames whose clock could not be read').toBeLessThan(latencies.length / 10);
  noteRow('camera to decoded frame, LL-HLS in hls.js', latencies);
});
