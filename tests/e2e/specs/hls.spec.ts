import { expect, test } from '../support/fixtures.ts';
import { expectPicture } from '../support/media.ts';
import { Studio, Watch } from '../support/pages.ts';
import { Server } from '../support/server.ts';

// A playlist begins with whole segments of two seconds, and a token has to expire.
test.slow();

test('low-latency HLS offers each layer as a quality, in step', async ({
  server,
  room,
  newPage,
}) => {
  const studio = await Studio.open(await newPage(), server, room, '?codec=h264');
  await studio.goLiveAsHls();
  const viewer = await newPage();
  const watch = await Watch.open(viewer, server, room, '?player=hls');
  await watch.expectPlaying(3);
  await expectPicture(viewer);
  await studio.expectViewers(1);
  const shown = () =>
    watch.player.evaluate((video) => (video instanceof HTMLVideoElement ? video.videoHeight : 0));
  const menu = viewer.getByTestId('quality-menu');
  const labels = await menu.locator('option').allTextContents();
  const heights = labels
    .filter((label) => /^\d+p$/.test(label))
    .map((label) => parseInt(label, 10));
  // The first viewer, who was there before the second segment.
  expect(heights.length, `${labels}`).toBeGreaterThan(1);
  const [least, most] = [Math.min(...heights), Math.max(...heights)];
  await menu.selectOption(`${least}p`);
  await expect.poll(shown, { message: 'the smallest is shown', timeout: 12_000 }).toBe(least);
  await menu.selectOption(`${most}p`);
  // A camera on a busy machine may send it a little smaller by now.
  await expect
    .poll(shown, { message: 'the largest is shown', timeout: 12_000 })
    .toBeGreaterThan(least);
  await watch.expectPlaying(2);

  const text = async (path: string) => (await fetch(`${server.origin}/hls/${room}/${path}`)).text();
  // By name: when each begins, and how long it is.
  const segments = async (folder: string) => {
    const lines = await text(`${folder}/index.m3u8`);
    const parts = '(?:#EXT-X-PART:\\S*\\n)*';
    const all = lines.matchAll(
      new RegExp(`DATE-TIME:(\\S+)\\n${parts}#EXTINF:([\\d.]+),\\n(?:#\\S*\\n)*(seg-\\S+)`, 'g'),
    );
    return new Map([...all].map(([, date, duration, name]) => [name, `${date} ${duration}`]));
  };
  const [upper, lower] = await Promise.all([segments('v0'), segments('v1')]);
  const common = [...upper.keys()].filter((name) => lower.has(name));
  expect(common.length, 'both list the same segments').toBeGreaterThan(1);
  for (const name of common) expect(lower.get(name), name).toBe(upper.get(name));
});

test('who listens sees the camera that is switched on later', async ({ server, room, newPage }) => {
  const studio = await Studio.open(await newPage(), server, room, '?codec=h264');
  await studio.use('audio');
  await studio.goLiveAsHls();
  const viewer = await newPage();
  const watch = await Watch.open(viewer, server, room, '?player=hls');
  await watch.expectPlaying(1);
  await studio.use('camera');
  await expectPicture(viewer, 30_000);
});

test('who watches goes on when HLS is replaced, or switched off and on', async ({
  server,
  room,
  newPage,
}) => {
  const studio = await Studio.open(await newPage(), server, room, '?codec=h264');
  await studio.goLive();
  const jobs = `/api/rooms/${room}/egress`;
  const destinations = [{ type: 'hls' }];
  const start = async () => (await server.api('POST', jobs, { destinations })).json();
  const first = await start();
  await studio.expectOutput('/hls/', 'live');
  const viewer = await newPage();
  const watch = await Watch.open(viewer, server, room, '?player=hls');
  await watch.expectPlaying(2);

  const change = { remove: ['d1'], add: destinations };
  const changed = await server.api('PATCH', `${jobs}/${first.id}`, change);
  expect(changed.status).toBe(200);
  // More than a player has ahead.
  await watch.expectPlaying(14, 45_000);
  await expectPicture(viewer);

  await server.api('DELETE', `${jobs}/${first.id}`);
  await watch.expectOverlay(/Not available.*is live, but .* switched off/s);
  const usual = viewer.getByTestId('player-overlay').getByRole('link');
  await expect(usual).toHaveAttribute('href', `/watch/${room}`);
  await expect(viewer.locator('body')).not.toContainText('Off air');
  // All that had come is played.
  await watch.expectStanding();
  await start();
  await studio.expectOutput('/hls/', 'live');
  await watch.expectNoOverlay();
  await watch.expectPlaying(4);
  await expectPicture(viewer);
});

