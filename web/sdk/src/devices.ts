import { FanlightError } from './errors.ts';

/** What to capture from a camera and a microphone. `undefined` takes the browser's choice, `false` leaves it out. */
export interface CaptureRequest {
  readonly camera?: string | undefined | false;
  readonly microphone?: string | undefined | false;
  readonly width?: number;
  readonly height?: number;
  readonly frameRate?: number;
  /** Leaves the sound as it is: no echo cancellation, noise suppression or gain control. */
  readonly music?: boolean;
}

/** What a person can choose from. Labels are empty until the permission was given. */
export interface DeviceList {
  readonly cameras: readonly MediaDeviceInfo[];
  readonly microphones: readonly MediaDeviceInfo[];
}

/**
 * Opens camera and microphone. A remembered device that is gone is replaced by the browser's choice.
 *
 * @throws {@link FanlightError} `insecure_origin`, `permission_denied`, `device_missing`, `device_busy`,
 * `device_unsuitable`.
 */
export async function openCamera(
  request: CaptureRequest,
  signal?: AbortSignal,
): Promise<MediaStream> {
  const devices = mediaDevices();
  const { width = 1280, height = 720, frameRate = 30, music = false } = request;
  const processing = !music;
  const constraints = (exact: boolean): MediaStreamConstraints => ({
    video: request.camera !== false && {
      ...device(request.camera, exact),
      width: { ideal: width },
      height: { ideal: height },
      frameRate: { ideal: frameRate },
    },
    audio: request.microphone !== false && {
      ...device(request.microphone, exact),
      echoCancellation: processing,
      noiseSuppression: processing,
      autoGainControl: processing,
      ...(music && { channelCount: { ideal: 2 } }),
    },
  });
  const open = async (exact: boolean) => {
    try {
      return await devices.getUserMedia(constraints(exact));
    } catch (cause) {
      throw captureError(cause);
    }
  };
  const remembered = typeof request.camera === 'string' || typeof request.microphone === 'string';
  let stream: MediaStream;
  try {
    stream = await open(true);
  } catch (error) {
    const gone = error instanceof FanlightError && GONE.has(error.code);
    if (!remembered || !gone) throw error;
    stream = await open(false);
  }
  for (const track of stream.getVideoTracks()) track.contentHint = 'motion';
  return abandonable(stream, signal);
}

/**
 * Asks for a screen, window or tab; with the sound of it where the browser can.
 *
 * @throws {@link FanlightError} `screen_cancelled`, `insecure_origin`, `not_supported`, `device_busy`.
 */
export async function openScreen(
  request: { readonly frameRate?: number } = {},
  signal?: AbortSignal,
): Promise<MediaStream> {
  const devices = mediaDevices();
  if (!('getDisplayMedia' in devices)) throw new FanlightError('not_supported');
  try {
    const stream = await devices.getDisplayMedia({
      video: {
        frameRate: { ideal: request.frameRate ?? 30 },
        width: { max: 1920 },
        height: { max: 1080 },
      },
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
    for (const track of stream.getVideoTracks()) track.contentHint = 'detail';
    return abandonable(stream, signal);
  } catch (cause) {
    if (cause instanceof DOMException && ['NotAllowedError', 'AbortError'].includes(cause.name)) {
      throw new FanlightError('screen_cancelled', undefined, { cause });
    }
    throw captureError(cause);
  }
}

/** Lists what can be chosen; empty where the browser gives nothing. */
export async function listDevices(): Promise<DeviceList> {
  const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  const usable = all.filter((entry) => entry.deviceId !== '');
  return {
    cameras: usable.filter((entry) => entry.kind === 'videoinput'),
    microphones: usable.filter((entry) => entry.kind === 'audioinput'),
  };
}

/** Ends all tracks of a stream, which switches the camera light off. */
export function stopStream(stream: MediaStream | undefined): void {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

function mediaDevices(): MediaDevices {
  if (!window.isSecureContext) throw new FanlightError('insecure_origin');
  if (!navigator.mediaDevices?.getUserMedia) throw new FanlightError('not_supported');
  return navigator.mediaDevices;
}

function device(id: string | undefined | false, exact: boolean): MediaTrackConstraints {
  return typeof id === 'string' && id !== ''
    ? { deviceId: exact ? { exact: id } : { ideal: id } }
    : {};
}

function abandonable(stream: MediaStream, signal: AbortSignal | undefined): MediaStream {
  if (signal?.aborted) {
    stopStream(stream);
    throw signal.reason;
  }
  return stream;
}

function captureError(cause: unknown): FanlightError {
  if (cause instanceof FanlightError) return cause;
  const name = cause instanceof DOMException ? cause.name : '';
  switch (name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return new FanlightError('permission_denied', undefined, { cause });
    case 'NotFoundError':
      return new FanlightError('device_missing', undefined, { cause });
    case 'NotReadableError':
    case 'AbortError':
      return new FanlightError('device_busy', undefined, { cause });
    case 'OverconstrainedError':
      return new FanlightError('device_unsuitable', undefined, { cause });
    default:
      // OverconstrainedError is no DOMException everywhere.
      if (cause instanceof Error && cause.name === 'OverconstrainedError') {
        return new FanlightError('device_unsuitable', undefined, { cause });
      }
      return FanlightError.from(cause);
  }
}

const GONE: ReadonlySet<string> = new Set(['device_missing', 'device_unsuitable']);
