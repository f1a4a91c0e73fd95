import type { BrowserContext, Page } from '@playwright/test';

/** What a viewer read of the clock in the picture. */
export interface Reading {
  /** Age of each frame when it was decoded, ms. */
  latencies: number[];
  /** Frames whose clock could not be read. */
  misread: number;
}

/**
 * Puts a clock in the place of the camera: the time in milliseconds as 32 black and white blocks and 8 of a
 * checksum, in two rows at the top of a moving 1280x720 picture. A `busy` picture needs all the bitrate that an
 * encoder is given, as a camera's noise does; a calm one only some 700 kbit/s at 30 frames a second.
 */
export async function replaceCameraByClock(
  context: BrowserContext,
  picture: 'calm' | 'busy' = 'calm',
  frameRate = 30,
): Promise<void> {
  await context.addInitScript(
    ({ patches, frameRate }) => {
      const devices = navigator.mediaDevices;
      if (!devices) return;
      const original = devices.getUserMedia.bind(devices);
      let clock: MediaStreamTrack | undefined;
      devices.getUserMedia = async (constraints) => {
        const stream = await original({ ...constraints, video: false, audio: true });
        if (!constraints?.audio) for (const track of stream.getTracks()) stream.removeTrack(track);
        clock ??= startClock();
        if (constraints?.video) stream.addTrack(clock.clone());
        return stream;
      };

      function startClock(): MediaStreamTrack {
        const canvas = document.createElement('canvas');
        [canvas.width, canvas.height] = [1280, 720];
        const context = canvas.getContext('2d', { alpha: false });
        const [track] = canvas.captureStream(frameRate).getVideoTracks();
        if (!context || !track) throw new Error('no canvas');
        const noise = makeNoise();
        let frame = 0;
        setInterval(() => draw(context, noise, ++frame), 1000 / frameRate);
        return track;
      }

      function makeNoise(): HTMLCanvasElement {
        const canvas = document.createElement('canvas');
        [canvas.width, canvas.height] = [256, 256];
        const context = canvas.getContext('2d');
        if (!context) throw new Error('no canvas');
        const pixels = context.createImageData(256, 256);
        for (let at = 0; at < pixels.data.length; at++) {
          pixels.data[at] = at % 4 === 3 ? 255 : Math.random() * 256;
        }
        context.putImageData(pixels, 0, 0);
        return canvas;
      }

      function draw(
        context: CanvasRenderingContext2D,
        noise: HTMLCanvasElement,
        frame: number,
      ): void {
        context.fillStyle = '#345';
        context.fillRect(0, 96, 1280, 624);
        for (let n = 0; n < 12; n++) {
          context.fillStyle = `hsl(${(frame * 3 + n * 30) % 360} 70% 50%)`;
          const x = (Math.sin(frame / 20 + n) + 1) * 556;
          const y = 96 + (Math.cos(frame / 27 + n * 2) + 1) * 249;
          context.fillRect(x, y, 106, 60);
        }
        for (let n = 0; n < patches; n++) {
          const [from, x, y] = [Math.random() * 192, Math.random() * 1216, Math.random() * 560];
          context.drawImage(noise, from, from, 64, 64, x, 96 + y, 64, 64);
        }
        const time = Math.round(performance.timeOrigin + performance.now()) % 2 ** 32;
        const bytes = [24, 16, 8, 0].map((shift) => (time >>> shift) & 255);
        const sum = bytes.reduce((xor, byte) => xor ^ byte, 0x5a);
        [...bytes, sum].forEach((byte, at) => {
          for (let bit = 0; bit < 8; bit++) {
            const block = at * 8 + bit;
            context.fillStyle = (byte >> (7 - bit)) & 1 ? '#fff' : '#000';
            context.fillRect((block % 20) * 64, Math.floor(block / 20) * 48, 65, 49);
          }
        });
      }
    },
    { patches: picture === 'busy' ? 8 : 0, frameRate },
  );
}

/** Reads the clock from the frames that the page's player receives, for that long. */
export async function readClock(page: Page, milliseconds: number): Promise<Reading> {
  return page.getByTestId('player').evaluate(async (player, milliseconds) => {
    const video = player instanceof HTMLVideoElement ? player : undefined;
    // Not in TypeScript's DOM types: what an element shows that plays files, as HLS is.
    const shown = video as (HTMLVideoElement & { captureStream(): MediaStream }) | undefined;
    const stream = video?.srcObject ?? shown?.captureStream();
    const track = stream instanceof MediaStream ? stream.getVideoTracks()[0]?.clone() : undefined;
    if (!track) throw new Error('the player has no video track');
    // Not in TypeScript's DOM types: https://www.w3.org/TR/mediacapture-transform/
    const { MediaStreamTrackProcessor } = globalThis as unknown as {
      MediaStreamTrackProcessor: new (init: {
        track: MediaStreamTrack;
        maxBufferSize: number;
      }) => { readable: ReadableStream<VideoFrame> };
    };
    const frames = new MediaStreamTrackProcessor({ track, maxBufferSize: 2 }).readable.getReader();
    const reading: { latencies: number[]; misread: number } = { latencies: [], misread: 0 };
    const end = performance.now() + milliseconds;
    while (performance.now() < end) {
      const { value: frame } = await frames.read();
      if (!frame) break;
      const now = performance.timeOrigin + performance.now();
      const time = await readTime(frame);
      if (time === null) reading.misread++;
      else reading.latencies.push((now - time) % 2 ** 32);
    }
    track.stop();
    return reading;

    async function readTime(frame: VideoFrame): Promise<number | null> {
      const size = frame.visibleRect;
      if (!size) return null;
      const height = size.height / 15;
      const rect = { x: 0, y: 0, width: size.width, height: Math.floor(height) * 2 };
      const luma = new Uint8Array(frame.allocationSize({ rect }));
      const [plane] = await frame.copyTo(luma, { rect });
      frame.close();
      if (!plane) return null;
      const bytes = [0, 0, 0, 0, 0];
      for (let block = 0; block < 40; block++) {
        const x = Math.round(((block % 20) + 0.5) * (rect.width / 20));
        const y = Math.round((Math.floor(block / 20) + 0.5) * height);
        const bit = (luma[plane.offset + y * plane.stride + x] ?? 0) > 128 ? 1 : 0;
        const at = block >> 3;
        bytes[at] = (bytes[at] ?? 0) * 2 + bit;
      }
      const [a = 0, b = 0, c = 0, d = 0, sum] = bytes;
      if ((a ^ b ^ c ^ d ^ 0x5a) !== sum) return null;
      return ((a * 256 + b) * 256 + c) * 256 + d;
    }
  }, milliseconds);
}
