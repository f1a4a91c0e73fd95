import {
  Api,
  FanlightError,
  GoLive,
  type GoLiveOptions,
  type GoLiveState,
  LevelMeter,
  listDevices,
  type PublisherStats,
  type VideoCodec,
} from '@fanlight/sdk';
import { offerDiagnostics, tellingEntries } from '../diagnostics.ts';
import { tokenFor } from '../login.ts';
import {
  changeSettings,
  interruptedBroadcast,
  noteLeft,
  noteMuted,
  noteOnAir,
  readSettings,
  wasMuted,
} from '../settings.ts';
import { Capture, type CaptureChoice, type SourceKind } from './capture.ts';
import { Others } from './others.svelte.ts';
import { codecNamed, type Quality, qualities, qualityNamed } from './quality.ts';
import { enter, enterStage, type RoomView } from './room.svelte.ts';

/** What the broadcaster shows: the preview, and what is sent. */
export type Source =
  | { readonly kind: 'none' }
  | { readonly kind: 'opening'; readonly wanted: SourceKind }
  | { readonly kind: 'open'; readonly capture: Capture };

/** The studio of a host or a guest: a room, a source, a broadcast, and the others on stage. */
export class Studio {
  readonly view: RoomView;
  readonly api: Api;
  readonly slug: string;
  readonly others: Others;
  source: Source = $state.raw({ kind: 'none' });
  #live: GoLiveState = $state.raw({ kind: 'idle' });
  stats: PublisherStats | undefined = $state.raw();
  level: number = $state(0);
  muted: boolean = $state(false);
  /** What went wrong last and has not been put right. */
  problem: FanlightError | undefined = $state.raw();
  cameras: readonly MediaDeviceInfo[] = $state.raw([]);
  microphones: readonly MediaDeviceInfo[] = $state.raw([]);
  camera: string = $state('');
  microphone: string = $state('');
  quality: Quality = $state.raw(qualities[1]);
  codec: VideoCodec = $state('h264');
  /** Whether the picture is sent in several qualities. */
  adapt: boolean = $state(true);
  music: boolean = $state(false);
  nowMs: number = $state(Date.now());
  readonly #ended = new AbortController();
  #broadcast: GoLive | undefined;
  /** One switch of the source at a time: two at once would each close what the other opens, or neither. */
  #switching: Promise<void> | undefined;
  #opening: SourceKind | undefined;
  /** What is to be opened after that; only the newest. */
  #asked: { readonly what: SourceKind; readonly choice: CaptureChoice } | undefined;
  #meter: LevelMeter | undefined;

  constructor(slug: string, as: 'host' | 'guest' = 'host') {
    this.slug = slug;
    const again = () => {
      if (tokenFor(slug)) location.reload();
    };
    this.view = as === 'guest' ? enterStage(slug) : enter(slug, again, true);
    this.api = new Api(this.view.token);
    this.others = new Others(this.view.room);
    this.view.room.on('info', () => this.#followOthers());
    const settings = readSettings();
    this.camera = settings.camera ?? '';
    this.microphone = settings.microphone ?? '';
    this.quality = qualityNamed(settings.quality);
    const asked = new URLSearchParams(location.search);
    this.codec = codecNamed(asked.get('codec') ?? settings.codec);
    const simulcast = asked.get('simulcast');
    this.adapt = simulcast === null ? settings.adapt !== 'no' : simulcast !== '0';
    this.music = settings.music === 'yes';
    this.muted = wasMuted(slug);
    this.#observe();
    offerDiagnostics(() => this.#diagnostics());
    void this.#begin();
  }

  /**
   * How the broadcast is doing. When the server says nothing on either connection it is not on air, though the browser
   * takes some seconds longer to notice.
   */
  get live(): GoLiveState {
    const { state: room } = this.view;
    const sending = this.#live.kind === 'live' || this.#live.kind === 'paused';
    if (!sending || room.kind === 'connected' || !this.stats?.unanswered) return this.#live;
    const error = room.kind === 'waiting' ? room.error : new FanlightError('connection_lost');
    const retryAtMs = room.kind === 'waiting' ? room.retryAtMs : undefined;
    return { kind: 'reconnecting', attempt: 0, retryAtMs, error };
  }

  /** Whether something is or is about to be sent. */
  get onAir(): boolean {
    return this.live.kind !== 'idle' && this.live.kind !== 'failed';
  }

  /** Opens a source and shows it; switches to it at once when on air. */
  use(what: SourceKind): Promise<void> {
    this.#asked = { what, choice: this.#choice() };
    this.#switching ??= this.#switchWhileAsked().finally(() => {
      this.#switching = undefined;
    });
    return this.#switching;
  }

