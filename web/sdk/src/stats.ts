/** What a broadcast sends. */
export interface PublisherStats {
  /** Bit/s, picture and sound. */
  readonly bitrate: number;
  readonly framesPerSecond: number;
  readonly width: number;
  readonly height: number;
  /** Round trip to the server in milliseconds. */
  readonly rttMs: number | undefined;
  /** Share of packets lost on the way to the server, 0 to 1. */
  readonly loss: number;
  /** What keeps the picture below its best. */
  readonly limitedBy: 'none' | 'cpu' | 'bandwidth' | 'other';
  /** Whether nothing has come back from the server since the last look. */
  readonly unanswered: boolean;
  /** For instance `H264`. */
  readonly codec: string | undefined;
  readonly health: Health;
}

/** What a view receives. */
export interface ViewerStats {
  /** Bit/s, picture and sound. */
  readonly bitrate: number;
  readonly framesPerSecond: number;
  readonly width: number;
  readonly height: number;
  /** Estimated time from the server to the screen, in milliseconds: half the round trip, buffering and decoding. */
  readonly latencyMs: number | undefined;
  readonly jitterMs: number;
  /** Share of packets lost on the way from the server, before repair, 0 to 1. */
  readonly loss: number;
  /** Interruptions of the picture since the connection was made. */
  readonly freezes: number;
  readonly codec: string | undefined;
  readonly health: Health;
}

/** How well a connection does. */
export type Health = 'good' | 'fair' | 'poor';

/** Turns successive reports of a sending connection into {@link PublisherStats}. */
export class PublisherMeter {
  #before: Sample | undefined;

  reset(): void {
    this.#before = undefined;
  }

  read(report: RTCStatsReport, nowMs: number): PublisherStats {
    const all = entries(report);
    const video = tallest(all, 'outbound-rtp');
    const remotes = all.filter((entry) => entry.type === 'remote-inbound-rtp');
    const bytes = sum(all, 'outbound-rtp', 'bytesSent');
    const sample = {
      atMs: nowMs,
      bytes,
      received: sum(all, 'transport', 'packetsReceived'),
      lost: 0,
    };
    const bitrate = bitrateBetween(this.#before, sample);
    const unanswered = this.#before?.received === sample.received;
    this.#before = sample;
    const loss = Math.max(0, ...remotes.map((remote) => count(remote.fractionLost)));
    const limitedBy = limitation(video?.qualityLimitationReason);
    const rttMs = roundTrip(all);
    return {
      bitrate,
      framesPerSecond: count(video?.framesPerSecond),
      width: count(video?.frameWidth),
      height: count(video?.frameHeight),
      rttMs,
      loss,
      limitedBy,
      unanswered,
      codec: codecName(all, video),
      health: judgePublisher({ loss, limitedBy, rttMs }),
    };
  }
}

/** Turns successive reports of a receiving connection into {@link ViewerStats}. */
export class ViewerMeter {
  #before: ViewerSample | undefined;

  reset(): void {
    this.#before = undefined;
  }

