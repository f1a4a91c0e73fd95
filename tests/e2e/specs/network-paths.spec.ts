import type { Page } from '@playwright/test';
import { expect, test } from '../support/fixtures.ts';
import { broadcastLayers, watchThrough } from '../support/layered.ts';
import { expectPicture, expectVideoFlows, received } from '../support/media.ts';
import { Network } from '../support/network.ts';
import { Studio, Watch } from '../support/pages.ts';
import { noteSeconds, untilSteady } from '../support/reception.ts';

test('a viewer whose address changes sees on over the same connection', async ({
  server,
  room,
  newPage,
}) => {
  const studio = await Studio.open(await newPage(), server, room);
  await studio.goLive();
  const viewer = await newPage();
  const network = await Network.before(viewer);
  await Watch.open(viewer, server, room);
  await expectVideoFlows(viewer, 30);

  network.moveAddress();
  await expectVideoFlows(viewer, 90);
  const { connections } = await received(viewer);
  expect(connections, 'the viewer kept its connection').toBe(1);
});

test('a viewer whose network blocks UDP sees over TCP', async ({ server, room, newPage }) => {
  const studio = await Studio.open(await newPage(), server, room);
  await studio.goLive();
  const viewer = await newPage();
  (await Network.before(viewer)).blockUdp();
  await Watch.open(viewer, server, room);
  await expectVideoFlows(viewer, 60);
  await expectPicture(viewer);
  expect(await protocols(viewer)).toEqual(['tcp']);
});

test('a viewer far away who loses 5 % sees on', async ({ server, room, newPage }) => {
  test.setTimeout(240_000);
  await broadcastLayers(await newPage(), server, room, 'h264', 15);
  const far = { delayMs: 25 };
  const viewer = await newPage();
  await watchThrough(viewer, { down: { ...far, loss: 0.05 }, up: far }, server, room);
  await untilSteady(viewer, 720, 4);
  let lost = 0;
  const frozenMs: number[] = [];
  const minute = () => frozenMs.slice(-MINUTE).reduce((sum, ms) => sum + ms, 0);
  // Less than a hundredth of a minute. A busy machine freezes pictures, too: one minute of three is enough.
  while (frozenMs.length < MINUTE || (minute() >= 600 && frozenMs.length < 3 * MINUTE)) {
    const rows = await noteSeconds(viewer, 6);
    lost += rows.reduce((sum, row) => sum + row.nacks, 0);
    frozenMs.push(rows.reduce((sum, row) => sum + row.frozenMs, 0));
  }
  expect(lost, 'packets were lost and asked for').toBeGreaterThan(100);
  expect(minute(), `frozen in each six seconds: ${frozenMs}`).toBeLessThan(600);
});

/** Measurements of six seconds in a minute. */
const MINUTE = 10;

/** The protocols of the connections that carry the page's media. */
async function protocols(page: Page): Promise<string[]> {
  return page.evaluate(async () => {
    const protocols: string[] = [];
    for (const connection of openedConnections) {
      const stats = await connection.getStats();
      for (const stat of stats.values()) {
        if (stat.type === 'candidate-pair' && stat.nominated) {
          protocols.push(stats.get(stat.localCandidateId).protocol);
        }
      }
    }
    return protocols;
  });
}
