import { expect, test } from '../support/fixtures.ts';
import { POLL } from '../support/media.ts';
import { Studio } from '../support/pages.ts';

test('the host has pictures taken and sees the newest', async ({ server, room, newPage }) => {
  const page = await newPage();
  const studio = await Studio.open(page, server, room);
  await studio.goLive();
  await page.getByTestId('thumbnails-switch').click();
  const newest = page.getByTestId('latest-thumbnail');
  await expect
    .poll(() => newest.evaluate((image) => (image as HTMLImageElement).naturalWidth), {
      intervals: POLL,
      timeout: 20_000,
    })
    .toBe(640);
  await page.getByTestId('thumbnails-switch').click();
  await expect(newest).toHaveCount(0);
});
