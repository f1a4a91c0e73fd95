import { Emitter } from './emitter.ts';
import { FanlightError } from './errors.ts';
import {
  type Encoding,
  layerHeights,
  type Picture,
  planEncodings,
  sentLayers,
  showsScreen,
  trimEncoding,
  type VideoCodec,
} from './layers.ts';
import type { MediaLink, MediaRole } from './media-role.ts';
import type { Peer, PeerPlan } from './peer.ts';
import type { Room, RoomState } from './room.ts';
import { chooseVideoCodecs, withoutVideoOrientation, withStartBitrate, withStereo } from './sdp.ts';
import { PublisherMeter, type PublisherStats } from './stats.ts';
import { abortable, deferred } from './wait.ts';

/** How to send. */
export interface GoLiveOptions {
  /** Most frames per second; 30 by default. */
  readonly frameRate?: number;
  /** Most bit/s of the picture; 2,500,000 by default. */
  readonly maxVideoBitrate?: number;
  /** Most bit/s of the sound; 64,000 by default, 128,000 for music. */
  readonly maxAudioBitrate?: number;
  /** The codec to prefer; another one is used when the browser lacks it. */
  readonly codec?: VideoCodec;
  /**
   * Sends a picture of 720 lines or more in three qualities, so that each viewer gets what its link carries; `true` by
   * default. Qualities that nobody watches are not encoded.
   */
  readonly adapt?: boolean;
  /** What the picture is like: `motion` for people, `detail` for text on a screen. */
  readonly contentHint?: 'motion' | 'detail';
  /** Sends stereo, for music. */
  readonly music?: boolean;
  /** Begins paused, until {@link GoLive.resume}; `false` by default. */
  readonly paused?: boolean;
}

/** How a broadcast is doing. */
export type GoLiveState =
  | { readonly kind: 'idle' }
  | { readonly kind: 'starting' }
  | { readonly kind: 'live' }
  | { readonly kind: 'paused' }
  | {
      readonly kind: 'reconnecting';
      readonly attempt: number;
      /** When the next attempt starts, by `Date.now()`; `undefined` while one is under way. */
      readonly retryAtMs: number | undefined;
      readonly error: FanlightError;
    }
  | { readonly kind: 'failed'; readonly error: FanlightError };

interface GoLiveEvents {
  state: GoLiveState;
  /** A track of the source has ended by itself: unplugged, or sharing stopped in the browser's own bar. */
  'source-ended': MediaStreamTrack;
}

/** One's own broadcast into a room. It publishes again by itself after each interruption. */
export class GoLive {
  readonly #room: Room;
  readonly #options: GoLiveOptions;
  readonly #events = new Emitter<GoLiveEvents>();
  readonly #role: MediaRole;
  readonly #meter = new PublisherMeter();
  #state: GoLiveState = { kind: 'idle' };
  #stream: MediaStream | undefined;
  #source = new AbortController();
  #listening = new AbortController();
  #peer: Peer | undefined;
  #paused = false;
  #muted = false;
  /** What the picture is sent as while everything of it is wanted. */
  #planned: Encoding[] = [];
  /** Which layers anybody wants, by position. */
  #wanted: readonly boolean[] = [];

