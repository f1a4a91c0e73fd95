/** Measures how loud the sound of a stream is. */
export class LevelMeter {
  readonly #context: AudioContext;
  readonly #analyser: AnalyserNode;
  readonly #samples: Float32Array<ArrayBuffer>;
  #source: MediaStreamAudioSourceNode | undefined;

  constructor() {
    this.#context = new AudioContext();
    this.#analyser = this.#context.createAnalyser();
    this.#analyser.fftSize = 1024;
    this.#samples = new Float32Array(this.#analyser.fftSize);
  }

  /** Listens to this stream from here on; to nothing when it has no sound. */
  listen(stream: MediaStream | undefined): void {
    this.#source?.disconnect();
    this.#source = undefined;
    if (!stream?.getAudioTracks().length) return;
    this.#source = this.#context.createMediaStreamSource(stream);
    this.#source.connect(this.#analyser);
    // Without a gesture of the person yet, the browser holds it back; the next gesture lets it run.
    if (this.#context.state === 'suspended') void this.#context.resume();
  }

  /** Returns the present level, 0 for -60 dB and below, 1 for full scale. */
  level(): number {
    if (!this.#source) return 0;
    if (this.#context.state === 'suspended') void this.#context.resume();
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let square = 0;
    for (const sample of this.#samples) square += sample * sample;
    const rms = Math.sqrt(square / this.#samples.length);
    const decibel = 20 * Math.log10(rms + 1e-9);
    return Math.min(1, Math.max(0, (decibel + FLOOR_DB) / FLOOR_DB));
  }

  close(): void {
    this.#source?.disconnect();
    void this.#context.close();
  }
}

const FLOOR_DB = 60;
