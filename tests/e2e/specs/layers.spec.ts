import { expect, test } from '../support/fixtures.ts';
import { broadcastLayers, encodedLines, untilSending, watchThrough } from '../support/layered.ts';
import { noteSeconds, table, untilLines, untilSteady } from '../support/reception.ts';

const NEAR = { delayMs: 10 };
/** At half of the usual frame rate, or less, three layers take as many bits and less work. */
const SENT = [
  { codec: 'h264', frameRate: 15 },
  { codec: 'vp8', frameRate: 15 },
  { codec: 'vp9', frameRate: 15 },
  { codec: 'av1', frameRate: 8 },
];
const LINKS: readonly { name: string; rate: number; lines: number }[] = [
  { name: '400 kbit/s', rate: 400_000, lines: 180 },
  { name: '1.5 Mbit/s', rate: 1_500_000, lines: 360 },
  { name: 'a free link', rate: Number.POSITIVE_INFINITY, lines: 720 },
];

for (const { codec, frameRate } of SENT) {
  test(`viewers get the layer of ${codec} that their link carries, and stay there`, async ({
    server,
    room,
    newPage,
  }) => {
    // Three layers are encoded and three pages decode on two cores.
    test.slow();
    const studio = await newPage(SMALL);
    await broadcastLayers(studio, server, room, codec, frameRate);
    // Before, the best may fit the link that it is to be too much for.
    await untilSending(studio, 720, 1_600_000);
    const viewers = await Promise.all(
      LINKS.map(async ({ name, rate, lines }) => {
        const page = await newPage(SMALL);
        const shape = { down: { ...NEAR, rate }, up: NEAR };
        return { name, lines, page, network: await watchThrough(page, shape, server, room) };
      }),
    );
    // Encoders and estimates take some seconds to settle.
    const settled = viewers.map(({ page, lines }) => untilSteady(page, lines, SETTLED_SECONDS));
    await Promise.all(settled);

    const series = await Promise.all(viewers.map(({ page }) => noteSeconds(page, STEADY_SECONDS)));
    for (const [n, { name, lines }] of viewers.entries()) {
      const rows = series[n] ?? [];
      // One attempt to climb may fail when the machine is late to relay.
      const elsewhere = rows.filter(({ height }) => height !== lines);
      expect(elsewhere.length, `behind ${name}:\n${table(rows)}`).toBeLessThanOrEqual(1);
    }

    for (const { network } of viewers) network.shape({ down: NEAR, up: NEAR });
    for (const { name, page } of viewers) {
      await test.step(`all lines when ${name} is lifted`, () => untilLines(page, 720, 10_000));
    }
  });
}

for (const { codec, frameRate, all } of [
  { codec: 'h264', frameRate: 15, all: [180, 360, 720] },
  { codec: 'vp9', frameRate: 15, all: [720] },
]) {
  test(`layers of ${codec} that nobody gets are not encoded`, async ({ server, room, newPage }) => {
    // Servers wait ten seconds until they say so.
    test.slow();
    const studio = await newPage(SMALL);
    await broadcastLayers(studio, server, room, codec, frameRate);
    const encoded = (lines: number[]) =>
      expect.poll(() => encodedLines(studio), { timeout: 30_000 }).toEqual(lines);
    await encoded(all);

    const page = await newPage(SMALL);
    const shape = { down: { ...NEAR, rate: 400_000 }, up: NEAR };
    const network = await watchThrough(page, shape, server, room);
    await encoded([180]);
    await untilSteady(page, 180, SETTLED_SECONDS);

    network.shape({ down: NEAR, up: NEAR });
    await untilLines(page, 720, 20_000);
    await encoded(all);
  });
}

/** Less to paint. */
const SMALL = { viewport: { width: 480, height: 400 } };
const SETTLED_SECONDS = 4;
const STEADY_SECONDS = 8;
