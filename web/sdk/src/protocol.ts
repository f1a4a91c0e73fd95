import { isErrorCode } from './errors.ts';
import type {
  EgressCustomPreset,
  EgressDegraded,
  EgressDestinationStatus,
  EgressJob,
  EgressJobList,
  EgressPastFailure,
  EgressPreset,
  EgressSource,
  HlsToken,
  Recording,
  RecordingFile,
  RecordingList,
  RecordingTrack,
  StorageTrouble,
  Thumbnail,
  ThumbnailList,
} from './generated/egress.ts';
import type {
  ChatEvent,
  ChatMessage,
  CreatedInvite,
  CreatedToken,
  ErrorCode,
  Grants,
  IceCredentials,
  IceServer,
  Layout,
  Look,
  RoomEvent,
  RoomImage,
  RoomInfo,
  RoomList,
  ServerMessage,
  Slot,
  StageMember,
} from './generated/protocol.ts';
import {
  array,
  boolean,
  JsonError,
  nullable,
  number,
  object,
  oneOf,
  optional,
  type Reader,
  record,
  string,
} from './json.ts';

export type * from './generated/egress.ts';
export type * from './generated/protocol.ts';
export {
  AUDIO_SLOTS,
  CHAT_CHANNEL,
  CHAT_TEXT_LIMIT,
  CLOSE_CODE,
  EVENTS_CHANNEL,
  NAME_LIMIT,
  STAGE_LIMIT,
} from './generated/protocol.ts';

/** A message of the WebSocket, with the egress jobs read too. */
export type ServerEvent =
  | Exclude<ServerMessage, { type: 'outputs' | 'recording_ready' }>
  | { type: 'outputs'; jobs: EgressJob[] }
  | { type: 'recording_ready'; recording: Recording };

/** The answer to `join`. */
export type Joined = Extract<ServerMessage, { type: 'joined' }>;

/**
 * Reads a WebSocket message. Returns `undefined` for a type that this version does not know.
 *
 * @throws {@link JsonError} when it is not what the protocol says.
 */
export function parseServerMessage(text: string): ServerEvent | undefined {
  return parseTagged(text, serverMessages);
}

/** Reads a message of the `chat` channel; like {@link parseServerMessage}. */
export function parseChatEvent(text: string): ChatEvent | undefined {
  return parseTagged(text, chatEvents);
}

/** Reads a message of the `events` channel; like {@link parseServerMessage}. */
export function parseRoomEvent(text: string): RoomEvent | undefined {
  return parseTagged(text, roomEvents);
}

/** Reads the answer of `GET /api/rooms`. */
export function parseRoomList(value: unknown): RoomList {
  return object<RoomList>({ rooms: array(roomInfo) })(value, 'answer');
}

/** Reads the answer of `GET /api/rooms/{room}`. */
export function parseRoom(value: unknown): RoomInfo {
  return roomInfo(value, 'answer');
}

/** Reads the answer of `POST /api/rooms/{room}/tokens`. */
export function parseCreatedToken(value: unknown): CreatedToken {
  return object<CreatedToken>({ token: string, identity: string, expires_at_ms: number })(
    value,
    'answer',
  );
}

/** Reads the answer of `POST /api/rooms/{room}/invites`. */
export function parseHlsToken(value: unknown): HlsToken {
  return object<HlsToken>({ path: string, token: string, expires_at_ms: number })(value, 'token');
}

export function parseCreatedInvite(value: unknown): CreatedInvite {
  return object<CreatedInvite>({ token: string, path: string, expires_at_ms: number })(
    value,
    'answer',
  );
}

/** Reads one egress job. */
export function parseEgressJob(value: unknown): EgressJob {
  return egressJob(value, 'answer');
}

/** Reads the answer of `GET /api/rooms/{room}/egress`. */
export function parseEgressJobList(value: unknown): EgressJobList {
  return object<EgressJobList>({ jobs: array(egressJob) })(value, 'answer');
}

/** Reads the answer of `GET /api/rooms/{room}/recordings`. */
export function parseRecordingList(value: unknown): RecordingList {
  return object<RecordingList>({ recordings: array(recording) })(value, 'answer');
}

/** Reads the answer of `GET /api/rooms/{room}/egress/{id}/thumbnails/{destination}`. */
export function parseThumbnailList(value: unknown): ThumbnailList {
  return object<ThumbnailList>({ thumbnails: array(thumbnail) })(value, 'answer');
}