test('a player that stands still gets going by itself', async ({ server, room, newPage }) => {
  const studio = await Studio.open(await newPage(), server, room);
  await studio.goLiveAsHls();
  const viewer = await newPage();
  await viewer.addInitScript(() => {
    const { appendBuffer } = SourceBuffer.prototype;
    const stuck = new WeakSet<SourceBuffer>();
    const seen = new Set<SourceBuffer>();
    SourceBuffer.prototype.appendBuffer = function (data) {
      seen.add(this);
      if (!stuck.has(this)) appendBuffer.call(this, data);
    };
    window.addEventListener('stick', () => {
      for (const buffer of seen) stuck.add(buffer);
    });
  });
  const watch = await Watch.open(viewer, server, room, '?player=hls');
  await watch.expectPlaying(2);
  // What it has takes in no more, and never says so.
  await viewer.evaluate(() => window.dispatchEvent(new Event('stick')));
  await watch.expectStanding();
  await watch.expectPlaying(3, 45_000);
  await expectPicture(viewer);
});

test('a quality that was shown long ago is shown again at once', async ({
  server,
  room,
  newPage,
}) => {
  const studio = await Studio.open(await newPage(), server, room, '?codec=h264');
  await studio.goLiveAsHls();
  const viewer = await newPage();
  // One segment is much longer than others: who guesses from these where a playlist is by now is far out.
  let first: number | undefined;
  await viewer.route(/\/v\d+\/index\.m3u8/, async (route) => {
    const response = await route.fetch({ timeout: 0 });
    const playlist = await response.text();
    const number = Number(/MEDIA-SEQUENCE:(\d+)/.exec(playlist)?.[1]);
    first ??= number;
    const body = number === first ? withLongSegment(playlist, number - 1) : playlist;
    await route.fulfill({ response, body });
  });
  const watch = await Watch.open(viewer, server, room, '?player=hls');
  await watch.expectPlaying(1);
  const menu = viewer.getByTestId('quality-menu');
  const height = () => watch.player.evaluate((video) => (video as HTMLVideoElement).videoHeight);
  const labels = await menu.locator('option').allTextContents();
  const heights = labels.map((label) => parseInt(label, 10)).filter((height) => height > 0);
  const [least, most] = [Math.min(...heights), Math.max(...heights)];
  await menu.selectOption(`${least}p`);
  await expect.poll(height, { message: 'the smallest is shown' }).toBe(least);
  const listed = async (which: 'first' | 'last') => {
    const playlist = await fetch(`${server.origin}/hls/${room}/v0/index.m3u8`);
    const names = [...(await playlist.text()).matchAll(/\nseg-(\d+)/g)].map(([, name]) => name);
    return Number(names.at(which === 'first' ? 0 : -1));
  };
  await menu.selectOption(`${most}p`);
  await expect.poll(height, { message: 'the largest is shown' }).toBeGreaterThan(least);
  const left = await listed('last');
  expect(await listed('first'), 'the long segment was there').toBe(first);
  const gone = { message: 'what the player knew is gone', timeout: 40_000 };
  await expect.poll(() => listed('first'), gone).toBeGreaterThan(left);

  await menu.selectOption(`${least}p`);
  expect(await watch.longestStand(10), 'it goes on').toBeLessThan(5);
  expect(await height()).toBe(least);
  await viewer.unrouteAll({ behavior: 'ignoreErrors' });
});

test('a private broadcast plays until its address expires', async ({ server, room, newPage }) => {
  const studio = await Studio.open(await newPage(), server, room);
  await studio.goLive();
  const destinations = [{ type: 'hls', private: true }];
  await server.api('POST', `/api/rooms/${room}/egress`, { destinations });
  await studio.expectOutput('/hls/', 'live');
  await expect(studio.page.getByTestId('share-link-hls'), 'it would not open').toBeHidden();
  await studio.page.getByTestId('hls-private-make').click();
  const link = await studio.page.getByTestId('hls-private-link').inputValue();
  const guest = await newPage();
  const { search } = new URL(link);
  await (await Watch.open(guest, server, room, search)).expectPlaying(1);
  await guest.context().close();

  const made = await server.api('POST', `/api/rooms/${room}/hls/tokens`, { valid_for_s: 12 });
  const { token } = await made.json();

  const viewer = await newPage();
  const watch = await Watch.open(viewer, server, room, `?player=hls&token=${token}`);
  await watch.expectPlaying(2);
  await expect(viewer.locator('body')).toContainText('Your link has expired', { timeout: 25_000 });
  const stranger = await newPage();
  await Watch.open(stranger, server, room, '?player=hls');
  await expect(stranger.getByTestId('player-overlay')).toContainText('Not available');
});

