import { type BrowserContext, expect, type Page } from '@playwright/test';

declare global {
  /** Every connection that the page has opened, in order; recorded by {@link recordConnections}. */
  var openedConnections: RTCPeerConnection[];
}

/** What a page receives and shows, summed over its open connections. */
export interface Received {
  framesDecoded: number;
  videoCodec: string;
  width: number;
  height: number;
  audioEnergy: number;
  /** Connections opened since the page was loaded, closed ones included. */
  connections: number;
}

/** What the shown picture is made of. */
export interface Picture {
  /** Mean luma, 0 (black) to 255. */
  brightness: number;
  /** Standard deviation of luma: 0 for an even surface. */
  contrast: number;
  /** Mean red, green and blue. */
  colour: [number, number, number];
}

/** Keeps each page's connections where {@link received} finds them; the pages themselves are untouched. */
export async function recordConnections(context: BrowserContext): Promise<void> {
  await context.addInitScript(() => {
    const Original = globalThis.RTCPeerConnection;
    globalThis.openedConnections = [];
    globalThis.RTCPeerConnection = class extends Original {
      constructor(configuration?: RTCConfiguration) {
        super(configuration);
        globalThis.openedConnections.push(this);
      }
    };
  });
}

/** Opens cameras smaller and slower than a page asks for, so that many can decode them on one machine. */
export async function shrinkCamera(context: BrowserContext): Promise<void> {
  await context.addInitScript(() => {
    const devices = navigator.mediaDevices;
    if (!devices) return;
    const original = devices.getUserMedia.bind(devices);
    devices.getUserMedia = (constraints) =>
      original({
        ...constraints,
        video: constraints?.video ? { width: 320, height: 180, frameRate: 10 } : false,
      });
  });
}

/** Reads what the page receives at this moment. */
export async function received(page: Page): Promise<Received> {
  return page.evaluate(async () => {
    const facts = { framesDecoded: 0, videoCodec: '', width: 0, height: 0, audioEnergy: 0 };
    for (const connection of openedConnections) {
      if (connection.connectionState === 'closed') continue;
      const stats = await connection.getStats();
      for (const stat of stats.values()) {
        if (stat.type !== 'inbound-rtp') continue;
        if (stat.kind === 'video' && stat.framesDecoded > 0) {
          facts.framesDecoded += stat.framesDecoded;
          facts.videoCodec = stats.get(stat.codecId)?.mimeType ?? '';
          facts.width = stat.frameWidth;
          facts.height = stat.frameHeight;
        }
        if (stat.kind === 'audio') facts.audioEnergy += stat.totalAudioEnergy ?? 0;
      }
    }
    return { ...facts, connections: openedConnections.length };
  });
}

/** Waits until the page has decoded that many frames more than at the time of the call. */
export async function expectVideoFlows(page: Page, frames = 15, timeout = 10_000): Promise<void> {
  const gained = await growth(page, (facts) => facts.framesDecoded);
  await expect
    .poll(gained, { message: `${frames} more frames are decoded`, intervals: POLL, timeout })
    .toBeGreaterThanOrEqual(frames);
}

/** Waits until the page has played sound since the time of the call. */
export async function expectSoundFlows(page: Page, timeout = 10_000): Promise<void> {
  const gained = await growth(page, (facts) => facts.audioEnergy);
  await expect
    .poll(gained, { message: 'sound is heard', intervals: POLL, timeout })
    .toBeGreaterThan(0.0001);
}

/** Waits until the player shows a picture that is neither black nor an even surface. */
export async function expectPicture(page: Page, timeout = 10_000): Promise<Picture> {
  let shown: Picture = { brightness: 0, contrast: 0, colour: [0, 0, 0] };
  await expect(async () => {
    shown = await picture(page);
    expect(shown.brightness, 'the picture is not black').toBeGreaterThan(20);
    expect(shown.contrast, 'the picture is not an even surface').toBeGreaterThan(5);
  }).toPass({ intervals: POLL, timeout });
  return shown;
}

/** Looks at the decoded pixels of a video element. */
async function picture(page: Page, testId = 'player'): Promise<Picture> {
  return page.getByTestId(testId).evaluate((video) => {
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [64, 36];
    const context = canvas.getContext('2d', { willReadFrequently: true });
    if (!(video instanceof HTMLVideoElement) || context === null) throw new Error('no video');
    context.drawImage(video, 0, 0, 64, 36);
    const { data } = context.getImageData(0, 0, 64, 36);
    const pixels = data.length / 4;
    const colour: [number, number, number] = [0, 0, 0];
    let [sum, squares] = [0, 0];
    for (let at = 0; at < data.length; at += 4) {
      const [red = 0, green = 0, blue = 0] = data.subarray(at, at + 3);
      const luma = 0.299 * red + 0.587 * green + 0.114 * blue;
      sum += luma;
      squares += luma * luma;
      colour[0] += red / pixels;
      colour[1] += green / pixels;
      colour[2] += blue / pixels;
    }
    const brightness = sum / pixels;
    const contrast = Math.sqrt(Math.max(0, squares / pixels - brightness ** 2));
    return { brightness, contrast, colour };
  });
}

/** Intervals for polling facts of media, ms. */
export const POLL = [50, 100, 100];

/** Returns a function that tells how much a counter has grown by; a new connection counts from zero. */
async function growth(
  page: Page,
  counter: (facts: Received) => number,
): Promise<() => Promise<number>> {
  let last = counter(await received(page));
  let gained = 0;
  return async () => {
    const next = counter(await received(page));
    gained += next >= last ? next - last : next;
    last = next;
    return gained;
  };
}
