import { chromium } from '../support/chromium.ts';
import { expect, test } from '../support/fixtures.ts';
import type { Server } from '../support/server.ts';

// What a browser says when it does not give a camera, and what the studio must tell the person then.
const cases = [
  {
    name: 'the camera is denied',
    flags: ['--use-fake-device-for-media-stream', '--deny-permission-prompts'],
    message: /permission|allow|denied|blocked/i,
  },
  {
    name: 'there is no camera',
    flags: ['--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream=device-count=0'],
    message: /no camera|not find|plug|connect/i,
  },
  {
    name: 'the origin is not secure',
    flags: ['--host-resolver-rules=MAP studio.test 127.0.0.1'],
    host: 'studio.test',
    message: /https|secure/i,
  },
];

for (const { name, flags, host, message } of cases) {
  test(`the studio says what to do when ${name}`, async ({ playwright, server, room }) => {
    const browser = await playwright.chromium.launch(chromium(...flags));
    try {
      const page = await browser.newPage();
      await page.goto(studioLink(server, room, host));
      const banner = page.getByTestId('error-banner');
      await expect(banner).toContainText(message);
      await expect(page.getByTestId('on-air')).toHaveAttribute('data-state', 'idle');
    } finally {
      await browser.close();
    }
  });
}

test('somebody without a link is sent from the studio to the watch page', async ({
  server,
  room,
  newPage,
}) => {
  const page = await newPage();
  await page.goto(`${server.origin}/studio/${room}`);
  await expect(page.getByRole('heading', { name: /cannot broadcast/i })).toBeVisible();
  await page.getByRole('link', { name: /watch/i }).click();
  await expect(page.getByTestId('player')).toBeVisible();
});

test('a link that was not copied whole says so, and the one before stays good', async ({
  server,
  newPage,
}) => {
  const page = await newPage();
  await page.goto(server.ownerLink);
  await expect(page.getByTestId('create-room')).toBeVisible();
  await page.goto('about:blank');
  await page.goto(`${server.origin}/#token=abc`);
  const banner = page.getByTestId('error-banner');
  await expect(banner).toHaveAttribute('data-code', 'token_invalid');
  await expect(banner).toContainText(/link that the server printed/i);
  await expect(page.getByTestId('create-room')).toBeVisible();
});

function studioLink(server: Server, room: string, host = 'localhost'): string {
  const link = new URL(`/studio/${room}#token=${server.ownerToken}`, server.origin);
  link.hostname = host;
  return link.href;
}
