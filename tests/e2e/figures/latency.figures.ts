import { readClock, replaceCameraByClock } from '../support/clock.ts';
import { expect, test } from '../support/fixtures.ts';
import { expectVideoFlows } from '../support/media.ts';
import { Studio, Watch } from '../support/pages.ts';
import { noteRow } from './table.ts';

for (const codec of ['h264', 'vp8']) {
  test(`latency, ${codec}`, async ({ server, room, newPage }) => {
    const broadcaster = await newPage();
    await replaceCameraByClock(broadcaster.context());
    const studio = await Studio.open(broadcaster, server, room, `?codec=${codec}`);
    await studio.goLive();
    const viewer = await newPage();
    await Watch.open(viewer, server, room);
    await expectVideoFlows(viewer, 90);
    const { latencies, misread } = await readClock(viewer, 20_000);
    expect(misread, 'frames whose clock could not be read').toBeLessThan(latencies.length / 50);
    noteRow(`broadcaster to viewer, 720p30 ${codec.toUpperCase()}`, latencies);
  });
}

test('latency after the broadcaster has reloaded the page', async ({ server, room, newPage }) => {
  const broadcaster = await newPage();
  await replaceCameraByClock(broadcaster.context());
  const studio = await Studio.open(broadcaster, server, room);
  await studio.goLive();
  const viewer = await newPage();
  await Watch.open(viewer, server, room);
  await expectVideoFlows(viewer, 90);
  await broadcaster.reload();
  await studio.expectOnAir();
  await expectVideoFlows(viewer, 90);
  const { latencies } = await readClock(viewer, 20_000);
  noteRow('broadcaster to viewer, after a reload of the broadcaster', latencies);
});
