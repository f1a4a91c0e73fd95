import { expect, type Page } from '@playwright/test';
import { POLL, received } from './media.ts';

/** What a page received within about a second, and how. */
export interface Second {
  /** Since the series began, s. */
  at: number;
  /** Lines of the picture. */
  height: number;
  framesPerSecond: number;
  /** Video alone. */
  kbps: number;
  /** Since the stream began. */
  freezes: number;
  /** Of this second, ms. */
  frozenMs: number;
  /** How long pictures waited in the jitter buffer, mean, ms. */
  bufferMs: number;
  /** Round trip of the connection, ms. */
  rttMs: number;
  lost: number;
  nacks: number;
  keyFrames: number;
  /** Quantizer, mean: the codec's own scale, smaller is better. */
  qp: number;
  /** Share of the sound that had to be made up, percent. */
  concealed: number;
}

/** Notes second by second what a page receives. */
export async function noteSeconds(page: Page, seconds: number): Promise<Second[]> {
  return page.evaluate(async (seconds) => {
    const start = performance.now();
    const rows: Second[] = [];
    let before = await read();
    for (let n = 1; n <= seconds; n++) {
      await new Promise((resolve) => setTimeout(resolve, start + n * 1000 - performance.now()));
      const after = await read();
      const since = (counter: string) => (after[counter] ?? 0) - (before[counter] ?? 0);
      const span = since('time') / 1000;
      rows.push({
        at: (performance.now() - start) / 1000,
        height: after.frameHeight ?? 0,
        framesPerSecond: since('framesDecoded') / span,
        kbps: (since('bytesReceived') * 8) / 1000 / span,
        freezes: after.freezeCount ?? 0,
        frozenMs: since('totalFreezesDuration') * 1000,
        bufferMs: (since('jitterBufferDelay') / since('jitterBufferEmittedCount')) * 1000,
        rttMs: (after.rtt ?? 0) * 1000,
        lost: since('packetsLost'),
        nacks: since('nackCount'),
        keyFrames: since('keyFramesDecoded'),
        qp: since('qpSum') / since('framesDecoded'),
        concealed: (since('concealedSamples') / since('totalSamplesReceived')) * 100,
      });
      before = after;
    }
    return rows;

    /** Video's counters, and those of audio and of the transport that have other names. */
    async function read(): Promise<Record<string, number>> {
      const connection = openedConnections.at(-1);
      const facts: Record<string, number> = { time: performance.now() };
      for (const stat of (await connection?.getStats())?.values() ?? []) {
        if (stat.type === 'inbound-rtp' && stat.kind === 'video' && stat.framesReceived) {
          Object.assign(facts, stat);
        } else if (stat.type === 'inbound-rtp' && stat.kind === 'audio') {
          facts.concealedSamples = stat.concealedSamples - stat.silentConcealedSamples;
          facts.totalSamplesReceived = stat.totalSamplesReceived;
        } else if (stat.type === 'candidate-pair' && stat.nominated) {
          facts.rtt = stat.currentRoundTripTime;
        }
      }
      return facts;
    }
  }, seconds);
}

/** Waits until the page shows a picture of that many lines, and returns how long that took, ms. */
export async function untilLines(page: Page, lines: number, timeout = 10_000): Promise<number> {
  const start = performance.now();
  await expect
    .poll(async () => (await received(page)).height, { intervals: POLL, timeout })
    .toBe(lines);
  return performance.now() - start;
}

/** Waits until the page has shown a picture of that many lines for so long. */
export async function untilSteady(
  page: Page,
  lines: number,
  seconds: number,
  timeout = 40_000,
): Promise<void> {
  let since = performance.now();
  const steadyFor = async () => {
    const { height } = await received(page);
    if (height !== lines) since = performance.now();
    return (performance.now() - since) / 1000;
  };
  const message = `${lines} lines for ${seconds} s`;
  await expect
    .poll(steadyFor, { intervals: POLL, timeout, message })
    .toBeGreaterThanOrEqual(seconds);
}

/** Writes a series as a table, a line a second. */
export function table(rows: readonly Second[]): string {
  const names = Object.keys(rows[0] ?? {}) as (keyof Second)[];
  const cells = rows.map((row) => names.map((name) => row[name].toFixed(name === 'at' ? 1 : 0)));
  return [names, ...cells]
    .map((line) => line.map((cell) => cell.padStart(COLUMN)).join(''))
    .join('\n');
}

const COLUMN = 11;
