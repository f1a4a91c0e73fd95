import { expect, test } from '../support/fixtures.ts';
import { expectPicture, expectSoundFlows, expectVideoFlows, received } from '../support/media.ts';
import { message, Studio, say, Watch } from '../support/pages.ts';

test('a newcomer goes live by the printed link and a viewer sees, hears and chats', async ({
  server,
  newPage,
}) => {
  const broadcaster = await newPage();
  await broadcaster.goto(server.ownerLink);
  await broadcaster.getByTestId('room-title').fill('First light');
  await broadcaster.getByTestId('create-room').click();
  await expect(broadcaster.getByTestId('room-name')).toHaveText('First light');
  expect(broadcaster.url(), 'the address can be shown to anybody').not.toContain('token');
  const studio = await Studio.on(broadcaster);
  await expect(broadcaster.getByTestId('preview')).toBeVisible();
  await studio.goLive();
  await studio.expectViewers(0);

  const viewer = await newPage();
  const watch = await Watch.open(viewer, server, 'first-light');
  await expectVideoFlows(viewer);
  await expectPicture(viewer);
  await watch.unmute();
  await expectSoundFlows(viewer);
  expect((await received(viewer)).videoCodec).toBe('video/H264');
  await studio.expectViewers(1);

  for (const [width, height] of [
    [360, 740],
    [390, 844],
    [844, 390],
  ] as const) {
    await viewer.setViewportSize({ width, height });
    await expect(viewer.getByTestId('fullscreen'), `${width} wide`).toBeInViewport({ ratio: 1 });
  }
  await viewer.setViewportSize({ width: 1280, height: 800 });

  await say(viewer, 'Hello from the stalls');
  await expect(message(broadcaster, 'Hello from the stalls')).toBeVisible();
  await say(broadcaster, 'Welcome, everyone');
  const welcome = message(viewer, 'Welcome, everyone');
  await expect(welcome).toContainText(/host/i);
  await expect(welcome.locator('time')).toHaveText(/\d{1,2}:\d{2}/);

  const late = await newPage();
  await Watch.open(late, server, 'first-light');
  await expectVideoFlows(late);
  await expectPicture(late);
  await expect(message(late, 'Hello from the stalls')).toBeVisible();
  await studio.expectViewers(2);

  await late.context().close();
  await studio.expectViewers(1);
  await expectVideoFlows(viewer);

  // Who wonders how it looks opens the link in the same browser.
  const own = await broadcaster.context().newPage();
  await Watch.open(own, server, 'first-light');
  await expectVideoFlows(own);
  await expectPicture(own);
  await studio.expectViewers(1);
});

test('VP8 is broadcast when it is asked for', async ({ server, room, newPage }) => {
  const studio = await Studio.open(await newPage(), server, room, '?codec=vp8');
  await studio.goLive();
  const viewer = await newPage();
  await Watch.open(viewer, server, room);
  await expectVideoFlows(viewer);
  await expectPicture(viewer);
  expect((await received(viewer)).videoCodec).toBe('video/VP8');
});

test('a viewer who comes first is connected when the broadcast starts', async ({
  server,
  room,
  newPage,
}) => {
  const viewer = await newPage();
  await Watch.open(viewer, server, room);
  const studio = await Studio.open(await newPage(), server, room);
  await studio.goLive();
  await expectVideoFlows(viewer);
  await expectPicture(viewer);
});

test('a broadcast of sound alone is heard', async ({ server, room, newPage }) => {
  const broadcaster = await newPage();
  const studio = await Studio.open(broadcaster, server, room);
  await broadcaster.getByTestId('source-audio').click();
  await expect(broadcaster.getByTestId('source-audio')).toHaveAttribute('aria-pressed', 'true');
  await studio.goLive();
  const viewer = await newPage();
  const watch = await Watch.open(viewer, server, room);
  await watch.unmute();
  await expectSoundFlows(viewer);
  expect((await received(viewer)).framesDecoded).toBe(0);
});

test('a browser without a decoder for the picture says so', async ({ server, room, newPage }) => {
  const studio = await Studio.open(await newPage(), server, room);
  await studio.use('audio');
  await studio.goLive();
  const viewer = await newPage();
  await viewer.addInitScript(() => {
    const original = RTCRtpReceiver.getCapabilities.bind(RTCRtpReceiver);
    RTCRtpReceiver.getCapabilities = (kind) => {
      const all = original(kind);
      return all && { ...all, codecs: all.codecs.filter((c) => c.mimeType !== 'video/H264') };
    };
  });
  const watch = await Watch.open(viewer, server, room);
  // Longer than a picture may be missing: of sound alone there is none.
  await viewer.waitForTimeout(6000);
  await watch.expectOverlay(/sound only/i);
  await studio.use('camera');
  await watch.expectOverlay(/this browser cannot play this picture.*try another browser/is);
});

test('a chat message that is too fast or too long is refused with a reason', async ({
  server,
  room,
  newPage,
}) => {
  const viewer = await newPage();
  await Watch.open(viewer, server, room);
  const other = await newPage();
  await Watch.open(other, server, room);
  await say(viewer, 'first of many');
  await expect(message(other, 'first of many')).toBeVisible();
  const notice = viewer.getByTestId('chat-notice');
  for (let n = 0; n < 30 && !(await notice.isVisible()); n++) await say(viewer, `flood ${n}`);
  await expect(notice).toContainText(/wait|slow|fast|second/i);
  await expect(message(other, 'flood 0')).toBeVisible();
});