/** Reads an `application/problem+json` body; `undefined` when it is something else. */
export function parseProblem(value: unknown): { code: string; detail: string } | undefined {
  try {
    const { code, detail } = record(value, 'problem');
    return { code: string(code, 'code'), detail: string(detail ?? '', 'detail') };
  } catch (error) {
    if (error instanceof JsonError) return undefined;
    throw error;
  }
}

function parseTagged<T extends { type: string }>(text: string, readers: Tagged<T>): T | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new JsonError('message is not JSON');
  }
  const type = string(record(value, 'message').type, 'message.type');
  if (!Object.hasOwn(readers, type)) return undefined;
  return readers[type as T['type']](value, type);
}

function literal<const T extends string>(word: T): Reader<T> {
  return oneOf(word);
}

/** A code this version does not know is read as `internal`: its message still tells what happened. */
const errorCode: Reader<ErrorCode> = (value, at) => {
  const code = string(value, at);
  return isErrorCode(code) ? (code as ErrorCode) : 'internal';
};

const stageMember: Reader<StageMember> = object<StageMember>({
  identity: string,
  name: string,
  host: boolean,
});

const slot: Reader<Slot> = object<Slot>({
  slot: number,
  identity: string,
  name: string,
  kind: oneOf('video', 'audio'),
  heights: array(number),
});

const layout: Reader<Layout> = oneOf('grid', 'speaker', 'picture_in_picture', 'screen', 'single');

const roomImage: Reader<RoomImage> = object<RoomImage>({
  url: string,
  width: number,
  height: number,
});

const look: Reader<Look> = object<Look>({
  names: boolean,
  title: string,
  background: string,
  slate: string,
  logo_corner: oneOf('upper_left', 'upper_right', 'lower_left', 'lower_right'),
  logo: nullable(roomImage),
  background_image: nullable(roomImage),
  slate_image: nullable(roomImage),
});

const roomInfo: Reader<RoomInfo> = object<RoomInfo>({
  slug: string,
  title: string,
  live: boolean,
  paused: boolean,
  live_since_ms: nullable(number),
  viewers: number,
  hls: boolean,
  stage_size: number,
  stage: array(stageMember),
  featured: nullable(string),
  layout,
  look,
});

const grants: Reader<Grants> = object<Grants>({
  publish: boolean,
  stage: boolean,
  subscribe: boolean,
  chat: boolean,
  egress: boolean,
  admin: boolean,
});

const iceServer: Reader<IceServer> = object<IceServer>({
  urls: array(string),
  username: optional(string),
  credential: optional(string),
});

const failureCode = oneOf(
  'connection_refused',
  'host_not_found',
  'unreachable',
  'timeout',
  'rejected',
  'already_publishing',
  'private_address',
  'closed_by_server',
  'stalled',
  'tls_failed',
  'passphrase_wrong',
  'codec_unsupported',
  'disk_full',
  'nothing_recorded',
  'worker_died',
  'overloaded',
  'internal',
);

const destinationStatus: Reader<EgressDestinationStatus> = object<EgressDestinationStatus>({
  id: string,
  type: oneOf('rtmp', 'srt', 'hls', 'recording', 'thumbnails'),
  url: string,
  private: boolean,
  state: oneOf('connecting', 'live', 'retrying', 'failed', 'ended'),
  code: nullable(failureCode),
  last_error: nullable(string),
  past_failure: nullable(
    object<EgressPastFailure>({ code: failureCode, message: string, recovered_at_ms: number }),
  ),
  attempt: number,
  next_try_at_ms: nullable(number),
  live_since_ms: nullable(number),
  bytes: number,
  acknowledged_bytes: number,
  bitrate_bps: number,
  delay_ms: number,
  frames: number,
  dropped_frames: number,
});

const egressSources: Tagged<EgressSource> = {
  program: object({ type: literal('program') }),
  stage: object({ type: literal('stage') }),
  participant: object({ type: literal('participant'), identity: string }),
  track: object<Extract<EgressSource, { type: 'track' }>>({
    type: literal('track'),
    identity: string,
    track: oneOf('camera', 'screen', 'microphone', 'screen_audio'),
  }),
};

const egressSource: Reader<EgressSource> = (value, at) => {
  const type = oneOf('program', 'stage', 'participant', 'track')(record(value, at).type, at);
  return egressSources[type](value, at);
};

const presetName = oneOf('pass_through', '480p30', '720p30', '720p60', '1080p30', '1080p60');
const customPreset = object<EgressCustomPreset>({
  width: number,
  height: number,
  frame_rate: number,
  bitrate_bps: number,
  keyframe_interval_ms: optional(number),
});

