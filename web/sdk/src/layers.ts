/** A codec of the picture. */
export type VideoCodec = 'h264' | 'vp8' | 'vp9' | 'av1';

/** What to send a picture as. */
export interface LayerPlan {
  readonly codec: VideoCodec;
  /** Several qualities at once, so that each viewer gets what its link carries. */
  readonly adapt: boolean;
  readonly maxBitrate: number;
  readonly frameRate: number;
}

/** What of a track decides about its layers. */
export interface Picture {
  readonly height: number | undefined;
  readonly contentHint: string;
  /** What of a computer it shows; `undefined` for a camera, and in browsers that do not say. */
  readonly displaySurface?: string | undefined;
}

/** The encodings that the standard knows and the DOM types do not. */
export type Encoding = RTCRtpEncodingParameters & { scalabilityMode?: string };

/**
 * Plans the encodings of a sender: simulcast, the lowest first, for H264 and VP8; one scalable stream for VP9 and AV1.
 * Their number stays for the life of a connection; which are sent follows {@link sentLayers}.
 */
export function planEncodings(plan: LayerPlan, picture: Picture): Encoding[] {
  const { codec, adapt, maxBitrate, frameRate } = plan;
  const common = { maxBitrate, maxFramerate: frameRate };
  if (isScalable(codec)) {
    const spatial = adapt && isDivisible(picture) && !isDetailed(picture);
    return [{ ...common, scalabilityMode: spatial ? 'L3T3_KEY' : 'L1T3' }];
  }
  if (!adapt) return [common];
  const sent = sentLayers(picture);
  return LAYERS.map(({ rid, scale, share }, i) => ({
    rid,
    scaleResolutionDownBy: scale,
    maxBitrate: sent.filter(Boolean).length === 1 ? maxBitrate : Math.round(maxBitrate * share),
    maxFramerate: frameRate,
    active: sent[i] ?? true,
  }));
}

/** Whether each simulcast layer of a picture is worth sending: text is not shrunk to nothing, small pictures not at all. */
export function sentLayers(picture: Picture): boolean[] {
  if (!isDivisible(picture)) return [false, false, true];
  return [!isDetailed(picture), true, true];
}

/**
 * Cuts a scalable encoding down to the layers that anybody wants, by layer, the lowest first: those above the highest
 * of them are not encoded. The lowest always is.
 */
export function trimEncoding(planned: Encoding, wanted: readonly boolean[]): Encoding {
  const all = LAYERS.length;
  const count = wanted.length === all ? Math.max(wanted.lastIndexOf(true) + 1, 1) : all;
  const highest = LAYERS[count - 1];
  if (!planned.scalabilityMode?.startsWith(`L${all}`) || !highest) return planned;
  const share = (n: number) => LAYERS.slice(0, n).reduce((sum, layer) => sum + layer.share, 0);
  const { maxBitrate } = planned;
  return {
    ...planned,
    scalabilityMode: count === 1 ? 'L1T3' : `L${count}T3_KEY`,
    scaleResolutionDownBy: highest.scale,
    ...(maxBitrate && { maxBitrate: Math.round((maxBitrate * share(count)) / share(all)) }),
  };
}

/** How high the layers are in pixels, the lowest first; 0 for one that is not sent, empty when nobody knows. */
export function layerHeights(encodings: readonly Encoding[], picture: Picture): number[] {
  const { height } = picture;
  if (!height) return [];
  const [only] = encodings;
  if (encodings.length > 1) {
    const sent = sentLayers(picture);
    return LAYERS.map(({ scale }, i) => (sent[i] ? Math.round(height / scale) : 0));
  }
  const spatial = only?.scalabilityMode?.startsWith('L3');
  return spatial ? LAYERS.map(({ scale }) => Math.round(height / scale)) : [height];
}

/** Whether a picture is a shared screen, as far as can be told. */
export function showsScreen(picture: Picture): boolean {
  return picture.displaySurface !== undefined || isDetailed(picture);
}

function isScalable(codec: VideoCodec): boolean {
  return codec === 'vp9' || codec === 'av1';
}

function isDivisible({ height }: Picture): boolean {
  return height === undefined || height >= LEAST_HEIGHT;
}

function isDetailed({ contentHint }: Picture): boolean {
  return contentHint === 'detail' || contentHint === 'text';
}

/** A quarter, a half, the whole; together hardly more than one picture costs. */
const LAYERS = [
  { rid: 'q', scale: 4, share: 0.06 },
  { rid: 'h', scale: 2, share: 0.2 },
  { rid: 'f', scale: 1, share: 0.8 },
] as const;
/** Below this a picture is small enough for every link. */
const LEAST_HEIGHT = 720;