  constructor(room: Room, options: GoLiveOptions = {}) {
    this.#room = room;
    this.#options = options;
    this.#role = {
      type: 'publish',
      plan: () => this.#plan(),
      handleLink: (link) => this.#handleLink(link),
    };
  }

  get state(): GoLiveState {
    return this.#state;
  }

  get muted(): boolean {
    return this.#muted;
  }

  /** Whether it is paused, or will be as soon as it is on air again. */
  get paused(): boolean {
    return this.#paused;
  }

  on<Name extends keyof GoLiveEvents>(
    name: Name,
    listener: (value: GoLiveEvents[Name]) => void,
    signal?: AbortSignal,
  ): () => void {
    return this.#events.on(name, listener, signal);
  }

  /**
   * Publishes the stream, which stays the caller's: stopping the broadcast does not stop its tracks. Resolves when it
   * is on air; passing failures are retried meanwhile.
   *
   * @throws {@link FanlightError} when it is refused for good; the reason of `signal` on abort, which also stops it.
   */
  async start(stream: MediaStream, signal?: AbortSignal): Promise<void> {
    if (stream.getTracks().length === 0) throw new FanlightError('nothing_to_send');
    const started = deferred<void>();
    const listening = new AbortController();
    this.#events.on(
      'state',
      (state) => {
        if (state.kind === 'live' || state.kind === 'paused') started.resolve();
        if (state.kind === 'failed') started.reject(state.error);
        if (state.kind === 'idle') started.reject(new DOMException('stopped', 'AbortError'));
      },
      listening.signal,
    );
    this.#paused = this.#options.paused ?? false;
    this.#useStream(stream);
    this.#setState({ kind: 'starting' });
    this.#listening = new AbortController();
    const { signal: ended } = this.#listening;
    this.#room.on('wanted-layers', (wanted) => this.#want(wanted), ended);
    // A source that was changed while there was no session is told to the next.
    const tell = ({ kind }: RoomState) => {
      if (kind === 'connected') void this.#adjustLayers();
    };
    this.#room.on('state', tell, ended);
    this.#room.attach(this.#role);
    try {
      await (signal ? abortable(started.promise, signal) : started.promise);
    } catch (error) {
      if (signal?.aborted) this.stop();
      throw error;
    } finally {
      listening.abort();
    }
  }

  /** Sends black and silence and tells the viewers; outputs go on. */
  pause(): void {
    this.#setPaused(true);
  }

  /** Goes on after {@link GoLive.pause}. */
  resume(): void {
    this.#setPaused(false);
  }

  /** Ends the broadcast. */
  stop(): void {
    if (this.#state.kind === 'idle') return;
    // First the word, then the silence: so the server knows that it is no interruption.
    this.#room.detach(this.#role);
    this.#dropPeer();
    this.#source.abort();
    this.#listening.abort();
    this.#paused = false;
    this.#applyEnabled();
    this.#setState({ kind: 'idle' });
  }

  /** Silences the microphone or lets it be heard again. */
  setMuted(muted: boolean): void {
    this.#muted = muted;
    this.#applyEnabled();
  }

  /**
   * Sends another stream from here on, without an interruption when it has the same kinds of tracks; otherwise viewers
   * notice a cut.
   */
  async replaceSource(stream: MediaStream): Promise<void> {
    if (stream.getTracks().length === 0) throw new FanlightError('nothing_to_send');
    const sameKinds = kinds(stream) === (this.#stream && kinds(this.#stream));
    this.#useStream(stream);
    if (this.#state.kind === 'idle' || this.#state.kind === 'failed') return;
    if (!sameKinds || !this.#peer) {
      this.#room.renew(this.#role);
      return;
    }
    const senders = this.#peer.pc.getTransceivers().map((transceiver) => transceiver.sender);
    await Promise.all(
      stream.getTracks().map((track) => {
        const sender = senders.find((candidate) => candidate.track?.kind === track.kind);
        return sender?.replaceTrack(track);
      }),
    );
    await this.#adjustLayers();
  }

  /** Measures the broadcast; `undefined` while it is not connected. */
  async stats(): Promise<PublisherStats | undefined> {
    const pc = this.#peer?.pc;
    return pc && this.#meter.read(await pc.getStats(), performance.now());
  }

  /** The browser's own figures; `undefined` while not connected. */
  async report(): Promise<RTCStatsReport | undefined> {
    return await this.#peer?.pc.getStats();
  }

  #useStream(stream: MediaStream): void {
    this.#source.abort();
    this.#source = new AbortController();
    const { signal } = this.#source;
    this.#stream = stream;
    for (const track of stream.getTracks()) {
      const ended = () => this.#events.emit('source-ended', track);
      track.addEventListener('ended', ended, { signal });
      const hint = track.kind === 'video' ? this.#options.contentHint : undefined;
      if (hint && track.contentHint === '') track.contentHint = hint;
    }
    this.#applyEnabled();
  }

  #setPaused(paused: boolean): void {
    if (this.#state.kind === 'idle' || this.#state.kind === 'failed') return;
    this.#paused = paused;
    this.#applyEnabled();
    this.#room.setPaused(paused);
    if (this.#state.kind === 'live' || this.#state.kind === 'paused') {
      this.#setState({ kind: paused ? 'paused' : 'live' });
    }
  }

  #applyEnabled(): void {
    for (const track of this.#stream?.getTracks() ?? []) {
      track.enabled = !this.#paused && !(track.kind === 'audio' && this.#muted);
    }
  }

  #plan(): PeerPlan {
    const { maxVideoBitrate = DEFAULT_VIDEO_BITRATE, music = false, adapt = true } = this.#options;
    const start = adapt ? LAYERED_START_BITRATE : START_BITRATE;
    const startKbps = Math.min(maxVideoBitrate, start) / 1000;
    return {
      prepare: (pc) => this.#prepare(pc),
      changeOffer: withoutVideoOrientation,
      changeAnswer: (answer) => {
        const quick = withStartBitrate(answer, startKbps);
        return music ? withStereo(quick) : quick;
      },
    };
  }

  #prepare(pc: RTCPeerConnection): void {
    const stream = this.#stream;
    if (!stream) throw new FanlightError('nothing_to_send');
    const [audio] = stream.getAudioTracks();
    const [video] = stream.getVideoTracks();
    const { maxVideoBitrate = DEFAULT_VIDEO_BITRATE, frameRate = 30, music } = this.#options;
    const { codec = 'h264', adapt = true } = this.#options;
    const { maxAudioBitrate = music ? MUSIC_BITRATE : VOICE_BITRATE } = this.#options;
    if (audio) {
      pc.addTransceiver(audio, {
        direction: 'sendonly',
        streams: [stream],
        sendEncodings: [{ maxBitrate: maxAudioBitrate }],
      });
    }
    if (video) {
      const plan = { codec, adapt, maxBitrate: maxVideoBitrate, frameRate };
      this.#planned = planEncodings(plan, pictureOf(video));
      const transceiver = pc.addTransceiver(video, {
        direction: 'sendonly',
        streams: [stream],
        sendEncodings: this.#planned,
      });
      preferCodec(transceiver, codec);
      void keepResolution(transceiver.sender);
    }
  }

  #handleLink(link: MediaLink): void {
    switch (link.kind) {
      case 'connecting':
        // The connection before may still carry the broadcast until this one takes over.
        if (this.#peer?.flowing) return;
        if (this.#state.kind === 'live' || this.#state.kind === 'paused') {
          this.#setReconnecting(link.attempt, undefined, new FanlightError('connection_lost'));
        } else if (this.#state.kind === 'reconnecting') {
          this.#setReconnecting(link.attempt, undefined, this.#state.error);
        }
        return;
      case 'connected':
        this.#dropPeer();
        this.#peer = link.peer;
        this.#watchPeer(link.peer);
        this.#meter.reset();
        if (this.#paused) this.#room.setPaused(true);
        this.#wanted = [];
        void this.#adjustLayers();
        this.#setState({ kind: this.#paused ? 'paused' : 'live' });
        return;
      case 'waiting':
        this.#setReconnecting(link.attempt, link.retryAtMs, link.error);
        return;
      case 'ended':
        this.#dropPeer();
        this.#setState({ kind: 'failed', error: link.error });
        return;
    }
  }

  #want(wanted: readonly boolean[]): void {
    this.#wanted = wanted;
    void this.#adjustLayers();
  }

  /** Sends the layers that the picture is worth and that anybody wants, and tells what they are of. */
  async #adjustLayers(): Promise<void> {
    const sender = this.#peer?.pc.getSenders().find(({ track }) => track?.kind === 'video');
    if (!sender?.track) return;
    const picture = pictureOf(sender.track);
    const parameters = sender.getParameters();
    const { encodings } = parameters;
    // A scalable one is trimmed now and then; it still is of all its layers.
    const layers = encodings.length === this.#planned.length ? this.#planned : encodings;
    this.#room.setLayers(layerHeights(layers, picture), showsScreen(picture));
    const [only, ...others] = encodings;
    const [planned] = this.#planned;
    if (!only || !planned) return;
    if (others.length === 0) {
      const trimmed = trimEncoding(planned, this.#wanted);
      if (trimmed.scalabilityMode === (only as Encoding).scalabilityMode) return;
      Object.assign(only, trimmed);
      await sender.setParameters(parameters).catch(() => {});
      return;
    }
    const worth = sentLayers(picture);
    const both = worth.map((sent, i) => sent && this.#wanted[i] !== false);
    // While nobody watches, the picture stays ready for whoever comes.
    const active = both.includes(true) ? both : worth;
    if (encodings.every((encoding, i) => encoding.active === active[i])) return;
    for (const [i, encoding] of encodings.entries()) encoding.active = active[i] ?? true;
    await sender.setParameters(parameters).catch(() => {});
  }

  /** Shows an interruption as soon as it is known, also while the room has no session to publish with. */
  #watchPeer(peer: Peer): void {
    void peer.ended.then((error) => {
      if (peer === this.#peer && (this.#state.kind === 'live' || this.#state.kind === 'paused')) {
        this.#setReconnecting(0, undefined, error);
      }
    });
  }

  #setReconnecting(attempt: number, retryAtMs: number | undefined, error: FanlightError): void {
    this.#setState({ kind: 'reconnecting', attempt, retryAtMs, error });
  }

  #dropPeer(): void {
    const peer = this.#peer;
    this.#peer = undefined;
    peer?.close();
  }

  #setState(state: GoLiveState): void {
    this.#state = state;
    this.#events.emit('state', state);
  }
}

