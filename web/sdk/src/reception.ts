import { receivableVideoCodecs } from './sdp.ts';

/** How many m-lines of each kind a view offers. */
export interface SlotCount {
  readonly video: number;
  readonly audio: number;
}

/** What one receiving connection carries: a stream for each slot, in the order of its m-lines. */
export class Reception {
  /** By video slot. */
  readonly pictures: readonly MediaStream[];
  /** By audio slot. */
  readonly sounds: readonly MediaStream[];
  readonly #flowing = new Set<string>();

  /** Adds the receiving transceivers; `begun` is called whenever a slot carries something for the first time. */
  constructor(pc: RTCPeerConnection, slots: SlotCount, jitterBufferMs: number, begun: () => void) {
    const add = (kind: 'audio' | 'video') => {
      const transceiver = pc.addTransceiver(kind, { direction: 'recvonly' });
      if (kind === 'video') {
        trimCodecs(transceiver);
        offerDependencyDescriptor(transceiver);
      }
      const { receiver } = transceiver;
      setJitterBuffer(receiver, jitterBufferMs);
      const stream = new MediaStream();
      // A track that carries nothing yet would keep a player from starting with another one.
      receiver.track.addEventListener(
        'unmute',
        () => {
          this.#flowing.add(stream.id);
          stream.addTrack(receiver.track);
          begun();
        },
        { once: true },
      );
      return stream;
    };
    this.sounds = Array.from({ length: slots.audio }, () => add('audio'));
    this.pictures = Array.from({ length: slots.video }, () => add('video'));
  }

  /** Whether this slot's stream has carried something. */
  flows(stream: MediaStream | undefined): boolean {
    return stream !== undefined && this.#flowing.has(stream.id);
  }
}

/** Whether this browser plays every codec that the server forwards: if not, there are pictures that never come. */
export function playsAllCodecs(): boolean {
  const codecs = receivableVideoCodecs(RTCRtpReceiver.getCapabilities?.('video')?.codecs ?? []);
  const names = new Set(codecs.map((codec) => codec.mimeType.toLowerCase()));
  return FORWARDED.every((name) => names.has(`video/${name}`));
}

/** An offer of a dozen pictures is long enough without formats that nobody sends. */
function trimCodecs(transceiver: RTCRtpTransceiver): void {
  const codecs = RTCRtpReceiver.getCapabilities?.('video')?.codecs ?? [];
  const wanted = receivableVideoCodecs(codecs);
  if (wanted.length > 0 && 'setCodecPreferences' in transceiver) {
    transceiver.setCodecPreferences(wanted);
  }
}

/**
 * Offers the header extension by which frames name those they need. Without it the server cannot leave layers out of
 * an AV1 stream, and a viewer receives its lowest. Chromium supports it and does not offer it by itself.
 */
function offerDependencyDescriptor(
  transceiver: RTCRtpTransceiver & Partial<ExtensionChoice>,
): void {
  const extensions = transceiver.getHeaderExtensionsToNegotiate?.() ?? [];
  for (const extension of extensions) {
    if (extension.uri === DEPENDENCY_DESCRIPTOR) extension.direction = 'sendrecv';
  }
  transceiver.setHeaderExtensionsToNegotiate?.(extensions);
}

/** Of a transceiver, in browsers that have it: https://www.w3.org/TR/webrtc-extensions/#rtp-header-extension-control */
interface ExtensionChoice {
  getHeaderExtensionsToNegotiate(): { uri: string; direction: RTCRtpTransceiverDirection }[];
  setHeaderExtensionsToNegotiate(
    extensions: readonly { uri: string; direction: RTCRtpTransceiverDirection }[],
  ): void;
}

/** Both spellings: the standard one in milliseconds and Chromium's older one in seconds. */
function setJitterBuffer(receiver: RTCRtpReceiver, ms: number): void {
  const hinted = receiver as RTCRtpReceiver & { playoutDelayHint?: number | null };
  if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = ms;
  else if ('playoutDelayHint' in receiver) hinted.playoutDelayHint = ms / 1000;
}

const FORWARDED = ['h264', 'vp8', 'vp9', 'av1'];
const DEPENDENCY_DESCRIPTOR =
  'https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension';
