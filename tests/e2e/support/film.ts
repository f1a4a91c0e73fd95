import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { BrowserContext } from '@playwright/test';

/** Mean red, green and blue. */
export type Colour = readonly [number, number, number];

/** A decoded picture of a film, made small. */
export class Picture {
  readonly seconds: number;
  readonly #pixels: Buffer;

  constructor(seconds: number, pixels: Buffer) {
    this.seconds = seconds;
    this.#pixels = pixels;
  }

  /** The colour around a point, given as parts of width and height. */
  at(x: number, y: number): Colour {
    const sum = [0, 0, 0];
    const [left, top] = [Math.round(x * WIDTH) - 1, Math.round(y * HEIGHT) - 1];
    for (let row = top; row < top + 3; row++) {
      for (let column = left; column < left + 3; column++) {
        for (let part = 0; part < 3; part++)
          sum[part] = (sum[part] ?? 0) + (this.#pixels[(row * WIDTH + column) * 3 + part] ?? 0);
      }
    }
    return [(sum[0] ?? 0) / 9, (sum[1] ?? 0) / 9, (sum[2] ?? 0) / 9];
  }

  /** Its mean brightness, 0 to 255. */
  get brightness(): number {
    return this.#pixels.reduce((sum, value) => sum + value, 0) / this.#pixels.length;
  }
}

/** Decodes every picture of an MP4, small. */
export async function decode(film: Uint8Array): Promise<Picture[]> {
  const folder = await mkdtemp(join(tmpdir(), 'fanlight-film-'));
  try {
    const file = join(folder, 'film.mp4');
    await writeFile(file, film);
    const probe = ['-v', 'error', '-select_streams', 'v', '-show_entries', 'frame=pts_time'];
    const times = await execute('ffprobe', [...probe, '-of', 'csv=p=0', file]);
    const seconds = times.stdout.toString().split('\n').filter(Boolean).map(Number.parseFloat);
    const raw = ['-vf', `scale=${WIDTH}:${HEIGHT}`, '-f', 'rawvideo', '-pix_fmt', 'rgb24', '-'];
    const all = await execute('ffmpeg', [
      '-v',
      'error',
      '-i',
      file,
      '-fps_mode',
      'passthrough',
      ...raw,
    ]);
    return seconds.map((at, n) => new Picture(at, all.stdout.subarray(n * SIZE, (n + 1) * SIZE)));
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Cuts the picture at a time out of an MP4, as a PNG. */
export async function still(film: Uint8Array, seconds: number, to: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'fanlight-film-'));
  try {
    const file = join(folder, 'film.mp4');
    await writeFile(file, film);
    const one = ['-ss', `${seconds}`, '-i', file, '-frames:v', '1', '-y', to];
    await execute('ffmpeg', ['-v', 'error', ...one]);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Puts a picture of one colour, with a spot that moves, in the place of the camera. */
export async function paintCamera(
  context: BrowserContext,
  colour: string,
  height = 360,
): Promise<void> {
  await paint(context, 'getUserMedia', colour, height);
}

/** Puts such a picture in the place of the screen that is shared. */
export async function paintScreen(context: BrowserContext, colour: string): Promise<void> {
  await paint(context, 'getDisplayMedia', colour, 360);
}

async function paint(
  context: BrowserContext,
  source: 'getUserMedia' | 'getDisplayMedia',
  colour: string,
  height: number,
): Promise<void> {
  await context.addInitScript(
    ([source, colour, height]) => {
      const devices = navigator.mediaDevices;
      if (!devices) return;
      const original: (asked?: object) => Promise<MediaStream> = devices[source].bind(devices);
      devices[source] = async (asked?: object) => {
        const stream = await original(asked);
        for (const track of stream.getVideoTracks()) {
          stream.removeTrack(track);
          track.stop();
          const canvas = document.createElement('canvas');
          [canvas.width, canvas.height] = [(height * 16) / 9, height];
          const context = canvas.getContext('2d', { alpha: false });
          const [painted] = canvas.captureStream(20).getVideoTracks();
          if (!context || !painted) throw new Error('no canvas');
          stream.addTrack(painted);
          let frame = 0;
          setInterval(() => {
            context.fillStyle = colour;
            context.fillRect(0, 0, canvas.width, canvas.height);
            context.fillStyle = 'white';
            context.fillRect((++frame * 8) % 640, 20, 16, 16);
          }, 50);
        }
        return stream;
      };
    },
    [source, colour, height] as const,
  );
}

const execute = (command: string, args: string[]) =>
  promisify(execFile)(command, args, { encoding: 'buffer', maxBuffer: 1 << 28 });

const [WIDTH, HEIGHT] = [96, 54];
const SIZE = WIDTH * HEIGHT * 3;
