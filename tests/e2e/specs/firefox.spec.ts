import { networkInterfaces } from 'node:os';
import { expectPlays, openPage, startFirefox } from '../support/firefox.ts';
import { expect, test } from '../support/fixtures.ts';
import { expectVideoFlows, received } from '../support/media.ts';
import { message, say, Watch } from '../support/pages.ts';
import { Server } from '../support/server.ts';

test('Firefox broadcasts and watches', async ({ newPage }) => {
  const addresses = Object.values(networkInterfaces()).flat();
  const own = addresses.find((address) => address?.family === 'IPv4' && !address.internal);
  test.skip(
    !own,
    'Firefox connects to no server on loopback, and this machine has no other address',
  );
  const server = await Server.start({}, own?.address);
  const firefox = await startFirefox();
  try {
    await server.createRoom('fox');
    const studio = await openPage(
      firefox,
      `${server.origin}/studio/fox#token=${server.ownerToken}`,
    );
    await studio.waitForSelector('[data-testid=go-live]:enabled');
    await studio.click('[data-testid=go-live]');
    await studio.waitForSelector('[data-testid=on-air][data-state=live]');

    const chromium = await newPage();
    await Watch.open(chromium, server, 'fox');
    await expectVideoFlows(chromium);
    expect((await received(chromium)).videoCodec).toBe('video/VP8');

    const viewer = await openPage(firefox, `${server.origin}/watch/fox`);
    expect(await expectPlays(viewer, 60)).toBeGreaterThanOrEqual(180);

    await say(chromium, 'Hello from the other browser');
    await expect(message(chromium, 'Hello from the other browser')).toBeVisible();
    await viewer.waitForFunction(() =>
      document.body.textContent.includes('Hello from the other browser'),
    );
  } finally {
    await firefox.close();
    await server.stop();
  }
});
