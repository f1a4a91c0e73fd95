import { readClock } from '../support/clock.ts';
import { expect, test } from '../support/fixtures.ts';
import { broadcastLayers, watchThrough } from '../support/layered.ts';
import { expectVideoFlows } from '../support/media.ts';
import { Network } from '../support/network.ts';
import { Watch } from '../support/pages.ts';
import { noteSeconds, type Second, table, untilLines, untilSteady } from '../support/reception.ts';
import { noteRow } from './table.ts';

const SECONDS = 60;
const NEAR = { delayMs: 10 };
const LINKS = { '400 kbit/s': 400_000, '1.5 Mbit/s': 1_500_000 };

for (const codec of ['h264', 'vp9']) {
  test(`slow links, ${codec}`, async ({ server, room, newPage }) => {
    await broadcastLayers(await newPage(), server, room, codec);
    const links = Object.entries(LINKS).map(async ([name, rate]) => {
      const slow = { down: { ...NEAR, rate }, up: NEAR };
      const page = await newPage();
      const network = await watchThrough(page, slow, server, room);
      const [rows, { latencies }] = await Promise.all([
        noteSeconds(page, SECONDS),
        readClock(page, SECONDS * 1000),
      ]);
      const where = `${codec.toUpperCase()} behind ${name}`;
      noteRow(`${where}: broadcaster to viewer`, latencies);
      noteSeries(where, rows);

      network.shape({ down: NEAR, up: NEAR });
      const climb = await untilLines(page, 720, 30_000);
      noteRow(`${where}: to the top when the limit is lifted`, [climb]);
    });
    await Promise.all(links);
  });

  test(`climbing on a free link, ${codec}`, async ({ server, room, newPage }) => {
    await broadcastLayers(await newPage(), server, room, codec);
    const times: number[] = [];
    for (let round = 0; round < 5; round++) {
      const page = await newPage();
      await Network.before(page, { down: NEAR, up: NEAR });
      await Watch.open(page, server, room);
      await expectVideoFlows(page, 1);
      times.push(await untilLines(page, 720));
      await page.context().close();
    }
    noteRow(`${codec.toUpperCase()}: from the first picture to the top layer`, times);
  });
}

test('5 % loss and 50 ms', async ({ server, room, newPage }) => {
  await broadcastLayers(await newPage(), server, room, 'h264');
  const far = { delayMs: 25 };
  const frozen = async (where: string, loss: number): Promise<number> => {
    const page = await newPage();
    await watchThrough(page, { down: { ...far, loss }, up: far }, server, room);
    await untilSteady(page, 720, 4);
    const rows = await noteSeconds(page, SECONDS);
    await page.context().close();
    noteSeries(where, rows);
    const ms = column(rows, 'frozenMs').reduce((sum, each) => sum + each, 0);
    noteRow(`${where}: frozen in all`, [ms]);
    noteRow(`${where}: sound made up, percent of a second`, column(rows, 'concealed'));
    return ms;
  };
  // What a busy machine freezes is not the loss's doing.
  const floor = await frozen('no loss, 50 ms', 0);
  const lossy = await frozen('5 % loss, 50 ms', 0.05);
  expect(lossy - floor, 'less than 1 % of the time').toBeLessThan(SECONDS * 10);
});

test('sound behind 200 kbit/s', async ({ server, room, newPage }) => {
  await broadcastLayers(await newPage(), server, room, 'h264');
  const slow = { down: { ...NEAR, rate: 200_000 }, up: NEAR };
  const page = await newPage();
  await Network.before(page, slow);
  await Watch.open(page, server, room);
  // The picture alone would fill it: there may be none for long.
  await expectVideoFlows(page, 1);
  const rows = await noteSeconds(page, SECONDS);
  noteSeries('behind 200 kbit/s', rows);
  noteRow('behind 200 kbit/s: sound made up, percent of a second', column(rows, 'concealed'));
});

function noteSeries(where: string, rows: readonly Second[]): void {
  noteRow(`${where}: lines of the picture, each second`, column(rows, 'height'));
  noteRow(`${where}: jitter buffer, each second`, column(rows, 'bufferMs'));
  noteRow(`${where}: frozen, of each second`, column(rows, 'frozenMs'));
  if (process.env.SERIES) console.log(`${where}\n${table(rows)}`);
}

function column(rows: readonly Second[], name: keyof Second): number[] {
  return rows.map((row) => row[name]);
}
