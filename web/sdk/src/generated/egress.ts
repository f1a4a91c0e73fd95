// Made from egress/src/status by `UPDATE_TYPES=1 cargo test -p egress`. Do not edit.

/**
 * The body of `POST /api/rooms/{room}/egress`.
 */
export type EgressRequest = { 
/**
 * What to send: the program if nothing is said.
 */
source?: EgressSource, 
/**
 * Whether to leave out the picture.
 */
audio_only?: boolean, 
/**
 * What the picture is like: `720p30` for the stage if nothing is said, else the publisher's own, untouched.
 */
preset?: EgressPreset, 
/**
 * How a composed picture is arranged: as the host sets it for the room if nothing is said.
 */
layout?: EgressLayout | null, 
/**
 * Where to send, 1 to 16.
 */
destinations: Array<EgressDestination>, };

/**
 * What a job sends.
 */
export type EgressSource = { "type": "program", } | { "type": "stage", } | { "type": "participant", 
/**
 * Whom.
 */
identity: string, } | { "type": "track", 
/**
 * Whose.
 */
identity: string, 
/**
 * Which.
 */
track: EgressTrack, };

/**
 * A track of a participant.
 */
export type EgressTrack = "camera" | "screen" | "microphone" | "screen_audio";

/**
 * What the picture of a job is like.
 */
export type EgressPreset = EgressPresetName | EgressCustomPreset;

/**
 * A preset that has a name.
 */
export type EgressPresetName = "pass_through" | "480p30" | "720p30" | "720p60" | "1080p30" | "1080p60";

/**
 * A preset of one's own.
 */
export type EgressCustomPreset = { 
/**
 * Pixels, even, 64 to 3840.
 */
width: number, 
/**
 * Pixels, even, 64 to 3840.
 */
height: number, 
/**
 * Frames a second, 1 to 60.
 */
frame_rate: number, 
/**
 * Bit/s, 100000 to 20000000.
 */
bitrate_bps: number, 
/**
 * Time between keyframes, 500 to 10000; 2000 if nothing is said.
 */
keyframe_interval_ms?: number, };

/**
 * How the pictures of a stage are arranged.
 */
export type EgressLayout = "grid" | "speaker" | "picture_in_picture" | "screen" | "single";

/**
 * One requested destination.
 */
export type EgressDestination = { "type": "rtmp", 
/**
 * `rtmp://` or `rtmps://` URL of the server and application. Not with a platform.
 */
url?: string, 
/**
 * Instead of a URL, a platform whose URL is known.
 */
platform?: EgressPlatform, 
/**
 * The stream key. Never returned, never logged.
 */
key: string, } | { "type": "srt", 
/**
 * `srt://host:port`.
 */
url: string, 
/**
 * The stream id, which many receivers use as a key: never returned, never logged.
 */
stream_id?: string, 
/**
 * Encrypts the stream, 10 to 79 characters. Never returned, never logged.
 */
passphrase?: string, 
/**
 * How long the receiver may wait for repeated packets, up to 8000 ms; 120 when not given.
 */
latency_ms?: number, } | { "type": "hls", 
/**
 * Whether players need a token (`POST /api/rooms/{room}/hls/tokens`).
 */
private?: boolean, } | { "type": "recording" } & RecordingOptions | { "type": "thumbnails" } & ThumbnailOptions;

/**
 * That a job is less than what was asked for.
 */
export type EgressDegraded = { 
/**
 * Why.
 */
reason: EgressDegradedReason, 
/**
 * What its picture is like meanwhile; `None` while the job is paused.
 */
preset: EgressCustomPreset | null, 
/**
 * Since when, Unix milliseconds.
 */
since_ms: number, };

/**
 * Why a job is less than what was asked for.
 */
export type EgressDegradedReason = "overload";

/**
 * A platform whose address is known.
 */
export type EgressPlatform = "youtube" | "facebook" | "twitch" | "vimeo";

/**
 * One job, as `GET /api/rooms/{room}/egress/{id}` answers.
 */
