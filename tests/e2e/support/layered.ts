import type { Page } from '@playwright/test';
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
