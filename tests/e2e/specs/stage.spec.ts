import type { Frame, Page } from '@playwright/test';
import { expect, test } from '../support/fixtures.ts';
import { expectVideoFlows, POLL, received, shrinkCamera } from '../support/media.ts';
import { Guest, Studio, Watch } from '../support/pages.ts';
import type { Server } from '../support/server.ts';

test('a guest joins in front of twelve viewers who negotiate nothing', async ({
  server,
  room,
  newPage,
}) => {
  // Fourteen connections on two cores.
  test.slow();
  const host = await newPage();
  await shrinkCamera(host.context());
  const studio = await Studio.open(host, server, room);
  const link = await studio.inviteGuests();
  await studio.goLive();

  const viewers: Frame[] = [];
  for (let page = 0; page < 2; page++)
    viewers.push(...(await watchSixfold(await newPage(), server, room)));
  for (const viewer of viewers) await expect(viewer.getByTestId('tile')).toHaveCount(1);
  await expectAllMove(viewers, 1);
  await studio.expectViewers(12);
  const before = await Promise.all(viewers.map(negotiations));
  expect(before).toEqual(Array(12).fill({ descriptions: 2, offers: 1 }));

  const guests = await newPage();
  await shrinkCamera(guests.context());
  const guest = await Guest.open(guests, link);
  await guest.introduce('Grace');
  await guest.join();
  for (const viewer of viewers) {
    await expect(viewer.getByTestId('tile').filter({ hasText: 'Grace' })).toBeVisible();
  }
  await expectAllMove(viewers, 2);
  expect(await Promise.all(viewers.map(negotiations)), 'nothing was negotiated').toEqual(before);
  await studio.expectViewers(12);
});

test('a guest is seen, featured and removed', async ({ server, room, newPage }) => {
  // Three pages that encode or decode two pictures each, on two cores.
  test.slow();
  const studio = await Studio.open(await newPage(), server, room, '?simulcast=0');
  await studio.chooseQuality('480p');
  const link = await studio.inviteGuests();
  const guest = await Guest.open(await newPage(), link.replace('#', '?simulcast=0#'));
  await expect(guest.page.getByTestId('join-stage'), 'nobody is on air').toBeDisabled();
  await guest.introduce('Grace');
  await studio.goLive();
  const viewer = await newPage();
  await Watch.open(viewer, server, room);
  await expectVideoFlows(viewer, 5);
  await guest.join();
  await expectAllMove([viewer.mainFrame()], 2);
  await expectRoomForTwo(viewer);

  // Host and guest see each other, and not themselves.
  for (const page of [studio.page, guest.page]) {
    const others = page.getByTestId('others').getByTestId('tile');
    await expect(others).toHaveCount(1);
    await expectAllMove([page.mainFrame()], 1);
  }

  const member = studio.page.getByTestId('stage-member').filter({ hasText: 'Grace' });
  const graces = await member.getAttribute('data-identity');
  const large = viewer.getByTestId('tile').filter({ has: viewer.getByTestId('player') });
  const single = await program(viewer, room);
  await member.getByTestId('feature').click();
  await expect(large).toHaveAttribute('data-identity', graces ?? '');
  await expect
    .poll(single, { intervals: POLL, message: 'the program is Grace' })
    .toBeGreaterThan(0);

  await member.getByTestId('remove-guest').click();
  await expect(guest.page.getByTestId('error-banner')).toContainText(/taken you off/i);
  await expect(guest.page.getByTestId('error-banner')).toHaveAttribute(
    'data-code',
    'removed_from_stage',
  );
  await expect(viewer.getByTestId('tile')).toHaveCount(1);
  await expectVideoFlows(viewer);
  await guest.page.getByTestId('join-stage').click();
  await expect(guest.page.getByTestId('error-banner'), 'and cannot come back').toBeVisible();
  await studio.stop();
});

