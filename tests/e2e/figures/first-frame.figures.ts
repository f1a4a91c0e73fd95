import type { Page } from '@playwright/test';
import { expect, test } from '../support/fixtures.ts';
import { expectVideoFlows } from '../support/media.ts';
import { Studio, Watch } from '../support/pages.ts';
import type { Server } from '../support/server.ts';
import { noteRow } from './table.ts';

const ROUNDS = 10;

test('from the click to the picture', async ({ server, room, newPage }) => {
  const broadcaster = await newPage();
  const studio = await Studio.open(broadcaster, server, room);
  await studio.goLive();
  const viewer = await newPage();
  await noteFirstFrames(viewer);
  await Watch.open(viewer, server, room);
  await expectVideoFlows(viewer, 60);

  const player = await newPage();
  await player.goto(server.origin);
  const firstFrames: number[] = [];
  for (let round = 0; round < ROUNDS; round++) firstFrames.push(await whepFirstFrame(player, room));
  noteRow('click to first decoded frame, WHEP on a loaded page', firstFrames);

  const loads: number[] = [];
  for (let round = 0; round < ROUNDS; round++)
    loads.push(await openToFirstFrame(viewer, server, room));
  noteRow('opening the watch page to first shown frame', loads);
});

test('from Go live to on air', async ({ server, room, newPage }) => {
  const broadcaster = await newPage();
  const studio = await Studio.open(broadcaster, server, room);
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    times.push(await clickUntilOnAir(broadcaster));
    await studio.stop();
  }
  noteRow('click on Go live to on air', times);
});

/** Plays by WHEP as a foreign player does and returns the time from the click to the first decoded frame. */
async function whepFirstFrame(page: Page, room: string): Promise<number> {
  await page.evaluate((room) => {
    document.body.innerHTML = '<button id="play">Play</button>';
    document.querySelector('#play')?.addEventListener('click', async () => {
      const start = performance.now();
      const connection = new RTCPeerConnection();
      const { receiver } = connection.addTransceiver('video', { direction: 'recvonly' });
      connection.addTransceiver('audio', { direction: 'recvonly' });
      const video = document.createElement('video');
      [video.muted, video.autoplay] = [true, true];
      video.srcObject = new MediaStream([receiver.track]);
      const shown = new Promise((resolve) => video.addEventListener('loadeddata', resolve));
      document.body.append(video);
      await connection.setLocalDescription();
      const response = await fetch(`/whep/${room}`, {
        method: 'POST',
        headers: { 'content-type': 'application/sdp' },
        body: connection.localDescription?.sdp ?? '',
      });
      await connection.setRemoteDescription({ type: 'answer', sdp: await response.text() });
      await shown;
      document.body.dataset.firstFrame = String(performance.now() - start);
      connection.close();
      const session = response.headers.get('location');
      if (session) await fetch(session, { method: 'DELETE' });
      document.body.dataset.done = '';
    });
  }, room);
  await page.locator('#play').click();
  await page.locator('body[data-done]').waitFor();
  const time = await page.evaluate(() => {
    const { firstFrame } = document.body.dataset;
    delete document.body.dataset.done;
    return Number(firstFrame);
  });
  return time;
}

/** Returns the time from the navigation to the player's first frame. */
async function openToFirstFrame(page: Page, server: Server, room: string): Promise<number> {
  await page.goto('about:blank');
  await Watch.open(page, server, room);
  const player = page.getByTestId('player');
  await expect(player).toHaveAttribute('data-first-frame');
  return Number(await player.getAttribute('data-first-frame'));
}

/** Notes on each player when it has its first frame: milliseconds since the navigation. */
async function noteFirstFrames(page: Page): Promise<void> {
  await page.addInitScript(() => {
    const note = ({ target }: Event) => {
      if (!(target instanceof HTMLVideoElement)) return;
      target.dataset.firstFrame ??= String(performance.now());
    };
    document.addEventListener('loadeddata', note, { capture: true });
  });
}

async function clickUntilOnAir(page: Page): Promise<number> {
  return page.getByTestId('go-live').evaluate(async (button) => {
    const start = performance.now();
    (button as HTMLElement).click();
    const onAir = () => document.querySelector('[data-testid=on-air][data-state=live]');
    document.querySelector<HTMLElement>('[data-testid=on-air]')?.checkVisibility();
    await new Promise<void>((resolve) => {
      const look = () => (onAir() ? resolve() : setTimeout(look, 1));
      look();
    });
    return performance.now() - start;
  });
}