  read(report: RTCStatsReport, nowMs: number): ViewerStats {
    const all = entries(report);
    const video = tallest(all, 'inbound-rtp');
    const audio = all
      .filter((entry) => entry.type === 'inbound-rtp' && entry.kind === 'audio')
      .sort((a, b) => count(b.packetsReceived) - count(a.packetsReceived))[0];
    const shown = count(video?.framesDecoded) > 0 ? video : audio;
    const sample = {
      atMs: nowMs,
      bytes: sum(all, 'inbound-rtp', 'bytesReceived'),
      received: sum(all, 'inbound-rtp', 'packetsReceived'),
      lost: sum(all, 'inbound-rtp', 'packetsLost'),
      freezes: sum(all, 'inbound-rtp', 'freezeCount'),
      shown: shown?.id,
      jitterBuffer: {
        total: count(shown?.jitterBufferDelay),
        per: count(shown?.jitterBufferEmittedCount),
      },
      processing: { total: count(video?.totalDecodeTime), per: count(video?.framesDecoded) },
    };
    const before = this.#before;
    this.#before = sample;
    const loss = lossBetween(before, sample);
    const framesPerSecond = count(video?.framesPerSecond);
    return {
      bitrate: bitrateBetween(before, sample),
      framesPerSecond,
      width: count(video?.frameWidth),
      height: count(video?.frameHeight),
      // Sums of another stream say nothing about this one.
      latencyMs: latency(all, before?.shown === sample.shown ? before : undefined, sample),
      jitterMs: count(shown?.jitter) * 1000,
      loss,
      freezes: sample.freezes,
      codec: codecName(all, video),
      health: judgeViewer({ loss, newFreezes: sample.freezes - (before?.freezes ?? 0) }),
    };
  }
}

/** Judges a broadcast: `poor` when viewers see it suffer, `fair` when it is held back. */
export function judgePublisher(
  measured: Pick<PublisherStats, 'loss' | 'limitedBy' | 'rttMs'>,
): Health {
  if (measured.loss > 0.08 || (measured.rttMs ?? 0) > 800) return 'poor';
  const heldBack = measured.limitedBy === 'bandwidth' || measured.limitedBy === 'cpu';
  return heldBack || measured.loss > 0.02 || (measured.rttMs ?? 0) > 300 ? 'fair' : 'good';
}

/** Judges a view by what was lost and by the freezes since the last look. */
export function judgeViewer(measured: { loss: number; newFreezes: number }): Health {
  if (measured.loss > 0.1 || measured.newFreezes > 1) return 'poor';
  return measured.loss > 0.03 || measured.newFreezes > 0 ? 'fair' : 'good';
}

/** An entry of a report as it comes from the browser: no field can be relied on. */
type Entry = Readonly<Record<string, unknown>>;

interface Sample {
  readonly atMs: number;
  readonly bytes: number;
  readonly received: number;
  readonly lost: number;
}

interface ViewerSample extends Sample {
  readonly freezes: number;
  /** The stream that the sums below are of. */
  readonly shown: unknown;
  readonly jitterBuffer: Ratio;
  readonly processing: Ratio;
}

interface Ratio {
  readonly total: number;
  readonly per: number;
}

function entries(report: RTCStatsReport): Entry[] {
  const list: Entry[] = [];
  report.forEach((entry: Entry) => {
    list.push(entry);
  });
  return list;
}

/** The picture's stream that is being sent or received with most lines. */
function tallest(all: readonly Entry[], type: string): Entry | undefined {
  const videos = all.filter((entry) => entry.type === type && entry.kind === 'video');
  return videos.sort((a, b) => rank(b) - rank(a))[0];
}

/** A stream that is stopped keeps its last height. */
function rank(video: Entry): number {
  const lines = count(video.frameHeight);
  return video.active === false || count(video.framesPerSecond) === 0 ? lines / 1e6 : lines;
}

function count(value: unknown): number {
  return typeof value === 'number' ? value : 0;
}

function sum(all: readonly Entry[], type: string, field: string): number {
  return all
    .filter((entry) => entry.type === type)
    .reduce((total, entry) => total + count(entry[field]), 0);
}

function bitrateBetween(before: Sample | undefined, after: Sample): number {
  if (!before || after.atMs <= before.atMs) return 0;
  return Math.max(0, ((after.bytes - before.bytes) * 8 * 1000) / (after.atMs - before.atMs));
}

function lossBetween(before: Sample | undefined, after: Sample): number {
  const lost = after.lost - (before?.lost ?? 0);
  const received = after.received - (before?.received ?? 0);
  return lost > 0 && lost + received > 0 ? lost / (lost + received) : 0;
}

function mean(before: Ratio | undefined, after: Ratio): number | undefined {
  const per = after.per - (before?.per ?? 0);
  return per > 0 ? (after.total - (before?.total ?? 0)) / per : undefined;
}

function latency(
  all: readonly Entry[],
  before: { jitterBuffer: Ratio; processing: Ratio } | undefined,
  after: { jitterBuffer: Ratio; processing: Ratio },
): number | undefined {
  const buffered = mean(before?.jitterBuffer, after.jitterBuffer);
  if (buffered === undefined) return undefined;
  const decoding = mean(before?.processing, after.processing) ?? 0;
  return (roundTrip(all) ?? 0) / 2 + (buffered + decoding) * 1000;
}

/** The round trip of the connectivity checks on the pair in use. */
function roundTrip(all: readonly Entry[]): number | undefined {
  const pair = all.find((entry) => entry.type === 'candidate-pair' && entry.nominated === true);
  const seconds = pair?.currentRoundTripTime;
  return typeof seconds === 'number' ? seconds * 1000 : undefined;
}

function codecName(all: readonly Entry[], stream: Entry | undefined): string | undefined {
  const codec = all.find((entry) => entry.id === stream?.codecId);
  return typeof codec?.mimeType === 'string' ? codec.mimeType.split('/')[1] : undefined;
}

function limitation(reason: unknown): PublisherStats['limitedBy'] {
  return reason === 'cpu' || reason === 'bandwidth' || reason === 'other' ? reason : 'none';
}