test('viewers rewind and come back to live', async ({ newPage }) => {
  const server = await Server.start({
    FANLIGHT_EGRESS__HLS__DVR_SECONDS: '600',
    FANLIGHT_EGRESS__HLS__WINDOW_SEGMENTS: '4',
  });
  try {
    await server.createRoom('rewound');
    const studio = await Studio.open(await newPage(), server, 'rewound');
    await studio.goLiveAsHls();
    const viewer = await newPage();
    const watch = await Watch.open(viewer, server, 'rewound', '?player=hls');
    await watch.expectPlaying(2);
    const bar = viewer.getByTestId('rewind').locator('input');
    const live = await watch.position();
    await watch.player.evaluate((video) => (video as HTMLVideoElement).pause());
    await expect(viewer.getByTestId('back-to-live')).toBeVisible({ timeout: 20_000 });
    await bar.fill(`${await bar.getAttribute('min')}`);
    // Not awaited: it would wait for ever where there is nothing to play.
    await watch.player.evaluate((video) => void (video as HTMLVideoElement).play());
    await expect
      .poll(() => watch.position(), { message: 'the player is where it was sent' })
      .toBeLessThan(live);
    await watch.expectPlaying(1);
    await expectPicture(viewer);
    await viewer.getByTestId('back-to-live').click();
    await expect(viewer.getByTestId('back-to-live')).toBeHidden();
    await expect
      .poll(() => watch.position(), { message: 'the player is back' })
      .toBeGreaterThan(live + 4);
    await watch.expectPlaying(2);
  } finally {
    await server.stop();
  }
});

test('a player that has fallen behind goes on live, and one that was paused does not', async ({
  server,
  room,
  newPage,
}) => {
  const studio = await Studio.open(await newPage(), server, room);
  await studio.goLiveAsHls();
  const viewer = await newPage();
  const watch = await Watch.open(viewer, server, room, '?player=hls');
  await watch.expectPlaying(7);
  const behind = () =>
    watch.player.evaluate((element) => {
      const video = element as HTMLVideoElement;
      return video.seekable.end(video.seekable.length - 1) - video.currentTime;
    });
  await watch.player.evaluate((video) => {
    (video as HTMLVideoElement).currentTime -= 6;
  });
  await expect.poll(behind, { message: 'it is live again' }).toBeLessThan(4);
  await watch.expectPlaying(1);

  await watch.player.evaluate((video) => (video as HTMLVideoElement).pause());
  await expect.poll(behind, { message: 'it is left behind' }).toBeGreaterThan(7);
  await watch.player.evaluate((video) => void (video as HTMLVideoElement).play());
  await watch.expectPlaying(3);
  expect(await behind(), 'it goes on where it was paused').toBeGreaterThan(6);
  await viewer.getByTestId('back-to-live').click();
  await expect.poll(behind, { message: 'the viewer wants to be live' }).toBeLessThan(4);
});

/** Puts a segment of half a minute with that number before those in a playlist. */
function withLongSegment(playlist: string, number: number): string {
  const [, map = ''] = /(#EXT-X-MAP:.*\n)/.exec(playlist) ?? [];
  const begins = Date.parse(/DATE-TIME:(.*)/.exec(playlist)?.[1] ?? '') - 30_000;
  const date = `#EXT-X-PROGRAM-DATE-TIME:${new Date(begins).toISOString()}\n`;
  const segment = `${map}${date}#EXTINF:30.0,\nseg-${number}.m4s\n`;
  return playlist
    .replace(/MEDIA-SEQUENCE:\d+/, `MEDIA-SEQUENCE:${number}`)
    .replace(/(#EXT-X-INDEPENDENT-SEGMENTS\n)/, `$1${segment}`);
}
