import type { VideoCodec } from '@fanlight/sdk';

/** How good a picture to send. */
export interface Quality {
  readonly id: string;
  readonly name: string;
  readonly width: number;
  readonly height: number;
  readonly frameRate: number;
  /** Most bit/s of the picture. */
  readonly bitrate: number;
}

export const qualities: readonly [Quality, Quality, Quality, Quality] = [
  {
    id: '480p',
    name: '480p · slow uplink',
    width: 854,
    height: 480,
    frameRate: 30,
    bitrate: 1_000_000,
  },
  {
    id: '720p',
    name: '720p · recommended',
    width: 1280,
    height: 720,
    frameRate: 30,
    bitrate: 2_500_000,
  },
  {
    id: '720p60',
    name: '720p, 60 frames',
    width: 1280,
    height: 720,
    frameRate: 60,
    bitrate: 4_000_000,
  },
  {
    id: '1080p',
    name: '1080p · fast uplink',
    width: 1920,
    height: 1080,
    frameRate: 30,
    bitrate: 4_500_000,
  },
];

export const codecs: readonly { readonly id: VideoCodec; readonly name: string }[] = [
  { id: 'h264', name: 'H.264 (best for outputs)' },
  { id: 'vp8', name: 'VP8' },
  { id: 'vp9', name: 'VP9 (advanced: sharper, more work)' },
  { id: 'av1', name: 'AV1 (advanced: sharpest, most work)' },
];

export function codecNamed(id: string | undefined): VideoCodec {
  return codecs.find((codec) => codec.id === id)?.id ?? 'h264';
}

export function qualityNamed(id: string | undefined): Quality {
  return qualities.find((quality) => quality.id === id) ?? qualities[1];
}
