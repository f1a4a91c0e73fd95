import type { Page } from '@playwright/test';
import { expect, test } from '../support/fixtures.ts';
import { expectPicture, expectVideoFlows, POLL, received } from '../support/media.ts';
import { Guest, message, Studio, say, Watch } from '../support/pages.ts';
import { Server } from '../support/server.ts';

test('the broadcaster reloads the page and the viewer goes on', async ({
  server,
  room,
  newPage,
}) => {
  const broadcaster = await newPage();
  const studio = await Studio.open(broadcaster, server, room);
  await studio.goLive();
  const viewer = await newPage();
  await Watch.open(viewer, server, room);
  await expectVideoFlows(viewer);

  await broadcaster.reload();
  await studio.expectOnAir();
  await expectVideoFlows(viewer, 30);
  await expectPicture(viewer);
  expect((await received(viewer)).connections, 'the viewer kept its connection').toBe(1);
});

test('a reload right after going live goes back on air', async ({ server, room, newPage }) => {
  const broadcaster = await newPage();
  const studio = await Studio.open(broadcaster, server, room);
  await studio.goLive();
  await broadcaster.reload();
  await studio.expectOnAir();
});

test('a reload leaves a broadcast paused and muted', async ({ server, room, newPage }) => {
  const broadcaster = await newPage();
  const studio = await Studio.open(broadcaster, server, room);
  await studio.mute();
  await studio.goLive();
  await studio.expectMuted();
  await studio.pause();
  const watch = await Watch.open(await newPage(), server, room);
  await watch.expectOverlay(/paused/i);

  // Twice: the page that went on paused is left like the one that was paused by hand.
  for (let times = 0; times < 2; times++) {
    await broadcaster.reload();
    await studio.expectPaused();
    await watch.expectOverlay(/paused/i);
    expect(await sentKinds(broadcaster), 'nothing of it is sent').toEqual([]);
  }
  await broadcaster.getByTestId('resume').click();
  await studio.expectOnAir();
  await studio.expectMuted();
  expect(await sentKinds(broadcaster), 'it is muted still').toEqual(['video']);
});

test('leaving the studio ends the broadcast, also for who comes back', async ({
  server,
  room,
  newPage,
}) => {
  const broadcaster = await newPage();
  // The browser asks whether to leave.
  broadcaster.on('dialog', (dialog) => dialog.accept());
  const studio = await Studio.open(broadcaster, server, room);
  const leave = async () => {
    await studio.goLive();
    await broadcaster.getByRole('link', { name: 'to the start page' }).click();
    await expect(broadcaster).toHaveURL(`${server.origin}/`);
  };
  await leave();
  await broadcaster.goto(`${server.origin}/studio/${room}`);
  await expectReady(broadcaster);
  await leave();
  await broadcaster.goBack();
  await expectReady(broadcaster);
  await broadcaster.reload();
  await expectReady(broadcaster);
});

test('a double click does not press what takes the place of its button', async ({
  server,
  room,
  newPage,
}) => {
  const broadcaster = await newPage();
  const studio = await Studio.open(broadcaster, server, room);
  await clickTwice(broadcaster, 'go-live', 'pause');
  await studio.expectOnAir();
  await broadcaster.waitForTimeout(300);
  await studio.expectOnAir();
});

test('a second tab of the broadcaster takes over', async ({ server, room, newPage }) => {
  const first = await newPage();
  await (await Studio.open(first, server, room)).goLive();
  const viewer = await newPage();
  await Watch.open(viewer, server, room);
  await expectVideoFlows(viewer);

  await (await Studio.open(await newPage(), server, room)).goLive();
  await expect(first.getByTestId('error-banner')).toContainText(/another tab/i);
  await expectVideoFlows(viewer, 30);
  expect((await received(viewer)).connections, 'the viewer kept its connection').toBe(1);
});

test('pausing and stopping are shown to viewers', async ({ server, room, newPage }) => {
  const broadcaster = await newPage();
  const studio = await Studio.open(broadcaster, server, room);
  await studio.goLive();
  const viewer = await newPage();
  const watch = await Watch.open(viewer, server, room);
  await expectVideoFlows(viewer);

  await broadcaster.getByTestId('pause').click();
  await watch.expectOverlay(/paused/i);
  await broadcaster.getByTestId('resume').click();
  await watch.expectNoOverlay();
  await expectVideoFlows(viewer);

  await studio.stop();
  await watch.expectOverlay(/has ended/i);
  const late = await Watch.open(await newPage(), server, room);
  await late.expectOverlay(/waiting/i);
  await studio.goLive();
  await expectVideoFlows(viewer);
});

interface Opened {
  openedKinds(): string[];
}

