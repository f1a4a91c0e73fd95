import { readFile } from 'node:fs/promises';
import { expect, test } from '../support/fixtures.ts';
import { POLL } from '../support/media.ts';
import { Studio } from '../support/pages.ts';

test('the host records, sees it ready with pictures on the seek bar, plays, downloads and deletes it', async ({
  server,
  room,
  newPage,
}, info) => {
  const page = await newPage();
  const studio = await Studio.open(page, server, room);
  await studio.goLive();
  await page.getByTestId('recording-tracks').check();
  await page.getByTestId('record-switch').click();
  const recording = page.getByTestId('recording');
  await expect(recording).toHaveAttribute('data-state', 'recording', { timeout: 15_000 });
  await expect(recording).toContainText(/0:0[7-9]|0:1\d/, { timeout: 20_000 });
  await page.getByTestId('record-switch').click();
  await expect(recording).toHaveAttribute('data-state', 'ready', { timeout: 20_000 });
  const poster = recording.getByTestId('recording-poster');
  await expect
    .poll(() => poster.evaluate((image) => (image as HTMLImageElement).naturalWidth), {
      intervals: POLL,
    })
    .toBeGreaterThan(300);
  await expect(recording.getByTestId('recording-track')).toHaveCount(2);

  await recording.getByTestId('recording-play').click();
  const video = recording.getByTestId('recording-video');
  const position = () => video.evaluate((element) => (element as HTMLVideoElement).currentTime);
  await expect.poll(position, { intervals: POLL }).toBeGreaterThan(0.5);
  const length = await video.evaluate((element) => (element as HTMLVideoElement).duration);
  expect(length).toBeGreaterThan(6);

  // Pictures of where it would go, then there.
  const bar = recording.getByTestId('recording-seek');
  const box = await bar.boundingBox();
  if (!box) throw new Error('the seek bar is not shown');
  await bar.hover({ position: { x: box.width * 0.6, y: box.height / 2 } });
  const look = recording.getByTestId('recording-look').locator('i');
  await expect(look).toHaveCSS('width', '160px');
  const sheet = await look.evaluate((element) => getComputedStyle(element).backgroundImage);
  const address = /url\("(.*)"\)/.exec(sheet)?.[1] ?? '';
  const shown = await page.request.get(address);
  expect(shown.headers()['content-type']).toBe('image/jpeg');
  await page.screenshot({ path: info.outputPath('recording.png'), fullPage: true });
  await bar.click({ position: { x: box.width * 0.8, y: box.height / 2 } });
  await expect.poll(position, { intervals: POLL }).toBeGreaterThan(length * 0.7);

  const downloading = page.waitForEvent('download');
  await recording.getByTestId('recording-download').click();
  const file = await readFile(await (await downloading).path());
  expect(file.subarray(4, 8).toString()).toBe('ftyp');

  await recording.getByTestId('recording-delete').click();
  await recording.getByTestId('recording-delete-confirm').click();
  await expect(recording).toHaveCount(0);
});
