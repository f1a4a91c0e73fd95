import type { Page } from '@playwright/test';
import type { Server } from './server.ts';

/** A broadcast in several qualities. */
export interface Layers {
  readonly codec: 'H264' | 'VP8' | 'VP9' | 'AV1';
  /** Three streams of 180, 360 and 720 lines, or the scalability mode of a single one. */
  readonly mode: 'simulcast' | 'L1T1' | 'L1T2' | 'L1T3' | 'L3T3_KEY' | 'L3T3';
}

/** Broadcasts the page's camera and microphone by WHIP, as a program that knows nothing of the pages would. */
export async function publish(
  page: Page,
  server: Server,
  room: string,
  { codec, mode }: Layers,
): Promise<void> {
  await page.goto(server.origin);
  const encodings = mode === 'simulcast' ? SIMULCAST : [{ ...SINGLE, scalabilityMode: mode }];
  await page.evaluate(
    async ({ room, token, codec, encodings }) => {
      const video = { width: 1280, height: 720, frameRate: 30 };
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video });
      const connection = new RTCPeerConnection();
      for (const track of stream.getAudioTracks()) {
        connection.addTransceiver(track, { direction: 'sendonly', streams: [stream] });
      }
      for (const track of stream.getVideoTracks()) {
        const transceiver = connection.addTransceiver(track, {
          direction: 'sendonly',
          streams: [stream],
          sendEncodings: encodings,
        });
        const { codecs } = RTCRtpSender.getCapabilities('video') ?? { codecs: [] };
        transceiver.setCodecPreferences(
          codecs.filter(({ mimeType, sdpFmtpLine = '' }) => {
            if (mimeType === 'video/H264') return codec === 'H264' && /mode=1.*=42e0/.test(sdpFmtpLine);
            return mimeType === `video/${codec}` || mimeType === 'video/rtx';
          }),
        );
        // Otherwise the encoder gives up the highest layer when the tests' machine is busy.
        const parameters = transceiver.sender.getParameters();
        parameters.degradationPreference = 'maintain-resolution';
        await transceiver.sender.setParameters(parameters);
      }
      await connection.setLocalDescription();
      const response = await fetch(`/whip/${room}`, {
        method: 'POST',
        headers: { 'content-type': 'application/sdp', authorization: `Bearer ${token}` },
        body: connection.localDescription?.sdp ?? '',
      });
      const sdp = await response.text();
      if (!response.ok) throw new Error(`${response.status} ${sdp}`);
      await connection.setRemoteDescription({ type: 'answer', sdp });
    },
    { room, token: server.ownerToken, codec, encodings },
  );
}

const SIMULCAST = [
  { rid: 'q', scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { rid: 'f', scaleResolutionDownBy: 1, maxBitrate: 2_000_000 },
];
const SINGLE = { maxBitrate: 2_500_000 };