test('the broadcaster switches to the screen and the viewer sees it without joining again', async ({
  server,
  room,
  newPage,
}) => {
  const broadcaster = await newPage();
  await broadcaster.addInitScript(() => {
    const opened: MediaStreamTrack[] = [];
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (constraints) => {
      const stream = await open(constraints);
      opened.push(...stream.getTracks());
      return stream;
    };
    Object.assign(window, {
      openedKinds: () => opened.filter((t) => t.readyState === 'live').map((t) => t.kind),
    });
  });
  const studio = await Studio.open(broadcaster, server, room);
  // The fake screen looks like the fake camera, so the camera is made smaller. The camera is still being opened again
  // when the microphone is chosen.
  await studio.chooseQuality('480p');
  const microphone = broadcaster.getByTestId('mic-select');
  await microphone.selectOption({ label: 'Fake Audio Input 2' });
  const chosen = await microphone.inputValue();
  await studio.goLive();
  await expect(microphone, 'the one that was chosen').toHaveValue(chosen);
  const kinds = () => broadcaster.evaluate(() => (window as never as Opened).openedKinds().sort());
  await expect.poll(kinds, 'what was opened before is closed').toEqual(['audio', 'video']);
  const viewer = await newPage();
  await Watch.open(viewer, server, room);
  await expectVideoFlows(viewer);
  expect((await received(viewer)).height).toBe(480);

  await broadcaster.getByTestId('source-screen').click();
  await expect(async () => {
    const lines = await sourceLines(broadcaster);
    expect(lines, 'the screen is captured').not.toBe(480);
    expect((await received(viewer)).height, 'and shown, all of its lines').toBe(lines);
  }).toPass({ intervals: POLL, timeout: 20_000 });
  await expectVideoFlows(viewer);
  await expectPicture(viewer);
  expect((await received(viewer)).connections, 'the viewer kept its connection').toBe(1);
  await expect(microphone).toHaveValue(chosen);
  await broadcaster.getByTestId('source-camera').click();
  await expect.poll(async () => (await received(viewer)).height, { intervals: POLL }).toBe(480);
  await expect(microphone, 'it is the chosen one still').toHaveValue(chosen);
});

test('a change of network begins a new ICE session and interrupts nothing', async ({
  server,
  room,
  newPage,
}) => {
  const broadcaster = await newPage();
  await (await Studio.open(broadcaster, server, room)).goLive();
  const viewer = await newPage();
  await Watch.open(viewer, server, room);
  await expectVideoFlows(viewer);
  for (const page of [broadcaster, viewer]) {
    const before = await iceSession(page);
    await page.evaluate(() => window.dispatchEvent(new Event('online')));
    await expect.poll(() => iceSession(page), { intervals: POLL }).not.toBe(before);
    await expectVideoFlows(viewer, 30);
  }
  expect((await received(viewer)).connections, 'the viewer kept its connection').toBe(1);
});

test('everybody comes back by themselves when the server was restarted', async ({ newPage }) => {
  const server = await Server.start();
  try {
    await server.createRoom('phoenix');
    const broadcaster = await newPage();
    const studio = await Studio.open(broadcaster, server, 'phoenix');
    await studio.goLive();
    const viewer = await newPage();
    await Watch.open(viewer, server, 'phoenix');
    await expectVideoFlows(viewer);
    await say(viewer, 'before');
    await expect(message(broadcaster, 'before')).toBeVisible();
    const guest = await Guest.open(await newPage(), await studio.inviteGuests());
    await guest.join();

    await server.kill();
    for (const page of [broadcaster, viewer]) {
      await expect(page.getByTestId('connection-state')).toContainText(/reconnecting/i);
    }
    // The guest is back before the host, without whom there is no stage.
    const refused = heard(guest.page, 'stage_closed');
    await broadcaster.context().setOffline(true);
    await server.startAgain();
    await refused;
    await broadcaster.context().setOffline(false);

    await expectVideoFlows(viewer, 15, 20_000);
    await studio.expectOnAir(20_000);
    await guest.expectOnStage();
    await expect(message(viewer, 'before')).toHaveCount(1);
    await say(viewer, 'after the restart');
    await expect(message(broadcaster, 'after the restart')).toBeVisible();
    await say(broadcaster, 'still here');
    await expect(message(viewer, 'still here')).toBeVisible();
  } finally {
    await server.stop();
  }
});

/** The kinds of tracks in a broadcaster's own picture that are sent as they are. */
async function sentKinds(page: Page): Promise<string[]> {
  return page.getByTestId('preview').evaluate(({ srcObject }: HTMLVideoElement) => {
    const tracks = srcObject instanceof MediaStream ? srcObject.getTracks() : [];
    return tracks.filter((track) => track.enabled).map((track) => track.kind);
  });
}

/** The studio is open, and does not go on air by itself. */
async function expectReady(page: Page): Promise<void> {
  const studio = await Studio.on(page);
  // Going on begins as soon as the camera is there.
  await page.waitForTimeout(500);
  await studio.expectOffAir();
}

/** Double-clicks a button as a person does: another one may be in its place by the second click. */
async function clickTwice(page: Page, first: string, second: string): Promise<void> {
  const box = await page.getByTestId(first).boundingBox();
  if (!box) throw new Error(`no ${first}`);
  await page.mouse.move(box.x + 20, box.y + box.height / 2);
  await page.mouse.down({ clickCount: 1 });
  await page.mouse.up({ clickCount: 1 });
  await expect(page.getByTestId(second)).toBeEnabled();
  await page.mouse.down({ clickCount: 2 });
  await page.mouse.up({ clickCount: 2 });
}

/** How high the broadcaster's own picture is. */
async function sourceLines(page: Page): Promise<number | undefined> {
  return page.getByTestId('preview').evaluate(({ srcObject }: HTMLVideoElement) => {
    const [track] = srcObject instanceof MediaStream ? srcObject.getVideoTracks() : [];
    return track?.getSettings().height;
  });
}

/** The server's username fragment on the page's connection. */
async function iceSession(page: Page): Promise<string> {
  return page.evaluate(() => {
    const sdp = openedConnections.at(-1)?.currentRemoteDescription?.sdp ?? '';
    return /a=ice-ufrag:(\S+)/.exec(sdp)?.[1] ?? '';
  });
}

/** Waits until the server says this to a page, over a connection that is still to be made. */
function heard(page: Page, what: string): Promise<void> {
  return new Promise((resolve) => {
    page.on('websocket', (socket) => {
      socket.on('framereceived', ({ payload }) => {
        if (String(payload).includes(what)) resolve();
      });
    });
  });
}
