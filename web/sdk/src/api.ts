import { FanlightError, isErrorCode } from './errors.ts';
import {
  type ChangeRoom,
  type CreatedInvite,
  type CreatedToken,
  type CreateInvite,
  type CreateRoom,
  type CreateToken,
  type EgressChange,
  type EgressDestination,
  type EgressJob,
  type EgressRequest,
  type HlsToken,
  type ImageKind,
  parseCreatedInvite,
  parseCreatedToken,
  parseEgressJob,
  parseEgressJobList,
  parseHlsToken,
  parseProblem,
  parseRecordingList,
  parseRoom,
  parseRoomList,
  parseThumbnailList,
  type Recording,
  type RoomInfo,
  type Thumbnail,
} from './protocol.ts';

/** The server's REST API. Every call rejects with a {@link FanlightError}, or the reason of its `signal`. */
export class Api {
  readonly #server: string | URL;
  readonly #token: string | undefined;

  constructor(token?: string, server: string | URL = location.origin) {
    this.#token = token;
    this.#server = server;
  }

  /** The public rooms, live ones first. */
  async rooms(signal?: AbortSignal): Promise<RoomInfo[]> {
    const list = await this.#call('GET', '/api/rooms', undefined, parseRoomList, signal);
    return list.rooms;
  }

  async room(slug: string, signal?: AbortSignal): Promise<RoomInfo> {
    return await this.#call('GET', roomPath(slug), undefined, parseRoom, signal);
  }

  async createRoom(room: CreateRoom, signal?: AbortSignal): Promise<RoomInfo> {
    return await this.#call('POST', '/api/rooms', room, parseRoom, signal);
  }

  /** Changes what is named of a room; its layout and look need `publish`, the rest `admin`. */
  async changeRoom(slug: string, change: ChangeRoom, signal?: AbortSignal): Promise<RoomInfo> {
    return await this.#call('PATCH', roomPath(slug), change, parseRoom, signal);
  }

  /** Shows an image in the composed picture from here on: PNG or JPEG, at most 4 MB and 4096 x 4096 pixels. */
  async putImage(
    slug: string,
    kind: ImageKind,
    image: Blob,
    signal?: AbortSignal,
  ): Promise<RoomInfo> {
    const path = `${roomPath(slug)}/images/${kind}`;
    return await this.#call('PUT', path, image, parseRoom, signal);
  }

  /** Removes an image. */
  async removeImage(slug: string, kind: ImageKind, signal?: AbortSignal): Promise<void> {
    const path = `${roomPath(slug)}/images/${kind}`;
    await this.#call('DELETE', path, undefined, () => undefined, signal);
  }

  /** Makes a token for somebody else, or for OBS. */
  async createToken(slug: string, token: CreateToken, signal?: AbortSignal): Promise<CreatedToken> {
    const path = `${roomPath(slug)}/tokens`;
    return await this.#call('POST', path, token, parseCreatedToken, signal);
  }

  /** Makes an invitation to the room's stage, for any number of guests. */
  async createInvite(
    slug: string,
    invite: CreateInvite,
    signal?: AbortSignal,
  ): Promise<CreatedInvite> {
    const path = `${roomPath(slug)}/invites`;
    return await this.#call('POST', path, invite, parseCreatedInvite, signal);
  }

  /** Makes an address that opens a private HLS output for so many seconds. */
  async createHlsToken(slug: string, seconds: number, signal?: AbortSignal): Promise<HlsToken> {
    const path = `${roomPath(slug)}/hls/tokens`;
    return await this.#call('POST', path, { valid_for_s: seconds }, parseHlsToken, signal);
  }

  /** Takes a guest off the stage. */
  async removeGuest(slug: string, identity: string, signal?: AbortSignal): Promise<void> {
    const path = `${roomPath(slug)}/participants/${encodeURIComponent(identity)}`;
    await this.#call('DELETE', path, undefined, () => undefined, signal);
  }

  /** Features somebody on stage; `null` leaves it to who speaks. */
  async feature(slug: string, identity: string | null, signal?: AbortSignal): Promise<void> {
    const path = `${roomPath(slug)}/featured`;
    await this.#call('PUT', path, { identity }, () => undefined, signal);
  }

  async outputs(slug: string, signal?: AbortSignal): Promise<EgressJob[]> {
    const path = `${roomPath(slug)}/egress`;
    const list = await this.#call('GET', path, undefined, parseEgressJobList, signal);
    return list.jobs;
  }