const egressPreset: Reader<EgressPreset> = (value, at) =>
  typeof value === 'string' ? presetName(value, at) : customPreset(value, at);

const egressJob: Reader<EgressJob> = object<EgressJob>({
  id: string,
  room: string,
  source: egressSource,
  audio_only: boolean,
  preset: egressPreset,
  layout: nullable(layout),
  degraded: nullable(
    object<EgressDegraded>({
      reason: literal('overload'),
      preset: nullable(customPreset),
      since_ms: number,
    }),
  ),
  state: oneOf('starting', 'running', 'restarting', 'draining', 'paused', 'ended', 'failed'),
  created_at_ms: number,
  receiving: boolean,
  hold_ms: nullable(number),
  restarts: number,
  worker_pid: nullable(number),
  cpu_percent: number,
  destinations: array(destinationStatus),
});

const recordingFile: Reader<RecordingFile> = object<RecordingFile>({
  name: string,
  url: string,
  started_at_ms: number,
  duration_ms: number,
  bytes: number,
  width: nullable(number),
  height: nullable(number),
  sprite: nullable(string),
});

const recording: Reader<Recording> = object<Recording>({
  id: string,
  room: string,
  state: oneOf('recording', 'finishing', 'uploading', 'ready', 'failed'),
  code: nullable(failureCode),
  started_at_ms: number,
  duration_ms: number,
  bytes: number,
  width: nullable(number),
  height: nullable(number),
  poster: nullable(string),
  files: array(recordingFile),
  tracks: array(
    object<RecordingTrack>({
      identity: string,
      name: string,
      track: oneOf('camera', 'screen', 'microphone', 'screen_audio'),
      file: recordingFile,
    }),
  ),
  storage: nullable(
    object<StorageTrouble>({
      code: oneOf(
        'storage_denied',
        'storage_bucket_missing',
        'storage_unreachable',
        'storage_failed',
      ),
      message: string,
      attempt: number,
      next_try_at_ms: number,
    }),
  ),
  links_expire_at_ms: number,
});

const thumbnail: Reader<Thumbnail> = object<Thumbnail>({
  number,
  taken_at_ms: number,
  bytes: number,
  width: number,
  height: number,
  url: string,
});

const chatMessage: Reader<ChatMessage> = object<ChatMessage>({
  id: number,
  identity: string,
  name: string,
  host: boolean,
  text: string,
  at_ms: number,
});

/** A reader for each type of message. */
type Tagged<T extends { type: string }> = {
  [K in T['type']]: Reader<Extract<T, { type: K }>>;
};

const serverMessages: Tagged<ServerEvent> = {
  joined: object<Joined>({
    type: literal('joined'),
    identity: string,
    name: string,
    grants,
    room: roomInfo,
    ice_servers: array(iceServer),
    guest_token: optional(string),
  }),
  answer: object({ type: literal('answer'), sdp: string }),
  room: object({ type: literal('room'), room: roomInfo }),
  outputs: object({ type: literal('outputs'), jobs: array(egressJob) }),
  recording_ready: object({ type: literal('recording_ready'), recording }),
  ice_restarted: object<Extract<ServerEvent, { type: 'ice_restarted' }>>({
    type: literal('ice_restarted'),
    media: oneOf('publish', 'watch'),
    ice: nullable(object<IceCredentials>({ ufrag: string, pwd: string })),
  }),
  wanted_layers: object({ type: literal('wanted_layers'), wanted: array(boolean) }),
  media_closed: object({
    type: literal('media_closed'),
    media: oneOf('publish', 'watch'),
    reason: string,
  }),
  error: object({ type: literal('error'), code: errorCode, message: string }),
  pong: object({ type: literal('pong') }),
};

const chatEvents: Tagged<ChatEvent> = {
  history: object({ type: literal('history'), messages: array(chatMessage) }),
  message: object<Extract<ChatEvent, { type: 'message' }>>({
    type: literal('message'),
    message: chatMessage,
    nonce: optional(string),
  }),
  refused: object<Extract<ChatEvent, { type: 'refused' }>>({
    type: literal('refused'),
    code: errorCode,
    message: string,
    retry_after_ms: optional(number),
    nonce: optional(string),
  }),
};

const roomEvents: Tagged<RoomEvent> = {
  room: object({ type: literal('room'), room: roomInfo }),
  stage: object<Extract<RoomEvent, { type: 'stage' }>>({
    type: literal('stage'),
    video: array(nullable(slot)),
    audio: array(nullable(slot)),
    program: nullable(string),
  }),
};