export type EgressJob = { 
/**
 * Its id.
 */
id: string, 
/**
 * The room's slug.
 */
room: string, 
/**
 * What it is doing.
 */
state: EgressJobState, 
/**
 * What it sends.
 */
source: EgressSource, 
/**
 * Whether it leaves out the picture.
 */
audio_only: boolean, 
/**
 * What its picture is like.
 */
preset: EgressPreset, 
/**
 * How its picture is arranged, if the request said so.
 */
layout: EgressLayout | null, 
/**
 * Set while it is less than what was asked for.
 */
degraded: EgressDegraded | null, 
/**
 * When it was requested, Unix milliseconds.
 */
created_at_ms: number, 
/**
 * Whether media of the broadcaster is arriving.
 */
receiving: boolean, 
/**
 * For how long its sessions are held open while nothing arrives, milliseconds; `None` when it shows a slate
 * instead, for as long as it runs.
 */
hold_ms: number | null, 
/**
 * How often its worker process was restarted.
 */
restarts: number, 
/**
 * The worker's process id while it runs.
 */
worker_pid: number | null, 
/**
 * Processor time of the worker over the last seconds, percent of a core.
 */
cpu_percent: number, 
/**
 * Its destinations in the order requested.
 */
destinations: Array<EgressDestinationStatus>, };

/**
 * The answer of `GET /api/rooms/{room}/egress`.
 */
export type EgressJobList = { 
/**
 * The jobs, running ones first, then the newest ended ones.
 */
jobs: Array<EgressJob>, };

/**
 * What a job is doing.
 */
export type EgressJobState = "starting" | "running" | "restarting" | "draining" | "paused" | "ended" | "failed";

/**
 * One destination's state.
 */
export type EgressDestinationStatus = { 
/**
 * Its id within the job.
 */
id: string, 
/**
 * Its kind.
 */
type: EgressDestinationType, 
/**
 * The URL without its key, or the path of what is made here.
 */
url: string, 
/**
 * Of HLS: whether players need a token.
 */
private: boolean, 
/**
 * What it is doing.
 */
state: EgressDestinationState, 
/**
 * Why it is not live, while it is not because something failed.
 */
code: EgressFailureCode | null, 
/**
 * The same in plain words, with the server's own, and what to do.
 */
last_error: string | null, 
/**
 * What it recovered from last.
 */
past_failure: EgressPastFailure | null, 
/**
 * Connection attempts since it was last live.
 */
attempt: number, 
/**
 * When the next attempt starts, Unix milliseconds, while `retrying`.
 */
next_try_at_ms: number | null, 
/**
 * When it went live, Unix milliseconds, while `live`.
 */
live_since_ms: number | null, 
/**
 * Bytes that have left this server since the job started.
 */
bytes: number, 
/**
 * Bytes that the far side has confirmed since the job started; 0 while it confirms nothing.
 */
acknowledged_bytes: number, 
/**
 * Recent bitrate, bit/s.
 */
bitrate_bps: number, 
/**
 * How old the newest frame was when it left, milliseconds.
 */
delay_ms: number, 
/**
 * Video frames that have left this server since the job started.
 */
frames: number, 
/**
 * Video frames dropped since the job started, because the destination was away or slow; of HLS, those of the
 * best quality that no segment got.
 */
dropped_frames: number, };

/**
 * A failure that is over.
 */
export type EgressPastFailure = { 
/**
 * Its kind.
 */
code: EgressFailureCode, 
/**
 * In plain words.
 */
message: string, 
/**
 * When it was over, Unix milliseconds.
 */
recovered_at_ms: number, };

/**
 * The body of `PATCH /api/rooms/{room}/egress/{id}`: all of it happens, or nothing.
 */
export type EgressChange = { 
/**
 * Destinations to add.
 */
add: Array<EgressDestination>, 
/**
 * Ids of destinations to end and remove. When none is left, the job ends.
 */
remove: Array<string>, 
/**
 * Ids of destinations to try again now, even given up ones.
 */
retry: Array<string>, 
/**
 * Another arrangement of a composed picture; `null` for the one that the host sets.
 */
layout?: EgressLayout | null, 
/**
 * Another preset of a composed picture.
 */
preset?: EgressPreset, };

/**
 * The body of `PATCH /api/rooms/{room}/egress/{id}/destinations/{destination}`. With neither, it is tried
 * again now, even a given up one. With one, it is replaced: it gets a new id.
 */