  /** Chooses another camera or microphone. */
  async choose(devices: { camera?: string; microphone?: string }): Promise<void> {
    this.camera = devices.camera ?? this.camera;
    this.microphone = devices.microphone ?? this.microphone;
    changeSettings(devices);
    await this.#useAgain();
  }

  goLive(): Promise<void> {
    return this.#start(false);
  }

  async #start(paused: boolean): Promise<void> {
    // A screen is chosen beside what is shown; a camera or microphone is closed while it is opened again.
    const reopens = this.#opening !== undefined && this.#opening !== 'screen';
    if (this.source.kind !== 'open' || reopens) await (this.#switching ?? this.use('camera'));
    const source = this.source;
    if (source.kind !== 'open' || this.onAir) return;
    this.problem = undefined;
    const broadcast = new GoLive(this.view.room, { ...this.#options(), paused });
    this.#broadcast = broadcast;
    broadcast.setMuted(this.muted);
    broadcast.on('state', (state) => this.#handleLive(broadcast, state));
    broadcast.on('source-ended', (track) => void this.#handleSourceEnded(track));
    // Failures arrive as states.
    await broadcast.start(source.capture.stream).catch(() => {});
  }

  pause(): void {
    this.#broadcast?.pause();
  }

  resume(): void {
    this.#broadcast?.resume();
  }

  stop(): void {
    this.#broadcast?.stop();
    this.#broadcast = undefined;
  }

  setMuted(muted: boolean): void {
    this.muted = muted;
    noteMuted(this.slug, muted);
    this.#broadcast?.setMuted(muted);
    if (this.#broadcast || this.source.kind !== 'open') return;
    for (const track of this.source.capture.stream.getAudioTracks()) track.enabled = !muted;
  }

  setQuality(id: string): void {
    this.quality = qualityNamed(id);
    changeSettings({ quality: id });
    if (this.#kind === 'camera') void this.use('camera');
  }

  setCodec(name: string): void {
    this.codec = codecNamed(name);
    changeSettings({ codec: this.codec });
  }

  setAdapt(adapt: boolean): void {
    this.adapt = adapt;
    changeSettings({ adapt: adapt ? 'yes' : 'no' });
  }

  setMusic(music: boolean): void {
    this.music = music;
    changeSettings({ music: music ? 'yes' : 'no' });
    void this.#useAgain();
  }

  /** Puts a failure out of sight. */
  dismiss(): void {
    this.problem = undefined;
    if (this.#live.kind === 'failed') this.#live = { kind: 'idle' };
  }

  close(): void {
    this.#ended.abort();
    if (this.source.kind === 'open') this.source.capture.close();
    this.#meter?.close();
    this.view.room.leave();
  }

  /** A reload in the middle of a broadcast goes back on air by itself, as it was; otherwise the camera is shown. */
  async #begin(): Promise<void> {
    const interrupted = interruptedBroadcast(this.slug);
    if (interrupted?.source === 'screen') {
      // Sharing a screen again needs a gesture.
      this.source = { kind: 'none' };
      return;
    }
    await this.use(interrupted?.source ?? 'camera');
    if (interrupted && this.source.kind === 'open') await this.#start(interrupted.paused);
  }

  /** What is sent or shown, or is about to be. */
  get #kind(): SourceKind | undefined {
    const shown = this.source.kind === 'open' ? this.source.capture.what : undefined;
    return this.#asked?.what ?? this.#opening ?? shown;
  }

  /** Opens the same anew, with what was chosen now. */
  async #useAgain(): Promise<void> {
    const what = this.#kind;
    if (what) await this.use(what);
  }

  async #switchWhileAsked(): Promise<void> {
    for (let asked = this.#asked; asked && !this.#ended.signal.aborted; asked = this.#asked) {
      this.#asked = undefined;
      this.#opening = asked.what;
      await this.#switch(asked.what, asked.choice);
      this.#opening = undefined;
      await this.#refreshDevices();
    }
  }

  async #switch(what: SourceKind, choice: CaptureChoice): Promise<void> {
    const before = this.source;
    this.problem = undefined;
    if (before.kind !== 'open') this.source = { kind: 'opening', wanted: what };
    // A microphone or camera can often be opened only once: the old one goes first, unless it is being sent.
    const exclusive = before.kind === 'open' && !this.onAir && what !== 'screen';
    if (exclusive) before.capture.close();
    try {
      const capture = await Capture.open(what, choice, this.#ended.signal);
      await this.#broadcast?.replaceSource(capture.stream);
      if (before.kind === 'open') before.capture.close();
      this.source = { kind: 'open', capture };
      this.setMuted(this.muted);
      this.#meter ??= new LevelMeter();
      this.#meter.listen(capture.stream);
      if (this.onAir) this.#noteOnAir();
    } catch (error) {
      this.problem = FanlightError.from(error);
      this.source = before.kind === 'open' && !exclusive ? before : { kind: 'none' };
    }
  }

  #choice(): CaptureChoice {
    const { quality, music } = this;
    return {
      camera: this.camera || undefined,
      microphone: this.microphone || undefined,
      music,
      quality,
    };
  }

  #options(): GoLiveOptions {
    const { frameRate, bitrate } = this.quality;
    const { codec, adapt, music } = this;
    return { frameRate, maxVideoBitrate: bitrate, codec, adapt, music };
  }

  #handleLive(broadcast: GoLive, state: GoLiveState): void {
    if (broadcast !== this.#broadcast && this.#broadcast) return;
    this.#live = state;
    this.problem = state.kind === 'failed' ? state.error : undefined;
    if (!this.onAir) this.stats = undefined;
    this.#followOthers();
    this.#noteOnAir();
    if (state.kind === 'failed') this.#broadcast = undefined;
  }

  #followOthers(): void {
    const { room, identity } = this.view;
    const others = room.info?.stage.some((member) => member.identity !== identity) ?? false;
    const sending = this.#live.kind !== 'idle' && this.#live.kind !== 'failed';
    this.others.follow(others && sending && this.#live.kind !== 'starting');
  }

  /** Sharing was stopped in the browser's own bar, or a device was pulled out. */
  async #handleSourceEnded(track: MediaStreamTrack): Promise<void> {
    // Another source may be taking its place.
    await this.#switching;
    if (this.source.kind !== 'open') return;
    if (!this.source.capture.stream.getTracks().includes(track)) return;
    const back = this.source.capture.what === 'audio' ? 'audio' : 'camera';
    const shared = this.source.capture.what === 'screen' && track.kind === 'video';
    await this.use(back);
    if (!shared && !this.problem) {
      this.problem = new FanlightError(
        'device_missing',
        `The ${track.kind === 'video' ? 'camera' : 'microphone'} was disconnected; another one has taken over.`,
      );
    }
  }

