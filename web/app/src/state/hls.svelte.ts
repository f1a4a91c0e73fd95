import type { ViewerStats, WatchState } from '@fanlight/sdk';
import { FanlightError } from '@fanlight/sdk';
import { offerDiagnostics } from '../diagnostics.ts';
import { enter, type RoomView } from './room.svelte.ts';

/** A view of a room's broadcast by HLS: some seconds behind, through every network. */
export class HlsView {
  view: RoomView = $state.raw() as RoomView;
  stats: ViewerStats | undefined = $state.raw();
  readonly tiles = undefined;
  readonly sounds = [];
  readonly stalledFor = 0;
  readonly soundOnlyFor = 0;
  nowMs: number = $state(Date.now());
  readonly #slug: string;
  readonly #ended = new AbortController();
  #loading: 'idle' | 'loading' | 'loaded' = $state.raw('idle');
  #trouble: FanlightError | undefined = $state.raw();
  #element: HTMLMediaElement | undefined;
  #unload: (() => void) | undefined;

  constructor(slug: string) {
    this.#slug = slug;
    this.#enter();
    const everySecond = setInterval(() => this.#tick(), 1000);
    this.#ended.signal.addEventListener('abort', () => clearInterval(everySecond), { once: true });
    offerDiagnostics(async () => ({
      room: this.view.state,
      media: this.state,
      stats: this.stats,
      rtc: [],
    }));
  }

  /** Whether there is a broadcast, but no playlist of it. */
  get missing(): boolean {
    return this.view.info?.live === true && !this.view.info.hls;
  }

  get state(): WatchState {
    const info = this.view.info;
    if (!info) return { kind: 'connecting' };
    if (this.#trouble) {
      return { kind: 'reconnecting', attempt: 0, retryAtMs: undefined, error: this.#trouble };
    }
    if (!info.live) return { kind: 'waiting' };
    if (!info.hls) return { kind: 'waiting' };
    if (info.paused) return { kind: 'paused' };
    return this.#loading === 'loaded' ? { kind: 'playing' } : { kind: 'connecting' };
  }

  attach(element: HTMLMediaElement): void {
    this.#element = element;
    this.#tick();
  }

  close(): void {
    this.#ended.abort();
    this.#unload?.();
    this.view.room.leave();
  }

  #enter(): void {
    this.view = enter(this.#slug, () => this.#enter(), true);
  }

  /** Loads the playlist as soon as there is one. */
  #tick(): void {
    this.nowMs = Date.now();
    if (this.#loading !== 'idle' || !this.#element || !this.view.info?.hls) return;
    this.#loading = 'loading';
    this.#load(this.#element).catch((error: unknown) => {
      this.#trouble = FanlightError.from(error);
      this.#loading = 'idle';
    });
  }

  async #load(element: HTMLMediaElement): Promise<void> {
    const url = `/hls/${encodeURIComponent(this.#slug)}/index.m3u8`;
    const { default: Hls } = await import('hls.js/light');
    // Some browsers say "maybe" to native playback and play nothing: hls.js first.
    if (!Hls.isSupported()) {
      element.src = url;
      this.#unload = () => element.removeAttribute('src');
      this.#loading = 'loaded';
      return;
    }
    const hls = new Hls({ lowLatencyMode: true, maxLiveSyncPlaybackRate: 1.1 });
    this.#unload = () => hls.destroy();
    hls.on(Hls.Events.MANIFEST_PARSED, () => {
      this.#trouble = undefined;
      this.#loading = 'loaded';
    });
    hls.on(Hls.Events.ERROR, (_event, { fatal, details }) => {
      if (!fatal) return;
      hls.destroy();
      this.#trouble = new FanlightError(
        'connection_lost',
        `The playlist cannot be played (${details}).`,
      );
      setTimeout(() => {
        this.#loading = 'idle';
      }, RELOAD_MS);
    });
    hls.loadSource(url);
    hls.attachMedia(element);
  }
}

const RELOAD_MS = 2_000;