  /** Sends the room's program, or what `of` says instead, to destinations. */
  async addOutput(
    slug: string,
    destinations: EgressDestination[],
    of: Omit<EgressRequest, 'destinations'> = {},
    signal?: AbortSignal,
  ): Promise<EgressJob> {
    const path = `${roomPath(slug)}/egress`;
    return await this.#call('POST', path, { ...of, destinations }, parseEgressJob, signal);
  }

  /** Changes a running output: all of it happens, or nothing. */
  async changeOutput(
    slug: string,
    id: string,
    change: Partial<EgressChange>,
    signal?: AbortSignal,
  ): Promise<EgressJob> {
    const path = `${roomPath(slug)}/egress/${encodeURIComponent(id)}`;
    return await this.#call('PATCH', path, change, parseEgressJob, signal);
  }

  /** Ends an output with all its destinations cleanly. */
  async removeOutput(slug: string, id: string, signal?: AbortSignal): Promise<void> {
    const path = `${roomPath(slug)}/egress/${encodeURIComponent(id)}`;
    await this.#call('DELETE', path, undefined, () => undefined, signal);
  }

  /** The pictures at the address of a destination of type `thumbnails`, the newest first. */
  async thumbnails(url: string, signal?: AbortSignal): Promise<Thumbnail[]> {
    const list = await this.#call('GET', url, undefined, parseThumbnailList, signal);
    return list.thumbnails;
  }

  /** One of them, at its own address; a link alone would lack the token. */
  async thumbnail(url: string, signal?: AbortSignal): Promise<Blob> {
    const response = await this.#fetch('GET', url, undefined, signal);
    if (!response.ok) throw refusal(response, await json(response));
    return await response.blob();
  }

  /** The room's recordings, the newest first, with links that open without a token for a day or so. */
  async recordings(slug: string, signal?: AbortSignal): Promise<Recording[]> {
    const path = `${roomPath(slug)}/recordings`;
    const list = await this.#call('GET', path, undefined, parseRecordingList, signal);
    return list.recordings;
  }

  /** Deletes a recording and its files for good. */
  async deleteRecording(slug: string, id: string, signal?: AbortSignal): Promise<void> {
    const path = `${roomPath(slug)}/recordings/${encodeURIComponent(id)}`;
    await this.#call('DELETE', path, undefined, () => undefined, signal);
  }

  async #call<T>(
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    body: unknown,
    parse: (answer: unknown) => T,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const response = await this.#fetch(method, path, body, signal);
    const answer = await json(response);
    if (!response.ok) throw refusal(response, answer);
    try {
      return parse(answer);
    } catch (cause) {
      throw FanlightError.from(cause);
    }
  }

  async #fetch(
    method: string,
    path: string,
    body: unknown,
    signal: AbortSignal | undefined,
  ): Promise<Response> {
    const headers = new Headers({ accept: 'application/json' });
    if (this.#token) headers.set('authorization', `Bearer ${this.#token}`);
    const isFile = body instanceof Blob;
    if (isFile) headers.set('content-type', body.type);
    else if (body !== undefined) headers.set('content-type', 'application/json');
    try {
      return await fetch(new URL(path, this.#server), {
        method,
        headers,
        body: isFile ? body : body === undefined ? null : JSON.stringify(body),
        signal: signal ?? AbortSignal.timeout(isFile ? UPLOAD_TIMEOUT_MS : TIMEOUT_MS),
      });
    } catch (cause) {
      if (signal?.aborted) throw signal.reason;
      throw cause instanceof DOMException
        ? FanlightError.from(cause)
        : new FanlightError('server_unreachable', undefined, { cause });
    }
  }
}

async function json(response: Response): Promise<unknown> {
  return await response.json().catch(() => undefined);
}

function roomPath(slug: string): string {
  return `/api/rooms/${encodeURIComponent(slug)}`;
}

function refusal(response: Response, answer: unknown): FanlightError {
  const problem = parseProblem(answer);
  const code = problem && isErrorCode(problem.code) ? problem.code : 'internal';
  return new FanlightError(
    code,
    problem?.detail || `The server answered ${response.status}. Try again in a moment.`,
  );
}

const TIMEOUT_MS = 15_000;
/** What is large takes its time on a slow line. */
const UPLOAD_TIMEOUT_MS = 120_000;