export type EgressDestinationChange = { 
/**
 * Another URL.
 */
url?: string, 
/**
 * Another stream key; with SRT, another stream id.
 */
key?: string, };

/**
 * The kind of a destination.
 */
export type EgressDestinationType = "rtmp" | "srt" | "hls" | "recording" | "thumbnails";

/**
 * What a destination is doing.
 */
export type EgressDestinationState = "connecting" | "live" | "retrying" | "failed" | "ended";

/**
 * Why a destination's last attempt failed.
 */
export type EgressFailureCode = "connection_refused" | "host_not_found" | "unreachable" | "timeout" | "rejected" | "passphrase_wrong" | "already_publishing" | "private_address" | "closed_by_server" | "stalled" | "tls_failed" | "codec_unsupported" | "disk_full" | "nothing_recorded" | "worker_died" | "overloaded" | "internal";

/**
 * The body of every refusal, `application/problem+json` (RFC 9457).
 */
export type EgressProblem = { 
/**
 * `urn:fanlight:problem:` and the code.
 */
type: string, 
/**
 * The HTTP status in words.
 */
title: string, 
/**
 * The HTTP status.
 */
status: number, 
/**
 * What happened and what to do, for people.
 */
detail: string, 
/**
 * Stable code.
 */
code: EgressErrorCode, 
/**
 * What was asked for, with `egress_capacity`.
 */
needed?: EgressNeeded, 
/**
 * What is left, with `egress_capacity`.
 */
free?: EgressFree, 
/**
 * What would fit, with `egress_capacity`, if anything like it would.
 */
instead?: EgressInstead, };

/**
 * Why a request was refused.
 */
export type EgressErrorCode = "bad_request" | "body_too_large" | "egress_unknown" | "egress_capacity" | "destination_unknown" | "destination_duplicate" | "egress_over" | "idempotency_key_reused" | "unsupported_media_type" | "destination_not_allowed" | "recording_options_invalid" | "recording_unknown" | "recording_active" | "disk_full" | "storage_unavailable" | "link_invalid" | "thumbnail_unknown" | "thumbnails_options_invalid" | "preset_invalid" | "source_invalid" | "preset_fixed" | "hls_active" | "hls_unknown" | "hls_late" | "token_missing" | "token_invalid" | "token_expired" | "destinations_empty" | "destinations_too_many" | "destination_url_invalid" | "destination_key_invalid" | "method_not_allowed" | "stopping" | "internal";

/**
 * What a job is expected to use, or what it would use more than now.
 */
export type EgressNeeded = { 
/**
 * Processor time, percent of a core.
 */
cpu_percent: number, };

/**
 * What is left for new jobs.
 */
export type EgressFree = { 
/**
 * Jobs of the server.
 */
jobs: number, 
/**
 * Jobs of the room.
 */
jobs_in_room: number, 
/**
 * Processor time, percent of a core.
 */
cpu_percent: number, };

/**
 * The largest preset with which a job would fit.
 */
export type EgressInstead = { 
/**
 * It.
 */
preset: EgressPresetName, 
/**
 * The processor time that it needs, percent of a core.
 */
cpu_percent: number, };

/**
 * How a recording is made.
 */
export type RecordingOptions = { 
/**
 * A new file about every so many seconds, 10 to 43200.
 */
segment_seconds?: number, 
/**
 * A new file about every so many megabytes, 1 to 100000.
 */
segment_mb?: number, 
/**
 * Whether every track of the stage is recorded into files of its own, too.
 */
tracks?: boolean, };

/**
 * Which pictures are made, and how many are kept.
 */
export type ThumbnailOptions = { 
/**
 * A picture every so many seconds, 1 to 3600; 10 if nothing is said.
 */
interval_seconds?: number, 
/**
 * Their width in pixels, 160 to 1920; 640 if nothing is said. The height follows from the picture's shape.
 */
width?: number, 
/**
 * How many are kept, the newest, 1 to 10000; 360 if nothing is said.
 */
keep?: number, };

/**
 * One picture (JPEG) of what a job showed.
 */
export type Thumbnail = { 
/**
 * Its number among those of its destination, from 1 on; never used twice.
 */
number: number, 
/**
 * When what it shows was to be seen, Unix milliseconds.
 */
taken_at_ms: number, 
/**
 * Its size.
 */
bytes: number, 
/**
 * Width in pixels.
 */
width: number, 
/**
 * Height in pixels.
 */
height: number, 
/**
 * Its address, which never shows another one. It needs the grant that the list needs.
 */
url: string, };

