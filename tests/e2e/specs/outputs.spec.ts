import AxeBuilder from '@axe-core/playwright';
import type { Page } from '@playwright/test';
import { expect, test } from '../support/fixtures.ts';
import { expectPicture, expectVideoFlows, POLL } from '../support/media.ts';
import { Studio, Watch } from '../support/pages.ts';
import { freePort, run } from '../support/process.ts';
import { RtmpServer } from '../support/rtmp-server.ts';

test('the broadcast reaches an RTMP server, and a wrong address is explained', async ({
  server,
  room,
  newPage,
}) => {
  const rtmp = await RtmpServer.start();
  try {
    const broadcaster = await newPage();
    const studio = await Studio.open(broadcaster, server, room);
    await studio.goLive();
    const viewer = await newPage();
    await Watch.open(viewer, server, room);

    await studio.addRtmp(rtmp.url, 'my-secret-key');
    await studio.expectOutput(rtmp.url, 'live');
    await expect(broadcaster.locator('body')).not.toContainText('my-secret-key');
    const streams = await rtmp.probe('my-secret-key');
    expect(streams.map((stream) => stream.codec_name).sort()).toEqual(['aac', 'h264']);

    const nobody = `rtmp://127.0.0.1:${await freePort()}/live`;
    await studio.addRtmp(nobody, 'key');
    await studio.expectOutput(nobody, 'retrying', 12_000);
    await expect(studio.output(nobody)).toContainText(/nothing accepts connections/i);
    await studio.expectOutput(rtmp.url, 'live');
    await expectVideoFlows(viewer);
  } finally {
    await rtmp.stop();
  }
});

test('a wrong key is put right in the studio', async ({ server, room, newPage }) => {
  const rtmp = await RtmpServer.start();
  rtmp.refused.add('wrong-key');
  try {
    const host = await newPage();
    const studio = await Studio.open(host, server, room);
    await studio.goLive();
    await studio.addRtmp(rtmp.url, 'wrong-key');
    await studio.expectOutput(rtmp.url, 'failed');

    // A page that never saw the key has to ask for it.
    const page = await newPage({ colorScheme: 'dark' });
    const other = await Studio.open(page, server, room);
    await other.output(rtmp.url).getByTestId('output-retry').click();
    await expect(page.getByTestId('correct-url')).toHaveValue(rtmp.url);
    await expect(page.getByTestId('correct-key')).toBeFocused();
    await expect(page.getByTestId('correct-key')).toHaveValue('');
    await expectAccessible(page);
    await page.keyboard.press('Escape');
    await other.output(rtmp.url).getByTestId('output-correct').click();
    await page.getByTestId('correct-key').fill('right-key');
    await page.keyboard.press('Enter');
    const live = host.locator('[data-testid="output-state"][data-state="live"]');
    await expect(live).toHaveCount(1);
    expect(await rtmp.probe('right-key')).toHaveLength(2);
    await expect(studio.output(rtmp.url), 'the failed one is gone').toHaveCount(1);
    for (const shown of [host, page]) await expect(shown.locator('body')).not.toContainText('-key');
  } finally {
    await rtmp.stop();
  }
});

test('what is put right elsewhere needs one click, and an output on air is not ended by mistake', async ({
  server,
  room,
  newPage,
}) => {
  const rtmp = await RtmpServer.start();
  rtmp.refused.add('late-key');
  try {
    const host = await newPage();
    const studio = await Studio.open(host, server, room);
    await studio.goLive();
    for (const key of ['good-key', 'late-key']) await studio.addRtmp(rtmp.url, key);
    const late = host.getByTestId('output-row').nth(1);
    const state = late.getByTestId('output-state');
    await expect(state).toHaveAttribute('data-state', 'failed');
    rtmp.refused.delete('late-key');
    await late.getByTestId('output-retry').click();
    await expect(state).toHaveAttribute('data-state', 'live');
    const names = host.getByTestId('output-name');
    const address = rtmp.url.replace('rtmp://', '');
    await expect(names).toHaveText([`${address} · 1`, `${address} · 2`]);
    await expect(host.locator('body')).not.toContainText('-key');

    await late.getByTestId('output-remove').click();
    await expect(late.getByTestId('output-keep')).toBeFocused();
    await expectAccessible(host);
    await host.keyboard.press('Escape');
    await expect(late.getByTestId('output-question')).toHaveCount(0);
    await expect(late.getByTestId('output-remove')).toBeFocused();
    await expect(state).toHaveAttribute('data-state', 'live');
    await host.keyboard.press('Enter');
    await late.getByTestId('output-end').click();
    await expect(names).toHaveText([address]);

    await studio.stop();
    await expect(studio.output(rtmp.url)).toContainText('Held open for you');
    await expect(studio.output(rtmp.url).getByTestId('output-held')).toContainText('up to 60 s');
  } finally {
    await rtmp.stop();
  }
});