/** Neither of two pictures covers the other, or what the player is worked with, on phones held either way. */
async function expectRoomForTwo(viewer: Page): Promise<void> {
  const before = viewer.viewportSize();
  for (const [width, height] of [
    [390, 844],
    [844, 390],
  ] as const) {
    await viewer.setViewportSize({ width, height });
    await expect(viewer.getByTestId('fullscreen'), `${width} wide`).toBeInViewport({ ratio: 1 });
    const [first, second] = await Promise.all(
      [0, 1].map((n) => viewer.getByTestId('tile').nth(n).boundingBox()),
    );
    const bar = await viewer.getByTestId('fullscreen').boundingBox();
    if (!first || !second || !bar) throw new Error('something is not shown');
    const isAside = first.x + first.width <= second.x;
    expect(isAside || first.y + first.height <= second.y, `${width} wide: apart`).toBe(true);
    expect(second.y + second.height, `${width} wide: above the bar`).toBeLessThanOrEqual(bar.y);
  }
  if (before) await viewer.setViewportSize(before);
}

test('guests leave the stage when the host stops, and come back with a reload', async ({
  server,
  room,
  newPage,
}) => {
  const studio = await Studio.open(await newPage(), server, room, '?simulcast=0');
  await studio.goLive();
  const guest = await Guest.open(await newPage(), await studio.inviteGuests());
  await guest.join();
  const others = studio.page.getByTestId('others').getByTestId('tile');
  await expect(others).toHaveCount(1);
  const identity = await others.getAttribute('data-identity');
  await guest.page.getByTestId('mic-mute').click();
  await guest.page.reload();
  await guest.expectOnStage();
  await expect(guest.page.getByTestId('mic-mute'), 'muted still').toHaveText('Unmute');
  await expect(others).toHaveAttribute('data-identity', identity ?? '');
  await studio.stop();
  await expect(guest.page.getByTestId('error-banner')).toHaveAttribute('data-code', 'stage_closed');
  await expect(guest.page.getByTestId('join-stage')).toBeDisabled();
});

test('a camera is sent in three layers and viewers choose among them', async ({
  server,
  room,
  newPage,
}) => {
  const studio = await Studio.open(await newPage(), server, room);
  await studio.goLive();
  const viewer = await newPage();
  await Watch.open(viewer, server, room);
  await expect
    .poll(() => sentHeights(studio.page), { intervals: POLL, message: 'three layers are sent' })
    .toEqual([180, 360, 720]);
  const height = async () => (await received(viewer)).height;
  await expect.poll(height, { intervals: POLL, message: 'the best of them' }).toBe(720);

  const menu = viewer.getByTestId('quality-menu');
  await expect(menu.locator('option')).toHaveCount(4);
  await menu.selectOption({ label: '180p' });
  await expect.poll(height, { intervals: POLL, message: 'the lowest' }).toBe(180);
  await menu.selectOption('');
  await expect.poll(height, { intervals: POLL, message: 'the best again' }).toBe(720);

  const identity = await participant(server, room);
  const path = `/api/rooms/${room}/participants/${identity}/stats`;
  const stats = await (await server.api('GET', path)).json();
  expect(stats.connections[0]).toMatchObject({ role: 'publisher', is_connected: true });
  expect(stats.connections[0].packets_in).toBeGreaterThan(0);
});

/** The identity of the participant who is sending. */
async function participant(server: Server, room: string): Promise<string> {
  const list = await (await server.api('GET', `/api/rooms/${room}/participants`)).json();
  const sending = list.participants.filter(({ on_stage }: { on_stage: boolean }) => on_stage);
  expect(sending).toHaveLength(1);
  return encodeURIComponent(sending[0].identity);
}