function pictureOf(track: MediaStreamTrack): Picture {
  const { height, displaySurface } = track.getSettings();
  return { height, contentHint: track.contentHint, displaySurface };
}

function kinds(stream: MediaStream): string {
  const names = stream.getTracks().map((track) => track.kind);
  return [...new Set(names)].sort().join('+');
}

function preferCodec(transceiver: RTCRtpTransceiver, preferred: VideoCodec): void {
  const codecs = RTCRtpSender.getCapabilities?.('video')?.codecs ?? [];
  const ordered = chooseVideoCodecs(codecs, preferred);
  const forwarded = ordered.some((codec) => codec.mimeType !== 'video/rtx');
  if (forwarded && 'setCodecPreferences' in transceiver) transceiver.setCodecPreferences(ordered);
}

/** A change of resolution upsets RTMP receivers: rather fewer frames. Browsers without the choice keep their own way. */
async function keepResolution(sender: RTCRtpSender): Promise<void> {
  const parameters = sender.getParameters() as RTCRtpSendParameters & {
    degradationPreference?: string;
  };
  parameters.degradationPreference = 'maintain-resolution';
  await sender.setParameters(parameters).catch(() => {});
}

const DEFAULT_VIDEO_BITRATE = 2_500_000;
/** Where Chromium's sender starts: good enough to look well, small enough for a common uplink. */
const START_BITRATE = 1_200_000;
/** Enough for all layers to begin at once. */
const LAYERED_START_BITRATE = 1_600_000;
const VOICE_BITRATE = 64_000;
const MUSIC_BITRATE = 128_000;
