import { expect, test } from '../support/fixtures.ts';
import { expectPicture, expectVideoFlows, POLL } from '../support/media.ts';
import { Studio, Watch } from '../support/pages.ts';
import { freePort, run } from '../support/process.ts';
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

test('everybody on stage is composed once for all who get it, and a receiver of SRT is one of them', async ({
  server,
  room,
  newPage,
}) => {
  const rtmp = await RtmpServer.start();
  try {
    const studio = await Studio.open(await newPage(), server, room);
    await studio.goLive();
    await studio.page.getByTestId('output-picture').selectOption('stage-720');
    await studio.addRtmp(rtmp.url, 'key');
    await studio.expectOutput(rtmp.url, 'live');

    const address = `srt://127.0.0.1:${await freePort()}`;
    const shown = ['-show_entries', 'stream=codec_name,width', '-of', 'csv=p=0'];
    const received = run('ffprobe', ['-v', 'error', ...shown, `${address}?mode=listener`]);
    await studio.addSrt(address);
    await studio.expectOutput(address, 'live');
    expect(new Set((await received).trim().split(/\s+/))).toEqual(new Set(['h264,1280', 'aac']));

    const response = await server.api('GET', `/api/rooms/${room}/egress`);
    const { jobs } = (await response.json()) as { jobs: unknown[] };
    expect(jobs, 'one worker composes for both').toHaveLength(1);
    await studio.output(rtmp.url).getByTestId('output-remove').click();
    await expect(studio.output(rtmp.url)).toHaveCount(0);
    await expect(studio.output(address)).toBeVisible();
  } finally {
    await rtmp.stop();
  }
});
