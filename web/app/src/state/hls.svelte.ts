import type { Stretch, ViewerStats, WatchState } from '@fanlight/sdk';
import { FanlightError, HoleWatch, type Remedy, StandstillWatch } from '@fanlight/sdk';
import type Hls from 'hls.js';
import { offerDiagnostics } from '../diagnostics.ts';
import { enter, type RoomView } from './room.svelte.ts';

/** A quality to choose from. */
export interface Quality {
  readonly level: number;
  readonly height: number;
}

/** How far one may go back, and where the picture is; seconds behind the live edge. */
export interface Rewind {
  readonly longest: number;
  readonly behind: number;
  /** Whether this is as close as the player wants to be. */
  readonly live: boolean;
}

/** A view of a room's broadcast by HLS: a second or more behind, through every network. */
export class HlsView {
  view: RoomView = $state.raw() as RoomView;
  stats: ViewerStats | undefined = $state.raw();
  readonly tiles = undefined;
  readonly sounds = [];
  readonly soundOnlyFor = 0;
  readonly unplayable = false;
  stalledFor: number = $state(0);
  nowMs: number = $state(Date.now());
  qualities: readonly Quality[] = $state.raw([]);
  /** The quality that the person chose; `undefined`: what the link carries. */
  quality: number | undefined = $state.raw();
  /** `undefined` where there is nothing to go back to. */
  rewind: Rewind | undefined = $state.raw();
  readonly #slug: string;
  readonly #token: string | undefined;
  readonly #ended = new AbortController();
  #loading: 'idle' | 'loading' | 'loaded' = $state.raw('idle');
  #trouble: FanlightError | undefined = $state.raw();
  #refused: FanlightError | undefined = $state.raw();
  /** Whether nothing follows what is loaded, as far as is known: it was switched off. */
  #over: boolean = $state.raw(false);
  #looking = false;
  #element: HTMLMediaElement | undefined;
  #hls: Hls | undefined;
  readonly #holes = new HoleWatch();
  readonly #standstill = new StandstillWatch();
  /** The newest playlist that was seen while the player stood. */
  #newest: string | undefined;
  /** Whether the person has gone back, or has paused. */
  #rewound = false;
  #unload: (() => void) | undefined;

  /** `token` opens a private broadcast. */
  constructor(slug: string, token: string | undefined) {
    this.#slug = slug;
    this.#token = token;
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
    return this.view.info?.live === true && !this.#offered;
  }