/**
 * The answer of `GET /api/rooms/{room}/egress/{id}/thumbnails/{destination}`.
 */
export type ThumbnailList = { 
/**
 * The newest first.
 */
thumbnails: Array<Thumbnail>, };

/**
 * One recording, as `GET /api/rooms/{room}/recordings/{id}` answers. Links in it open without a token until
 * `links_expire_at_ms`.
 */
export type Recording = { 
/**
 * Its id.
 */
id: string, 
/**
 * The room's slug.
 */
room: string, 
/**
 * What happens to it.
 */
state: RecordingState, 
/**
 * Why it ended early, or failed.
 */
code: EgressFailureCode | null, 
/**
 * When it was asked for, Unix milliseconds.
 */
started_at_ms: number, 
/**
 * How much was recorded, pauses left out.
 */
duration_ms: number, 
/**
 * Size of its files.
 */
bytes: number, 
/**
 * Width of its first picture.
 */
width: number | null, 
/**
 * Height of its first picture.
 */
height: number | null, 
/**
 * Link to a picture of it (JPEG).
 */
poster: string | null, 
/**
 * Its files, the oldest first. A file is listed once it is finished.
 */
files: Array<RecordingFile>, 
/**
 * The files of each participant's tracks, if they were asked for; all times are of one clock.
 */
tracks: Array<RecordingTrack>, 
/**
 * Why its files do not get to the storage at the moment. Nothing is lost; it is tried again.
 */
storage: StorageTrouble | null, 
/**
 * When the links expire, Unix milliseconds.
 */
links_expire_at_ms: number, };

/**
 * One file of a recording: MP4 with its index in front.
 */
export type RecordingFile = { 
/**
 * Its name.
 */
name: string, 
/**
 * Link to it; answers range requests.
 */
url: string, 
/**
 * When it starts, Unix milliseconds.
 */
started_at_ms: number, 
/**
 * How long it plays.
 */
duration_ms: number, 
/**
 * Its size.
 */
bytes: number, 
/**
 * Width of the picture, if it has one.
 */
width: number | null, 
/**
 * Height of the picture.
 */
height: number | null, 
/**
 * Link to a list (WebVTT) of small pictures for the seek bar.
 */
sprite: string | null, };

/**
 * One file of one track of a participant.
 */
export type RecordingTrack = { 
/**
 * Whose it is.
 */
identity: string, 
/**
 * The name shown.
 */
name: string, 
/**
 * Which of theirs.
 */
track: EgressTrack, 
/**
 * The file. To put it beside others: `started_at_ms`.
 */
file: RecordingFile, };

/**
 * What happens to a recording.
 */
export type RecordingState = "recording" | "finishing" | "uploading" | "ready" | "failed";

/**
 * The answer of `GET /api/rooms/{room}/recordings`.
 */
export type RecordingList = { 
/**
 * The newest first.
 */
recordings: Array<Recording>, };

/**
 * Why files do not get to the storage.
 */
export type StorageTrouble = { 
/**
 * What the matter is.
 */
code: StorageCode, 
/**
 * The same in plain words.
 */
message: string, 
/**
 * How often it was tried in a row.
 */
attempt: number, 
/**
 * When it is tried again, Unix milliseconds.
 */
next_try_at_ms: number, };

/**
 * What the matter with the storage is. A stable word.
 */
export type StorageCode = "storage_denied" | "storage_bucket_missing" | "storage_unreachable" | "storage_failed";

/**
 * The body of `POST /api/rooms/{room}/hls/tokens`.
 */
export type HlsTokenRequest = { 
/**
 * For how long the token opens the room's playlists, seconds; at most 31 days.
 */
valid_for_s: number, };

/**
 * The answer: an address that opens the room's private playlists and all below them.
 */
export type HlsToken = { 
/**
 * The multivariant playlist, with the token.
 */
path: string, 
/**
 * For `/hls/{room}/index.m3u8?token=…`, which leads to `path`.
 */
token: string, 
/**
 * When it expires, Unix milliseconds.
 */
expires_at_ms: number, };
