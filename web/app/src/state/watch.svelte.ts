import {
  FanlightError,
  playsAllCodecs,
  type Tile,
  type ViewerStats,
  Watch,
  type WatchState,
} from '@fanlight/sdk';
import { offerDiagnostics, tellingEntries } from '../diagnostics.ts';
import { enter, type RoomView } from './room.svelte.ts';

/** A view of a room's broadcast by WebRTC. */
export class WatchView {
  view: RoomView = $state.raw() as RoomView;
  #state: WatchState = $state.raw({ kind: 'connecting' });
  stats: ViewerStats | undefined = $state.raw();
  tiles: readonly Tile[] = $state.raw([]);
  sounds: readonly MediaStream[] = $state.raw([]);
  /** The highest layer that is received, as the person chose; `undefined`: what the link carries. */
  limit: number | undefined = $state.raw();
  /** How long no new picture has come while there should be one, in seconds. */
  stalledFor: number = $state(0);
  readonly missing = false;
  /** How long there has been sound without a picture, in seconds. */
  soundOnlyFor: number = $state(0);
  /** Whether a picture is announced that this browser has no decoder for, as far as can be told from here. */
  unplayable: boolean = $state(false);
  #missingFor = 0;
  nowMs: number = $state(Date.now());
  readonly #ended = new AbortController();
  #watch: Watch | undefined;

  constructor(slug: string) {
    this.#enter(slug);
    offerDiagnostics(() => this.#diagnostics());
    const everySecond = setInterval(() => void this.#tick(), 1000);
    this.#ended.signal.addEventListener('abort', () => clearInterval(everySecond), { once: true });
  }

  /**
   * How the view is doing. When neither the server nor a picture comes, the media connection is dead too, though the
   * browser takes some seconds longer to notice.
   */
  get state(): WatchState {
    const { state: room } = this.view;
    if (this.#state.kind !== 'playing' || room.kind === 'connected' || this.stalledFor < 2) {
      return this.#state;
    }
    const error = room.kind === 'waiting' ? room.error : new FanlightError('connection_lost');
    const retryAtMs = room.kind === 'waiting' ? room.retryAtMs : undefined;
    return { kind: 'reconnecting', attempt: 0, retryAtMs, error };
  }

  /** Receives nothing above this layer; `undefined`: what the link carries. */
  setLimit(layer: number | undefined): void {
    this.limit = layer;
    this.#watch?.setLimit(layer);
  }

  retryNow(): void {
    this.view.room.retryNow();
    this.#watch?.start();
  }

  close(): void {
    this.#ended.abort();
    this.view.room.leave();
  }

  #enter(slug: string): void {
    this.view = enter(slug, () => this.#enter(slug));
    const watch = new Watch(this.view.room, { stage: true, own: true });
    this.#watch = watch;
    watch.setLimit(this.limit);
    watch.on('state', (state) => {
      if (watch === this.#watch) this.#state = state;
    });
    watch.on('tiles', (tiles) => {
      if (watch === this.#watch) this.tiles = tiles;
    });
    watch.on('sounds', (sounds) => {
      if (watch === this.#watch) this.sounds = sounds;
    });
    watch.start();
  }

  async #tick(): Promise<void> {
    this.nowMs = Date.now();
    const stats = await this.#watch?.stats();
    this.stats = stats;
    const soundOnly = this.#state.kind === 'playing' && stats?.framesPerSecond === 0;
    this.soundOnlyFor = soundOnly && stats.bitrate > 0 ? this.soundOnlyFor + 1 : 0;
    const announced = this.tiles.some((tile) => tile.identity !== undefined);
    const missing = this.#state.kind === 'playing' && announced && stats?.width === 0;
    this.#missingFor = missing ? this.#missingFor + 1 : 0;
    // A picture is missing also where the link is too thin for one: then no browser is to blame.
    this.unplayable = this.#missingFor > 4 && !playsAllCodecs();
    const expected = this.#state.kind === 'playing' && stats !== undefined && stats.width > 0;
    this.stalledFor = expected && stats.bitrate === 0 ? this.stalledFor + 1 : 0;
  }

  async #diagnostics() {
    return {
      room: this.view.state,
      media: this.state,
      stats: this.stats,
      rtc: tellingEntries(await this.#watch?.report()),
    };
  }
}
