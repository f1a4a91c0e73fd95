/** Several sounds in one track; {@link Mix.close} frees what it uses. The mixed streams stay the caller's. */
export class Mix {
  readonly track: MediaStreamTrack;
  readonly #context: AudioContext;

  /** Mixes the sound of these streams, of which each has some. */
  constructor(streams: readonly MediaStream[]) {
    this.#context = new AudioContext();
    const destination = this.#context.createMediaStreamDestination();
    for (const stream of streams) {
      this.#context.createMediaStreamSource(stream).connect(destination);
    }
    const [track] = destination.stream.getAudioTracks();
    if (!track) throw new TypeError('a destination without a track');
    this.track = track;
  }

  close(): void {
    this.track.stop();
    void this.#context.close();
  }
}
