import { expect, test } from '../support/fixtures.ts';
import { POLL } from '../support/media.ts';
import { Studio } from '../support/pages.ts';

test('the host has pictures taken, and sees and opens the latest', async ({
  server,
  room,
  newPage,
}) => {
  const page = await newPage();
  const studio = await Studio.open(page, server, room);
  await studio.goLive();
  const control = page.getByTestId('thumbnails-switch');
  const pictures = page.getByTestId('thumbnail');
  await control.click();
  // A second job of the kind, with pictures of another size, is listed, and leaves the switch alone.
  await expect(page.getByTestId('output-state')).toHaveCount(1);
  const quick = { type: 'thumbnails', interval_seconds: 1, width: 320 };
  const made = await server.api('POST', `/api/rooms/${room}/egress`, { destinations: [quick] });
  expect(made.status, await made.text()).toBe(201);
  const named = page.getByTestId('output-name').getByText('Pictures · 2', { exact: true });
  const second = page.getByTestId('output-row').filter({ has: named });
  await expect(second).toContainText(/Taking pictures · [2-9] so far/);

  const newest = pictures.first().locator('img');
  const width = () => newest.evaluate((image) => (image as HTMLImageElement).naturalWidth);
  await expect.poll(width, { intervals: POLL, timeout: 20_000 }).toBe(640);
  await expect(pictures.first().locator('time')).toHaveText(/\d:\d\d:\d\d/);
  const opened = page.context().waitForEvent('page');
  await pictures.first().click();
  const tab = await opened;
  await expect(tab.locator('img')).toHaveJSProperty('naturalWidth', 640);
  await tab.close();

  await second.getByTestId('output-remove').click();
  await second.getByTestId('output-end').click();
  await expect(second).toHaveCount(0);
  await control.click();
  await expect(pictures).toHaveCount(0);
  await expect(control).toHaveAttribute('aria-checked', 'false');
});

test('what the server puts off is not said to end', async ({ server, room, newPage }) => {
  const page = await newPage();
  // As the server tells it while its machine has too much to do.
  const degraded = { reason: 'overload', preset: null, since_ms: Date.now() };
  await page.routeWebSocket(/\/ws/, (socket) => {
    socket.connectToServer().onMessage((text) => {
      const message = JSON.parse(String(text));
      for (const job of message.jobs ?? []) Object.assign(job, { state: 'draining', degraded });
      socket.send(JSON.stringify(message));
    });
  });
  await Studio.open(page, server, room);
  await page.getByTestId('thumbnails-switch').click();
  await expect(page.getByTestId('output-state')).toHaveText('Paused');
  await expect(page.getByTestId('output-degraded')).toContainText('too much to do');
  await expect(page.getByTestId('thumbnails-switch')).toBeEnabled();
});
