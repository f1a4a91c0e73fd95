import { Emitter } from './emitter.ts';
import { FanlightError } from './errors.ts';
import type { MediaLink, MediaRole } from './media-role.ts';
import type { Peer, PeerPlan } from './peer.ts';
import type { Room } from './room.ts';
import { withStereo } from './sdp.ts';
import { ViewerMeter, type ViewerStats } from './stats.ts';

/** How to receive. */
export interface WatchOptions {
  /** How much delay to add for smoothness, in milliseconds; 0 by default: as live as the network allows. */
  readonly jitterBufferMs?: number;
}

/** How a view is doing. */
export type WatchState =
  | { readonly kind: 'idle' }
  | { readonly kind: 'connecting' }
  /** Connected; nobody is broadcasting. */
  | { readonly kind: 'waiting' }
  | { readonly kind: 'playing' }
  /** Connected; the broadcaster has paused. */
  | { readonly kind: 'paused' }
  | {
      readonly kind: 'reconnecting';
      readonly attempt: number;
      /** When the next attempt starts, by `Date.now()`; `undefined` while one is under way. */
      readonly retryAtMs: number | undefined;
      readonly error: FanlightError;
    }
  | { readonly kind: 'failed'; readonly error: FanlightError };

interface WatchEvents {
  state: WatchState;
  /** What to play; another one after a reconnection. */
  stream: MediaStream;
}

/** A view of a room's broadcast. It may start before the broadcast does, and connects again by itself. */
export class Watch {
  readonly #room: Room;
  readonly #options: WatchOptions;
  readonly #events = new Emitter<WatchEvents>();
  readonly #role: MediaRole;
  readonly #meter = new ViewerMeter();
  #running = new AbortController();
  #state: WatchState = { kind: 'idle' };
  #link: MediaLink = { kind: 'connecting', attempt: 0 };
  #everConnected = false;
  #peer: Peer | undefined;
  /** The stream of the connection that is being made; shown once it carries something. */
  #coming: MediaStream | undefined;
  #stream: MediaStream | undefined;
  #video: HTMLMediaElement | undefined;

  constructor(room: Room, options: WatchOptions = {}) {
    this.#room = room;
    this.#options = options;
    this.#role = {
      type: 'watch',
      plan: () => this.#plan(),
      handleLink: (link) => this.#handleLink(link),
    };
  }

  get state(): WatchState {
    return this.#state;
  }

  get stream(): MediaStream | undefined {
    return this.#stream;
  }

  on<Name extends keyof WatchEvents>(
    name: Name,
    listener: (value: WatchEvents[Name]) => void,
    signal?: AbortSignal,
  ): () => void {
    return this.#events.on(name, listener, signal);
  }

  /** Plays in this element from here on. The caller decides about `muted` and `play()`. */
  attach(element: HTMLMediaElement): void {
    this.#video = element;
    if (this.#stream) element.srcObject = this.#stream;
  }

  start(): void {
    if (this.#state.kind !== 'idle' && this.#state.kind !== 'failed') return;
    this.#running = new AbortController();
    this.#everConnected = false;
    this.#setState({ kind: 'connecting' });
    this.#room.on('info', () => this.#update(), this.#running.signal);
    this.#room.attach(this.#role);
  }

  stop(): void {
    this.#running.abort();
    this.#room.detach(this.#role);
    this.#peer?.close();
    this.#peer = undefined;
    this.#setState({ kind: 'idle' });
  }

  /** Measures what arrives; `undefined` while not connected. */
  async stats(): Promise<ViewerStats | undefined> {
    const pc = this.#peer?.pc;
    return pc && this.#meter.read(await pc.getStats(), performance.now());
  }

  /** The browser's own figures; `undefined` while not connected. */
  async report(): Promise<RTCStatsReport | undefined> {
    return await this.#peer?.pc.getStats();
  }

  #plan(): PeerPlan {
    return {
      prepare: (pc) => {
        for (const kind of ['audio', 'video']) pc.addTransceiver(kind, { direction: 'recvonly' });
        this.#receive(pc);
      },
      changeOffer: withStereo,
      changeAnswer: (answer) => answer,
    };
  }

  #receive(pc: RTCPeerConnection): void {
    const stream = new MediaStream();
    this.#coming = stream;
    pc.addEventListener('track', ({ track, receiver }) => {
      setJitterBuffer(receiver, this.#options.jitterBufferMs ?? 0);
      // A track that carries nothing yet would keep the player from starting with the other one; and the last
      // picture of the connection before stays until this one has something to show.
      const begin = () => {
        stream.addTrack(track);
        this.#show(stream);
      };
      if (track.muted) track.addEventListener('unmute', begin, { once: true });
      else begin();
    });
  }

  #show(stream: MediaStream): void {
    if (stream !== this.#coming || stream === this.#stream) return;
    this.#stream = stream;
    if (this.#video) this.#video.srcObject = stream;
    this.#events.emit('stream', stream);
  }

  #handleLink(link: MediaLink): void {
    this.#link = link;
    if (link.kind === 'connected') {
      this.#everConnected = true;
      this.#peer?.close();
      this.#peer = link.peer;
      this.#meter.reset();
      void link.peer.ended.then(() => this.#update());
    } else if (link.kind === 'ended') {
      this.#peer?.close();
      this.#peer = undefined;
    }
    this.#update();
  }

  #update(): void {
    if (this.#running.signal.aborted) return;
    const next = this.#derive();
    const { kind } = this.#state;
    const same =
      next.kind === kind && (kind === 'waiting' || kind === 'playing' || kind === 'paused');
    if (!same) this.#setState(next);
  }

  #derive(): WatchState {
    const link = this.#link;
    if (link.kind === 'ended') return { kind: 'failed', error: link.error };
    // The connection before may still play until its successor takes over.
    if (this.#peer?.flowing) {
      if (!this.#room.info?.live) return { kind: 'waiting' };
      return { kind: this.#room.info.paused ? 'paused' : 'playing' };
    }
    if (!this.#everConnected && link.kind === 'connecting') return { kind: 'connecting' };
    const error = link.kind === 'waiting' ? link.error : new FanlightError('connection_lost');
    const attempt = link.kind === 'connected' ? 0 : link.attempt;
    const retryAtMs = link.kind === 'waiting' ? link.retryAtMs : undefined;
    return { kind: 'reconnecting', attempt, retryAtMs, error };
  }

  #setState(state: WatchState): void {
    this.#state = state;
    this.#events.emit('state', state);
  }
}

/** Both spellings: the standard one in milliseconds and Chromium's older one in seconds. */
function setJitterBuffer(receiver: RTCRtpReceiver, ms: number): void {
  const hinted = receiver as RTCRtpReceiver & { playoutDelayHint?: number | null };
  if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = ms;
  else if ('playoutDelayHint' in receiver) hinted.playoutDelayHint = ms / 1000;
}
