import { Mix, openCamera, openScreen, stopStream } from '@fanlight/sdk';
import type { Quality } from './quality.ts';

export type SourceKind = 'camera' | 'screen' | 'audio';

/** With what to capture. */
export interface CaptureChoice {
  readonly camera: string | undefined;
  readonly microphone: string | undefined;
  readonly music: boolean;
  readonly quality: Quality;
}

/** Something to send, with everything that was opened for it. */
export class Capture {
  readonly what: SourceKind;
  readonly stream: MediaStream;
  readonly #close: () => void;

  private constructor(what: SourceKind, stream: MediaStream, close = () => stopStream(stream)) {
    this.what = what;
    this.stream = stream;
    this.#close = close;
  }

  static async open(
    what: SourceKind,
    choice: CaptureChoice,
    signal: AbortSignal,
  ): Promise<Capture> {
    const { camera, microphone, music } = choice;
    const { width, height, frameRate } = choice.quality;
    if (what === 'screen') return await Capture.#screen(choice, signal);
    const sound = { microphone, music };
    const stream =
      what === 'camera'
        ? await openCamera({ camera, width, height, frameRate, ...sound }, signal)
        : await openCamera({ camera: false, ...sound }, signal);
    return new Capture(what, stream);
  }

  /** Ends everything that was opened, which switches the camera light off. */
  close(): void {
    this.#close();
  }

  /** The screen with the voice, mixed with the sound of what is shared where the browser gives it. */
  static async #screen(choice: CaptureChoice, signal: AbortSignal): Promise<Capture> {
    const { microphone, music } = choice;
    const screen = await openScreen({ frameRate: choice.quality.frameRate }, signal);
    const voice = await openCamera({ camera: false, microphone, music }, signal).catch(
      () => undefined,
    );
    const sounds = [screen, voice].filter((stream) => stream?.getAudioTracks().length);
    const mix = sounds.length === 2 ? new Mix(sounds as MediaStream[]) : undefined;
    const heard = mix ? [mix.track] : (sounds[0]?.getAudioTracks() ?? []);
    return new Capture('screen', new MediaStream([...screen.getVideoTracks(), ...heard]), () => {
      mix?.close();
      stopStream(screen);
      stopStream(voice);
    });
  }
}
