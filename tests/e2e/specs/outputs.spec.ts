import { expect, test } from '../support/fixtures.ts';
import { expectPicture, expectVideoFlows, POLL } from '../support/media.ts';
import { Studio, Watch } from '../support/pages.ts';
import { freePort } from '../support/process.ts';
import { RtmpServer } from '../support/rtmp-server.ts';

test('the broadcast reaches an RTMP server, and a wrong address is explained', async ({
  server,
  room,
  newPage,
}) => {
  const rtmp = await RtmpServer.start();
  try {
    const broadcaster = await newPage();
    const studio = await Studio.open(broadcaster, server, room);
    await studio.goLive();
    const viewer = await newPage();
    await Watch.open(viewer, server, room);

    await studio.addRtmp(rtmp.url, 'my-secret-key');
    await studio.expectOutput(rtmp.url, 'live');
    await expect(broadcaster.locator('body')).not.toContainText('my-secret-key');
    const streams = await rtmp.probe('my-secret-key');
    expect(streams.map((stream) => stream.codec_name).sort()).toEqual(['aac', 'h264']);

    const nobody = `rtmp://127.0.0.1:${await freePort()}/live`;
    await studio.addRtmp(nobody, 'key');
    await studio.expectOutput(nobody, 'retrying', 12_000);
    await expect(studio.output(nobody)).toContainText(/nothing accepts connections/i);
    await studio.expectOutput(rtmp.url, 'live');
    await expectVideoFlows(viewer);
  } finally {
    await rtmp.stop();
  }
});

test('the broadcast plays as HLS in the watch page', async ({ server, room, newPage }) => {
  const studio = await Studio.open(await newPage(), server, room);
  await studio.goLive();
  await studio.switchHls();
  await studio.expectOutput('/hls/', 'live');

  const viewer = await newPage();
  const watch = await Watch.open(viewer, server, room, '?player=hls');
  await expectPicture(viewer, 15_000);
  const position = () =>
    watch.player.evaluate((video) => (video instanceof HTMLVideoElement ? video.currentTime : 0));
  const start = await position();
  await expect
    .poll(position, { message: 'the player goes on', intervals: POLL })
    .toBeGreaterThan(start + 1);
});
