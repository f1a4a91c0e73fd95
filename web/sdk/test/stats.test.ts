import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judgePublisher, judgeViewer, PublisherMeter, ViewerMeter } from '../src/stats.ts';

/** A report of these entries; the meters use nothing of it but `forEach`. */
function report(...entries: Record<string, unknown>[]): RTCStatsReport {
  return new Map(entries.map((entry, i) => [String(i), entry])) as unknown as RTCStatsReport;
}

test('bitrate is counted between two looks', () => {
  const meter = new PublisherMeter();
  const at = (bytesSent: number) => report({ type: 'outbound-rtp', kind: 'video', bytesSent });
  assert.equal(meter.read(at(1000), 0).bitrate, 0);
  assert.equal(meter.read(at(251_000), 1000).bitrate, 2_000_000);
  meter.reset();
  assert.equal(meter.read(at(0), 2000).bitrate, 0);
});

test('latency is half the round trip, buffering and decoding', () => {
  const meter = new ViewerMeter();
  const at = (frames: number) =>
    report(
      { type: 'candidate-pair', nominated: true, currentRoundTripTime: 0.04 },
      {
        type: 'inbound-rtp',
        kind: 'video',
        framesDecoded: frames,
        totalDecodeTime: frames * 0.005,
        jitterBufferDelay: frames * 0.03,
        jitterBufferEmittedCount: frames,
      },
    );
  meter.read(at(30), 0);
  const { latencyMs } = meter.read(at(60), 1000);
  assert.equal(Math.round(latencyMs ?? 0), 55);
});

test('an empty report is no trouble', () => {
  const stats = new ViewerMeter().read(report(), 0);
  assert.equal(stats.latencyMs, undefined);
  assert.equal(stats.health, 'good');
});

test('health follows what people notice', () => {
  const calm = { loss: 0, limitedBy: 'none', rttMs: 20 } as const;
  assert.equal(judgePublisher(calm), 'good');
  assert.equal(judgePublisher({ ...calm, limitedBy: 'bandwidth' }), 'fair');
  assert.equal(judgePublisher({ ...calm, loss: 0.2 }), 'poor');
  assert.equal(judgePublisher({ ...calm, rttMs: undefined }), 'good');
  assert.equal(judgeViewer({ loss: 0, newFreezes: 0 }), 'good');
  assert.equal(judgeViewer({ loss: 0.05, newFreezes: 0 }), 'fair');
  assert.equal(judgeViewer({ loss: 0, newFreezes: 2 }), 'poor');
});
