import { expect, type Page } from '@playwright/test';
import { replaceCameraByClock } from './clock.ts';
import { expectVideoFlows } from './media.ts';
import { Network, type NetworkShape } from './network.ts';
import { Studio, Watch } from './pages.ts';
import type { Server } from './server.ts';

/** Broadcasts a picture that needs all the bitrate it is given, in layers. */
export async function broadcastLayers(
  page: Page,
  server: Server,
  room: string,
  codec: string,
  frameRate = 30,
): Promise<void> {
  await replaceCameraByClock(page.context(), 'busy', frameRate);
  const studio = await Studio.open(page, server, room, `?codec=${codec}&simulcast=1`);
  await studio.goLive();
}

/** Returns the heights in lines of the pictures that a page encodes, the lowest first; a scalable one counts as its largest. */
export async function encodedLines(page: Page): Promise<number[]> {
  return page.evaluate(async () => {
    const reports = await Promise.all(openedConnections.map((connection) => connection.getStats()));
    return reports
      .flatMap((report) => [...report.values()])
      .filter((stat) => stat.type === 'outbound-rtp' && stat.kind === 'video')
      .filter((stat) => stat.active !== false && stat.framesPerSecond > 0)
      .map((stat): number => stat.frameHeight)
      .sort((a, b) => a - b);
  });
}

/** Waits until a page sends a picture of that many lines at a bitrate, bit/s: encoders begin with less. */
export async function untilSending(page: Page, lines: number, bitrate: number): Promise<void> {
  let before = await sentBytes(page, lines);
  const sent = async () => {
    const now = await sentBytes(page, lines);
    // Of a shorter time one picture makes too much.
    if (now.at - before.at < 500) return 0;
    const since = ((now.bytes - before.bytes) * 8000) / (now.at - before.at);
    before = now;
    return since;
  };
  const options = { intervals: [1000], timeout: 30_000, message: `${lines} lines are sent` };
  await expect.poll(sent, options).toBeGreaterThan(bitrate);
}

async function sentBytes(page: Page, lines: number): Promise<{ bytes: number; at: number }> {
  return page.evaluate(async (lines) => {
    const reports = await Promise.all(openedConnections.map((connection) => connection.getStats()));
    const layers = reports
      .flatMap((report) => [...report.values()])
      .filter((stat) => stat.type === 'outbound-rtp' && stat.frameHeight === lines)
      .map((stat): number => stat.bytesSent);
    return { bytes: layers.reduce((sum, bytes) => sum + bytes, 0), at: performance.now() };
  }, lines);
}

/** Watches through a network that is like that. */
export async function watchThrough(
  page: Page,
  shape: NetworkShape,
  server: Server,
  room: string,
): Promise<Network> {
  const network = await Network.before(page, shape);
  await Watch.open(page, server, room);
  // Some are sent eight a second.
  await expectVideoFlows(page, 15);
  return network;
}