/** Counts from here on what the page and its frames say to its connections and to the server. */
async function countNegotiations(page: Page): Promise<void> {
  await page.addInitScript(() => {
    const counts = { descriptions: 0, offers: 0 };
    Object.assign(globalThis, { negotiations: counts });
    const { prototype } = RTCPeerConnection;
    for (const name of ['setLocalDescription', 'setRemoteDescription'] as const) {
      const original = prototype[name];
      prototype[name] = function (this: RTCPeerConnection, ...args: never[]) {
        counts.descriptions += 1;
        return (original as (...all: never[]) => Promise<void>).apply(this, args);
      };
    }
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (data) {
      if (String(data).includes('"sdp"')) counts.offers += 1;
      send.call(this, data);
    };
  });
}

async function negotiations(viewer: Frame): Promise<unknown> {
  return viewer.evaluate(() => ({ ...(globalThis as { negotiations?: object }).negotiations }));
}

/** Opens the watch page six times in one page, and counts what each says. */
async function watchSixfold(page: Page, server: Server, room: string): Promise<Frame[]> {
  await countNegotiations(page);
  const frame = `<iframe src="/watch/${room}" width="400" height="380"></iframe>`;
  await page.route('**/sixfold', (route) =>
    route.fulfill({ contentType: 'text/html', body: frame.repeat(6) }),
  );
  await page.goto(`${server.origin}/sixfold`);
  return page.frames().slice(1);
}

/** Waits until that many of the tiles that each viewer shows have a picture that moves. */
async function expectAllMove(viewers: readonly Frame[], tiles: number): Promise<void> {
  for (const viewer of viewers) {
    await expect
      .poll(() => movingTiles(viewer), { intervals: POLL, message: `${tiles} pictures move` })
      .toBe(tiles);
  }
}

/** How many of the shown tiles have a picture that moves. */
async function movingTiles(viewer: Frame): Promise<number> {
  return viewer.getByTestId('tile').evaluateAll(async (tiles) => {
    const frames = () =>
      tiles.map((tile) => tile.querySelector('video')?.getVideoPlaybackQuality().totalVideoFrames);
    const before = frames();
    await new Promise((resolve) => setTimeout(resolve, 400));
    return frames().filter((count, i) => (count ?? 0) > (before[i] ?? 0)).length;
  });
}

/** Heights of the layers whose frames are being encoded, the lowest first. */
async function sentHeights(page: Page): Promise<number[]> {
  return page.evaluate(async () => {
    const heights = new Set<number>();
    for (const connection of openedConnections) {
      if (connection.connectionState !== 'connected') continue;
      for (const stat of (await connection.getStats()).values()) {
        if (stat.type === 'outbound-rtp' && stat.kind === 'video' && stat.framesPerSecond > 0) {
          heights.add(stat.frameHeight);
        }
      }
    }
    return [...heights].sort((a, b) => a - b);
  });
}

/** Plays the program by WHEP in this page; returns a function that tells how often its resolution has changed. */
async function program(page: Page, room: string): Promise<() => Promise<number>> {
  const answered = await page.evaluate(async (room) => {
    const connection = new RTCPeerConnection();
    for (const kind of ['video', 'audio'])
      connection.addTransceiver(kind, { direction: 'recvonly' });
    const video = document.createElement('video');
    [video.muted, video.autoplay] = [true, true];
    connection.addEventListener('track', ({ track }) => {
      if (track.kind === 'video') video.srcObject = new MediaStream([track]);
    });
    Object.assign(globalThis, { resized: 0 });
    video.addEventListener('resize', () => {
      const counter = globalThis as unknown as { resized: number };
      if (video.videoHeight >= 720) counter.resized += 1;
    });
    await connection.setLocalDescription();
    const response = await fetch(`/whep/${room}`, {
      method: 'POST',
      headers: { 'content-type': 'application/sdp' },
      body: connection.localDescription?.sdp ?? '',
    });
    await connection.setRemoteDescription({ type: 'answer', sdp: await response.text() });
    return response.status;
  }, room);
  expect(answered).toBe(201);
  return () => page.evaluate(() => (globalThis as unknown as { resized: number }).resized);
}