  #observe(): void {
    const { signal } = this.#ended;
    const refresh = () => void this.#refreshDevices();
    navigator.mediaDevices?.addEventListener('devicechange', refresh, { signal });
    const everySecond = setInterval(() => void this.#tick(), 1000);
    signal.addEventListener('abort', () => clearInterval(everySecond), { once: true });
    window.addEventListener(
      'beforeunload',
      (event) => {
        if (this.onAir) event.preventDefault();
      },
      { signal },
    );
    window.addEventListener(
      'pagehide',
      (event) => {
        noteLeft(this.slug);
        // A page that the browser keeps would send again as soon as somebody goes back to it.
        if (event.persisted) this.stop();
      },
      { signal },
    );
    const measure = () => {
      if (signal.aborted) return;
      this.level = this.#meter?.level() ?? 0;
      requestAnimationFrame(measure);
    };
    measure();
  }

  async #tick(): Promise<void> {
    this.nowMs = Date.now();
    if (this.onAir) this.#noteOnAir();
    this.stats = await this.#broadcast?.stats();
  }

  /** A reload at any moment is to find what this tab is sending. */
  #noteOnAir(): void {
    const source = this.onAir && this.source.kind === 'open' ? this.source.capture.what : undefined;
    noteOnAir(this.slug, source && { source, paused: this.#broadcast?.paused ?? false });
  }

  async #refreshDevices(): Promise<void> {
    const { cameras, microphones } = await listDevices();
    this.cameras = cameras;
    this.microphones = microphones;
    // What is open now is not what was chosen last.
    if (this.#opening || this.#asked) return;
    // The sound of a screen is a mixture, of no microphone that could be chosen.
    if (this.source.kind !== 'open' || this.source.capture.what === 'screen') return;
    const [camera] =
      this.source.capture.what === 'camera' ? this.source.capture.stream.getVideoTracks() : [];
    const [microphone] = this.source.capture.stream.getAudioTracks();
    this.camera = camera?.getSettings().deviceId ?? this.camera;
    this.microphone = microphone?.getSettings().deviceId ?? this.microphone;
  }

  async #diagnostics() {
    return {
      room: this.view.state,
      media: this.live,
      stats: this.stats,
      rtc: tellingEntries(await this.#broadcast?.report()),
    };
  }
}