  get state(): WatchState {
    const info = this.view.info;
    if (this.#refused) return { kind: 'failed', error: this.#refused };
    if (!info) return { kind: 'connecting' };
    if (this.#trouble) {
      return { kind: 'reconnecting', attempt: 0, retryAtMs: undefined, error: this.#trouble };
    }
    const rewound = this.rewind && !this.rewind.live;
    if ((!info.live && !rewound) || !this.#offered) return { kind: 'waiting' };
    if (info.paused && !rewound) return { kind: 'paused' };
    const playing = this.#loading === 'loaded' && (!this.#over || rewound);
    return playing ? { kind: 'playing' } : { kind: 'connecting' };
  }

  attach(element: HTMLMediaElement): void {
    this.#element = element;
    const pause = () => {
      this.#rewound ||= this.#loading === 'loaded' && !element.ended;
    };
    element.addEventListener('pause', pause, { signal: this.#ended.signal });
    this.#tick();
  }

  /** Shows that quality; `undefined`: what the link carries. */
  setQuality(level: number | undefined): void {
    this.quality = level;
    if (this.#hls) this.#hls.nextLevel = level ?? -1;
  }

  /** Goes to that many seconds before the live edge. */
  seek(behind: number): void {
    const element = this.#element;
    const edge = this.#edge();
    if (!element || edge === undefined) return;
    const target = Math.max(edge.start + INSIDE_S, edge.end - behind);
    // Of the segment in which a viewer joined, hls.js has the last parts only, and takes it for loaded: it would wait
    // for ever for what comes before them. Setting the level makes it forget what it has.
    const there = stretches(element.buffered);
    const loaded = there.some(({ start, end }) => start <= target && target < end);
    if (this.#hls && !loaded) this.#hls.currentLevel = this.quality ?? -1;
    element.currentTime = target;
    this.#rewound = target < edge.live - CLOSE_S;
    this.#measure();
  }

  backToLive(): void {
    const element = this.#element;
    const edge = this.#edge();
    if (!element || edge === undefined) return;
    element.currentTime = edge.live;
    this.#rewound = false;
    void element.play().catch(() => {});
    this.#measure();
  }

  close(): void {
    this.#ended.abort();
    this.#unload?.();
    this.view.room.leave();
  }

  /** A private broadcast is not announced; its token is as good. */
  get #offered(): boolean {
    return this.view.info?.hls === true || this.#token !== undefined;
  }

  get #url(): string {
    const folder = `/hls/${encodeURIComponent(this.#slug)}`;
    const below = this.#token === undefined ? folder : `${folder}/~${this.#token}`;
    return `${below}/index.m3u8`;
  }

  #enter(): void {
    this.view = enter(this.#slug, () => this.#enter(), true);
  }

  /** Loads the playlist as soon as there is one, and anew when there is another one. */
  #tick(): void {
    this.nowMs = Date.now();
    this.#measure();
    if (this.#loading === 'loaded') {
      this.#followOn();
      this.#keepGoing();
    }
    if (this.#loading !== 'idle' || !this.#element || !this.#offered || this.#refused) return;
    this.#loading = 'loading';
    this.#load(this.#element).catch((error: unknown) => {
      this.#trouble = FanlightError.from(error);
      this.#loading = 'idle';
    });
  }

  #followOn(): void {
    const element = this.#element;
    if (!element) return;
    this.#over ||= !this.#offered || this.#hasEnded(element);
    const lookable = this.#over && this.#offered && this.view.info?.live === true;
    if (!lookable || this.#looking || this.rewind?.live === false) return;
    this.#look(async (url) => {
      if ((await this.#ongoing(url)) !== undefined && this.#loading === 'loaded') this.#startOver();
    });
  }

  /**
   * Gets a player going that stands still while the playlist goes on, whatever the reason: nobody has to reload the
   * page.
   */
  #keepGoing(): void {
    const element = this.#element;
    const playable = element !== undefined && !element.paused && !element.ended && !this.#over;
    if (!playable || this.state.kind !== 'playing') {
      this.#standstill.reset();
      this.stalledFor = 0;
      return;
    }
    const remedy = this.#standstill.look(element.currentTime, this.nowMs);
    // One that has not begun may have a slow link.
    this.stalledFor = element.currentTime > 0 ? this.#standstill.stoodMs(this.nowMs) / 1000 : 0;
    if (!remedy) this.#newest = undefined;
    else if (!this.#looking) this.#look((url) => this.#help(element, remedy, url));
  }

  async #help(element: HTMLMediaElement, remedy: Remedy, url: string): Promise<void> {
    const [at, before] = [element.currentTime, this.#newest];
    this.#newest = await this.#ongoing(url);
    const goesOn = before !== undefined && this.#newest !== undefined && this.#newest !== before;
    if (!goesOn || this.#loading !== 'loaded' || element.currentTime !== at) return;
    this.#standstill.tried();
    if (remedy === 'renew') this.#startOver();
    else if (this.#rewound && this.rewind) this.seek(this.rewind.behind);
    else this.backToLive();
  }

  /** Has something looked for at the server, one thing at a time and not too often. */
  #look(forIt: (url: string) => Promise<void>): void {
    this.#looking = true;
    forIt(this.#url)
      .catch(() => {})
      .finally(() => {
        setTimeout(() => {
          this.#looking = false;
        }, RELOAD_MS);
      });
  }

  #hasEnded(element: HTMLMediaElement): boolean {
    if (this.#hls) return this.#hls.latestLevelDetails?.live === false;
    return element.ended || element.error !== null;
  }

  /** Returns the playlist of a quality, if there is one that has not ended. */
  async #ongoing(url: string): Promise<string | undefined> {
    const signal = AbortSignal.any([this.#ended.signal, AbortSignal.timeout(RELOAD_MS * 5)]);
    const all = await fetch(url, { signal, cache: 'no-store' });
    const [first] = all.ok ? addresses(await all.text()) : [];
    if (first === undefined) return undefined;
    const one = await fetch(new URL(first, all.url), { signal, cache: 'no-store' });
    const playlist = one.ok ? await one.text() : '#EXT-X-ENDLIST';
    return playlist.includes('#EXT-X-ENDLIST') ? undefined : playlist;
  }

  #startOver(): void {
    this.#unload?.();
    this.quality = undefined;
    this.#over = false;
    this.#rewound = false;
    this.#loading = 'idle';
  }

  /** What can be reached: from where to where, and where the player wants to be. */
  #edge(): { start: number; end: number; live: number } | undefined {
    const seekable = this.#element?.seekable;
    if (!seekable || seekable.length === 0) return undefined;
    const start = seekable.start(0);
    const end = seekable.end(seekable.length - 1);
    return { start, end, live: this.#hls?.liveSyncPosition ?? Math.max(start, end - NATIVE_S) };
  }

  #measure(): void {
    const element = this.#element;
    const edge = this.#edge();
    if (!element || edge === undefined || this.#loading !== 'loaded') {
      this.rewind = undefined;
      return;
    }
    const behind = Math.max(0, edge.end - element.currentTime);
    const longest = edge.end - edge.start;
    // Players stop by themselves at the end.
    const live = (!element.paused || element.ended) && element.currentTime > edge.live - CLOSE_S;
    if (live) this.#rewound = false;
    // Every playlist lists some segments: that is not worth a bar.
    this.rewind = longest > WORTH_S || !live ? { longest, behind, live } : undefined;
    const hls = this.#hls;
    const level = hls?.levels[hls.currentLevel];
    this.stats = {
      bitrate: level?.bitrate ?? 0,
      framesPerSecond: level?.frameRate ?? 0,
      width: level?.width ?? 0,
      height: level?.height ?? 0,
      latencyMs: live && hls ? hls.latency * 1000 : undefined,
      jitterMs: 0,
      loss: 0,
      freezes: 0,
      codec: level?.videoCodec,
      health: 'good',
    };
  }

  async #load(element: HTMLMediaElement): Promise<void> {
    const url = this.#url;
    const { default: Hls } = await import('hls.js/light');
    if (this.#ended.signal.aborted) return;
    // Some browsers say "maybe" to native playback and play nothing: hls.js first.
    if (!Hls.isSupported()) {
      await this.#loadNatively(element, url);
      return;
    }
    const hls = new Hls({
      lowLatencyMode: true,
      // It would catch up with a second of media ahead only, which a player that is one behind never has.
      maxLiveSyncPlaybackRate: 1,
      // One stall, as at the start, must not cost a second for good.
      liveSyncOnStallIncrease: 0.2,
      backBufferLength: 30,
    });
    this.#hls = hls;
    const oftenEnough = setInterval(() => {
      this.#catchUp(hls, element);
      this.#passHoles(element);
    }, CATCH_UP_MS);
    let known: readonly string[] = [];
    const nowAndThen = setInterval(() => {
      this.#lookForMore(url, known).catch(() => {});
    }, LOOK_MS);
    this.#unload = () => {
      clearInterval(oftenEnough);
      clearInterval(nowAndThen);
      element.playbackRate = 1;
      this.#hls = undefined;
      hls.destroy();
    };
    hls.on(Hls.Events.LEVEL_SWITCHING, (_event, { level }) => forgetIfOld(hls, level));
    hls.on(Hls.Events.MANIFEST_LOADED, (_event, { levels }) => {
      known = levels.map((level) => level.url);
    });
    hls.on(Hls.Events.MANIFEST_PARSED, (_event, { levels }) => {
      this.#trouble = undefined;
      this.#over = false;
      this.#loading = 'loaded';
      const heights = levels.map(({ height }, level) => ({ level, height }));
      // While the best layer has not come, the first one shows the next.
      const isFirst = (height: number, level: number) =>
        heights.findIndex((other) => other.height === height) === level;
      const shown = heights.filter(({ level, height }) => height > 0 && isFirst(height, level));
      this.qualities = shown.toSorted((one, other) => other.height - one.height);
    });
    hls.on(Hls.Events.ERROR, (_event, { fatal, details, response }) => {
      if (response?.code === 401 || response?.code === 403) {
        this.#refuse(url);
        return;
      }
      if (!fatal) return;
      this.#unload?.();
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

  /**
   * Plays a little faster while it is later than it needs to be, and has media ahead. Where that would take long, as
   * after a server was away, it goes on live at once.
   */
  #catchUp(hls: Hls, element: HTMLMediaElement): void {
    const { targetLatency, latency } = hls;
    const { buffered, currentTime } = element;
    const ahead = buffered.length > 0 ? buffered.end(buffered.length - 1) - currentTime : 0;
    const late = targetLatency === null ? 0 : latency - targetLatency;
    if (late >= CLOSE_S && ahead > AHEAD_S && !element.paused && !this.#rewound) {
      this.backToLive();
      return;
    }
    const wanted = late > 0.1 && late < CLOSE_S && ahead > AHEAD_S;
    const rate = wanted ? (late > 0.4 && ahead > 2 * AHEAD_S ? 1.15 : 1.07) : 1;
    if (element.playbackRate !== rate) element.playbackRate = rate;
  }

  /**
   * Starts anew when there are qualities that are not in `known`, as when a camera is switched on later: hls.js reads
   * the list of them once. Whoever has gone back is left alone.
   */
  async #lookForMore(url: string, known: readonly string[]): Promise<void> {
    if (known.length === 0 || this.#element?.paused || this.rewind?.live === false) return;
    const hls = this.#hls;
    const signal = AbortSignal.any([this.#ended.signal, AbortSignal.timeout(RELOAD_MS)]);
    const response = await fetch(url, { signal });
    if (!response.ok) return;
    const listed = addresses(await response.text());
    const isNew = (line: string) => !known.includes(new URL(line, response.url).href);
    if (!listed.some(isNew) || this.#hls !== hls) return;
    this.#startOver();
  }

  #passHoles(element: HTMLMediaElement): void {
    if (element.paused) {
      this.#holes.reset();
      return;
    }
    const to = this.#holes.look(element.currentTime, stretches(element.buffered), Date.now());
    if (to !== undefined) element.currentTime = to;
  }

  async #loadNatively(element: HTMLMediaElement, url: string): Promise<void> {
    const signal = AbortSignal.any([this.#ended.signal, AbortSignal.timeout(RELOAD_MS * 5)]);
    const response = await fetch(url, { signal });
    if (response.status === 401 || response.status === 403) {
      this.#refuse(url);
      return;
    }
    element.src = url;
    this.#unload = () => element.removeAttribute('src');
    this.#over = false;
    this.#loading = 'loaded';
  }

  /** Says why the server lets nobody in with this token. Trying again would not help. */
  #refuse(url: string): void {
    this.#unload?.();
    if (this.#refused) return;
    this.#refused = new FanlightError('token_invalid');
    const ask = async () => {
      const signal = AbortSignal.any([this.#ended.signal, AbortSignal.timeout(RELOAD_MS)]);
      const response = await fetch(url, { signal, cache: 'no-store' });
      const problem: unknown = await response.json();
      if (typeof problem !== 'object' || problem === null || !('code' in problem)) return;
      const { code } = problem;
      if (code === 'token_expired' || code === 'token_missing') {
        this.#refused = new FanlightError(code);
      }
    };
    // Without an answer, what is said already stays.
    ask().catch(() => {});
  }
}

/**
 * Makes hls.js forget what it knew of a quality whose playlist it has not read for a while. From that it would only
 * guess how far the playlist has moved on since, and when it guesses too little, it waits until the end of the playlist
 * has come to where the player is. What it does not know, it lines up with the quality that it shows.
 */
function forgetIfOld(hls: Hls, level: number): void {
  const quality = hls.levels[level];
  const shown = hls.latestLevelDetails;
  // One more segment may be gone when the answer comes.
  if (quality?.details && shown && quality.details.endSN <= shown.startSN) delete quality.details;
}

/** The addresses in a playlist. */
function addresses(playlist: string): string[] {
  return playlist.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
}

function stretches(ranges: TimeRanges): Stretch[] {
  return Array.from({ length: ranges.length }, (_, range) => ({
    start: ranges.start(range),
    end: ranges.end(range),
  }));
}

const RELOAD_MS = 2_000;
const CATCH_UP_MS = 200;
/** How often it is looked for new qualities. */
const LOOK_MS = 10_000;
/** Media ahead that is enough to go on with, in seconds. */
const AHEAD_S = 0.45;
/** What a playlist without a rewind window may list, in seconds. */
const WORTH_S = 45;
/** What still counts as live, in seconds before where the player wants to be. */
const CLOSE_S = 4;
/**
 * How far inside the window to go back at most, in seconds. Where the playlist starts a rounding error later than
 * that, hls.js loads nothing for it and waits for ever.
 */
const INSIDE_S = 0.1;
/** How far a player that says nothing of it wants to be behind, in seconds. */
const NATIVE_S = 6;