test('one of several destinations is tried again, given another key, or put out of sight', async ({
  server,
  room,
  newPage,
}) => {
  const rtmp = await RtmpServer.start();
  for (const key of ['a', 'b']) rtmp.refused.add(key);
  try {
    const page = await newPage();
    const studio = await Studio.open(page, server, room);
    await studio.goLive();
    const to = (key: string) => ({ type: 'rtmp', url: rtmp.url, key });
    const request = { destinations: [to('a'), to('b'), to('c')] };
    const path = `/api/rooms/${room}/egress`;
    const { id } = await (await server.api('POST', path, request)).json();
    const rows = page.getByTestId('output-row');
    const states = () =>
      page
        .getByTestId('output-state')
        .evaluateAll((all) => all.map((state) => state.getAttribute('data-state')));
    await expect.poll(states).toEqual(['failed', 'failed', 'live']);

    rtmp.refused.delete('a');
    await rows.nth(0).getByTestId('output-retry').click();
    await expect.poll(states).toEqual(['live', 'failed', 'live']);
    await rows.nth(1).getByTestId('output-correct').click();
    await page.getByTestId('correct-key').fill('d');
    await page.getByTestId('correct-send').click();
    await expect.poll(states).toEqual(['live', 'live', 'live']);
    const { jobs } = await (await server.api('GET', path)).json();
    expect(jobs, 'all of that happened in one job').toHaveLength(1);

    // With nothing left that works the job is over: what was given up is put out of sight one by one.
    rtmp.refused.add('e');
    await server.api('POST', path, {
      destinations: [to('b'), { ...to('e'), url: `${rtmp.url}?secret=1` }],
    });
    await expect.poll(states).toEqual(['live', 'live', 'live', 'failed', 'failed']);
    await rows.nth(4).getByTestId('output-correct').click();
    await expect(page.getByTestId('correct-url')).toHaveValue(rtmp.url);
    await expect(page.getByTestId('correct-form')).toContainText('behind the “?”');
    await page.getByTestId('correct-cancel').click();
    await expect(rows.nth(4).getByTestId('output-correct')).toBeFocused();
    for (const left of [4, 3]) {
      await rows.nth(3).getByTestId('output-remove').click();
      await expect(rows).toHaveCount(left);
    }
    const now = await (await server.api('GET', path)).json();
    expect(now.jobs.map((job: { id: string }) => job.id)).toEqual([id]);
  } finally {
    await rtmp.stop();
  }
});

test('the broadcast plays as HLS in the watch page', async ({ server, room, newPage }) => {
  const studio = await Studio.open(await newPage(), server, room);
  await studio.goLive();
  const link = studio.page.getByTestId('share-link-hls');
  await expect(link).toHaveCount(0);
  await studio.switchHls();
  await studio.expectOutput('/hls/', 'live');

  await expect(link).toHaveValue(`${server.origin}/watch/${room}?player=hls`);
  await expect(studio.page.getByTestId('share-local')).toContainText('on this computer only');
  const viewer = await newPage();
  const watch = await Watch.open(viewer, server, room, '?player=hls');
  await expectPicture(viewer, 15_000);
  const position = () =>
    watch.player.evaluate((video) => (video instanceof HTMLVideoElement ? video.currentTime : 0));
  const start = await position();
  await expect
    .poll(position, { message: 'the player goes on', intervals: POLL })
    .toBeGreaterThan(start + 1);
});

test('everybody on stage is composed once for all who get it, and a receiver of SRT is one of them', async ({
  server,
  room,
  newPage,
}) => {
  const rtmp = await RtmpServer.start();
  try {
    const studio = await Studio.open(await newPage(), server, room);
    await studio.goLive();
    const { page } = studio;
    const add = page.getByTestId('output-add');
    await page.getByTestId('output-picture').selectOption('stage-720');
    let asked = 0;
    let goOn = () => {};
    const held = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    await page.route('**/egress', async (route) => {
      asked += 1;
      await held;
      await route.continue();
    });
    await page.getByTestId('output-platform').selectOption('custom');
    await page.getByTestId('output-url').fill(rtmp.url);
    await page.getByTestId('output-key').fill('key');
    await add.dblclick();
    await page.getByTestId('output-key').press('Enter');
    await expect(add).toBeDisabled();
    goOn();
    await studio.expectOutput(rtmp.url, 'live');
    expect(asked, 'who clicks twice asks once').toBe(1);
    await expect(studio.output(rtmp.url)).toContainText('Everybody on stage, 720p');

    await page.getByTestId('output-key').fill('key');
    await add.click();
    const refusal = page.getByTestId('output-form').getByTestId('output-error');
    await expect(refusal).toHaveAttribute('data-code', 'destination_duplicate');
    await expect(page.getByTestId('output-key')).toHaveAttribute('aria-invalid', 'true');
    await expect(page.getByTestId('output-key')).toBeFocused();
    await page.getByTestId('output-key').fill('');
    await expect(refusal).toHaveCount(0);

    const address = `srt://127.0.0.1:${await freePort()}`;
    const shown = ['-show_entries', 'stream=codec_name,width', '-of', 'csv=p=0'];
    const received = run('ffprobe', ['-v', 'error', ...shown, `${address}?mode=listener`]);
    await studio.addSrt(address);
    await studio.expectOutput(address, 'live');
    expect(new Set((await received).trim().split(/\s+/))).toEqual(new Set(['h264,1280', 'aac']));

    const response = await server.api('GET', `/api/rooms/${room}/egress`);
    const { jobs } = (await response.json()) as { jobs: unknown[] };
    expect(jobs, 'one worker composes for both').toHaveLength(1);
    await studio.output(rtmp.url).getByTestId('output-remove').click();
    await studio.output(rtmp.url).getByTestId('output-end').click();
    await expect(studio.output(rtmp.url)).toHaveCount(0);
    await expect(studio.output(address)).toBeVisible();
  } finally {
    await rtmp.stop();
  }
});

async function expectAccessible(page: Page): Promise<void> {
  const outputs = new AxeBuilder({ page }).include('[aria-labelledby="outputs"]');
  const { violations } = await outputs.analyze();
  expect(violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)])).toEqual([]);
}
