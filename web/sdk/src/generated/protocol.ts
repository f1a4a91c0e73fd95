// Made from signaling/src/protocol.rs by `UPDATE_TYPES=1 cargo test -p signaling`. Do not edit.

/**
 * What a page sends over the WebSocket. The first message is `join`.
 */
export type ClientMessage = { "type": "join", 
/**
 * A token (JWT), or the `guest_token` of an earlier `joined`. Without one: a new guest, who may
 * watch a public room.
 */
token?: string, 
/**
 * The name shown in chat, 1 to 40 characters; the server makes one up when absent.
 */
name?: string, } | { "type": "publish", 
/**
 * The SDP offer.
 */
sdp: string, } | { "type": "watch", 
/**
 * The SDP offer.
 */
sdp: string, 
/**
 * Whether to receive what this participant publishes, too, as a player does and somebody on stage does not.
 */
own?: boolean, } | { "type": "candidate", 
/**
 * The candidate line.
 */
candidate: string, 
/**
 * The mid it belongs to.
 */
sdp_mid?: string, } | { "type": "set_paused", 
/**
 * Whether the broadcast is paused.
 */
paused: boolean, } | { "type": "layers", 
/**
 * The heights of its layers in pixels, the lowest first; at most 4.
 */
heights: Array<number>, 
/**
 * Whether it is a shared screen.
 */
screen: boolean, } | { "type": "limit", 
/**
 * The highest layer wanted, counted from 0, the lowest; no limit when `null`.
 */
layer: number | null, } | { "type": "restart_ice", 
/**
 * Which.
 */
media: MediaRole, 
/**
 * The lines of the new offer with its ICE credentials (RFC 8840), or the whole of it.
 */
fragment: string, } | { "type": "stop", 
/**
 * Which; both when absent.
 */
media?: MediaRole, } | { "type": "ping", };

/**
 * What the server sends over the WebSocket.
 */
export type ServerMessage = { "type": "joined", 
/**
 * This participant's identity; stable for a token, made up for a guest.
 */
identity: string, 
/**
 * The name shown in chat.
 */
name: string, 
/**
 * What this participant may do.
 */
grants: Grants, 
/**
 * The room.
 */
room: RoomInfo, 
/**
 * STUN and TURN servers for the browser.
 */
ice_servers: Array<IceServer>, 
/**
 * Only to guests: joining with it as `token` keeps the identity over a reconnect.
 */
guest_token?: string, } | { "type": "answer", 
/**
 * The SDP answer.
 */
sdp: string, } | { "type": "room", 
/**
 * The room.
 */
room: RoomInfo, } | { "type": "outputs", 
/**
 * As `GET /api/rooms/{room}/egress` answers (`EgressJob[]`).
 */
jobs: unknown[], } | { "type": "recording_ready", 
/**
 * As `GET /api/rooms/{room}/recordings/{id}` answers (`Recording`).
 */
recording: unknown, } | { "type": "ice_restarted", 
/**
 * Which connection.
 */
media: MediaRole, 
/**
 * The server's credentials, which replace those of the last answer; `null` when there is no such
 * connection any more, or the fragment was not usable: offer again.
 */
ice: IceCredentials | null, } | { "type": "wanted_layers", 
/**
 * By layer: in the order of the offer's rids, or of the spatial layers of a scalable stream, the lowest first.
 */
wanted: Array<boolean>, } | { "type": "media_closed", 
/**
 * Which.
 */
media: MediaRole, 
/**
 * Stable word: `replaced`, `consent_expired`, `handshake_failed`, `left`, `requested`, `never_connected`;
 * and of guests, who are not to offer again by themselves: `removed` (by the host), `stage_closed` (the
 * host is gone).
 */
reason: string, } | { "type": "error", 
/**
 * Stable code, see [`ErrorCode`].
 */
code: ErrorCode, 
/**
 * What happened and what to do, for people.
 */
message: string, } | { "type": "pong", };

/**
 * A room as its members see it.
 */
export type RoomInfo = { 
/**
 * Its name in URLs: 1 to 64 of `a-z 0-9 -`.
 */
slug: string, 
/**
 * Its title.
 */
title: string, 
/**
 * Whether a broadcast is on air.
 */
live: boolean, 
/**
 * Whether the broadcaster has paused.
 */
paused: boolean, 
/**
 * When the broadcast started, Unix milliseconds.
 */
live_since_ms: number | null, 
/**
 * Connected viewers: pages, also those that play HLS, and WHEP players. Other players of HLS are not counted.
 */
viewers: number, 
/**
 * Whether the room's HLS playlist is being written.
 */
hls: boolean, 
/**
 * Most participants on stage, the host included: 1 to 16.
 */
stage_size: number, 
/**
 * Who is sending, the host first, then by arrival.
 */
stage: Array<StageMember>, 
/**
 * The identity that the host has featured; the loudest speaker is shown large otherwise.
 */
featured: string | null, 
/**
 * How the pictures of the stage are arranged where they are composed.
 */
layout: Layout, 
/**
 * What is around and over them there.
 */
look: Look, };

/**
 * Somebody who is sending into a room.
 */
export type StageMember = { 
/**
 * Identity.
 */
identity: string, 
/**
 * The name shown.
 */
name: string, 
/**
 * Whether it is the host, who brings the broadcast to its end by stopping.
 */
host: boolean, };

/**
 * How the pictures of a stage are arranged where they are composed into one.
 */
export type Layout = "grid" | "speaker" | "picture_in_picture" | "screen" | "single";

/**
 * What is around and over the pictures of a composed output.
 */
export type Look = { 
/**
 * Whether names are written on the pictures.
 */
names: boolean, 
/**
 * A line at the top, at most 100 characters; none when empty.
 */
title: string, 
/**
 * The colour behind the pictures, `#rrggbb`.
 */
background: string, 
/**
 * What is written while nobody sends, at most 200 characters; nothing when empty.
 */
slate: string, 
/**
 * Where the logo is.
 */
logo_corner: Corner, 
/**
 * In a corner, over the pictures.
 */
logo: RoomImage | null, 
/**
 * Behind the pictures, instead of the colour.
 */
background_image: RoomImage | null, 
/**
 * Shown while nobody sends, instead of the text.
 */
slate_image: RoomImage | null, };

/**
 * An image that a host has uploaded.
 */
export type RoomImage = { 
/**
 * Where it is on this server: a PNG. Another image has another address.
 */
url: string, 
/**
 * Width in pixels, as it is kept.
 */
width: number, 
/**
 * Height in pixels, as it is kept.
 */
height: number, };

/**
 * A corner of the picture.
 */
export type Corner = "upper_left" | "upper_right" | "lower_left" | "lower_right";

/**
 * What an image of a room is for: the last part of `/api/rooms/{room}/images/{kind}`.
 */
export type ImageKind = "logo" | "background" | "slate";

/**
 * What a media connection is for.
 */
export type MediaRole = "publish" | "watch";

/**
 * The credentials of an ICE session (RFC 8839 §5.4).
 */
export type IceCredentials = { 
/**
 * Username fragment.
 */
ufrag: string, 
/**
 * Password.
 */
pwd: string, };

/**
 * What a participant may do.
 */
export type Grants = { 
/**
 * Send media as the room's host.
 */
publish: boolean, 
/**
 * Send media as a guest, beside a host who is on air.
 */
stage: boolean, 
/**
 * Receive media.
 */
subscribe: boolean, 
/**
 * Write in chat.
 */
chat: boolean, 
/**
 * Start, see and end outputs.
 */
egress: boolean, 
/**
 * Create and change rooms.
 */
admin: boolean, };

/**
 * A server for the browser's `RTCConfiguration.iceServers`.
 */
export type IceServer = { 
/**
 * `stun:` and `turn:` URLs.
 */
urls: Array<string>, 
/**
 * TURN user name: expiry and identity.
 */
username?: string, 
/**
 * TURN credential: base64 of an HMAC-SHA1.
 */
credential?: string, };

/**
 * What a participant sends on the `chat` channel.
 */
export type ChatRequest = { "type": "say", 
/**
 * 1 to 500 characters.
 */
text: string, 
/**
 * Chosen by the sender, returned in `refused` and in the sender's own `message`; at most 64 characters.
 */
nonce?: string, };

/**
 * What the server sends on the `chat` channel.
 */
export type ChatEvent = { "type": "history", 
/**
 * The messages.
 */
messages: Array<ChatMessage>, } | { "type": "message", 
/**
 * The message.
 */
message: ChatMessage, 
/**
 * The sender's nonce; only to the sender, who gets the message twice: with the nonce, then as
 * everybody does. Ids tell that it is the same.
 */
nonce?: string, } | { "type": "refused", 
/**
 * `chat_rate_limited`, `chat_too_long`, `chat_empty`, `chat_not_allowed`, `bad_message`.
 */
code: ErrorCode, 
/**
 * What happened, for people.
 */
message: string, 
/**
 * When to try again, for `chat_rate_limited`.
 */
retry_after_ms?: number, 
/**
 * The refused message's nonce.
 */
nonce?: string, };

/**
 * One chat message.
 */
export type ChatMessage = { 
/**
 * Increases within a room.
 */
id: number, 
/**
 * Who wrote it.
 */
identity: string, 
/**
 * The name shown.
 */
name: string, 
/**
 * Whether the writer is the room's broadcaster (may publish).
 */
host: boolean, 
/**
 * The text.
 */
text: string, 
/**
 * When, Unix milliseconds.
 */
at_ms: number, };

/**
 * What the server sends on the `events` channel.
 */
export type RoomEvent = { "type": "room", 
/**
 * The room.
 */
room: RoomInfo, } | { "type": "stage", 
/**
 * By slot; `null` for one that carries nothing.
 */
video: Array<Slot | null>, 
/**
 * By slot: the loudest speakers.
 */
audio: Array<Slot | null>, 
/**
 * The identity whose picture is to be shown large.
 */
program: string | null, };

/**
 * What a slot carries. Nobody receives what they send themselves: their own slots stay silent.
 */
export type Slot = { 
/**
 * Its number, from 0.
 */
slot: number, 
/**
 * Whose it is.
 */
identity: string, 
/**
 * The name shown.
 */
name: string, 
/**
 * Picture or sound.
 */
kind: TrackKind, 
/**
 * How high the layers of a picture are in pixels, the lowest first; empty when its sender did not say.
 */
heights: Array<number>, };

/**
 * Picture or sound.
 */
export type TrackKind = "video" | "audio";

/**
 * Stable codes of refusals, on every channel and in `application/problem+json`.
 */
export type ErrorCode = "token_missing" | "token_invalid" | "token_expired" | "token_wrong_room" | "not_allowed" | "room_unknown" | "room_exists" | "room_has_publisher" | "stage_full" | "stage_closed" | "removed_from_stage" | "participant_unknown" | "room_name_invalid" | "look_invalid" | "image_unknown" | "image_invalid" | "image_too_large" | "bad_message" | "sdp_invalid" | "no_common_media" | "session_unknown" | "ice_session_mismatch" | "unsupported_media_type" | "body_too_large" | "server_full" | "chat_rate_limited" | "chat_too_long" | "chat_empty" | "chat_not_allowed" | "precondition_required" | "method_not_allowed" | "not_found" | "internal";

/**
 * The body of every HTTP refusal, `application/problem+json` (RFC 9457).
 */
export type Problem = { 
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
code: ErrorCode, };

/**
 * The body of `POST /api/rooms`.
 */
export type CreateRoom = { 
/**
 * Its name in URLs: 1 to 64 of `a-z 0-9 -`.
 */
slug: string, 
/**
 * Its title, 1 to 100 characters; the slug when absent.
 */
title?: string, 
/**
 * Most participants on stage, 1 to 16; 9 when absent.
 */
stage_size?: number, };

/**
 * The body of `PATCH /api/rooms/{room}`: what is to change.
 */
export type ChangeRoom = { 
/**
 * Its title, 1 to 100 characters.
 */
title?: string, 
/**
 * Most participants on stage, 1 to 16. Who is on stage stays; viewers show more of them after joining again.
 */
stage_size?: number, 
/**
 * How the pictures of its stage are arranged where they are composed; the host may change it.
 */
layout?: Layout, 
/**
 * What is around and over them; the host may change it.
 */
look?: ChangeLook, };

/**
 * What is to change of a [`Look`].
 */
export type ChangeLook = { 
/**
 * Whether names are written on the pictures.
 */
names?: boolean, 
/**
 * A line at the top; none when empty.
 */
title?: string, 
/**
 * The colour behind the pictures, `#rrggbb`.
 */
background?: string, 
/**
 * What is written while nobody sends; nothing when empty.
 */
slate?: string, 
/**
 * Where the logo is.
 */
logo_corner?: Corner, };

/**
 * The answer of `GET /api/rooms`: the public rooms, live ones first.
 */
export type RoomList = { 
/**
 * The rooms, at most 200.
 */
rooms: Array<RoomInfo>, };

/**
 * The body of `POST /api/rooms/{room}/tokens`. Every token may watch; the rest is asked for.
 */
export type CreateToken = { 
/**
 * Who it is for, 1 to 64 characters; a new identity when absent.
 */
identity?: string, 
/**
 * The name shown in chat.
 */
name?: string, 
/**
 * May broadcast.
 */
publish?: boolean, 
/**
 * May join the stage as a guest.
 */
stage?: boolean, 
/**
 * May write in chat.
 */
chat?: boolean, 
/**
 * May start, see and end outputs.
 */
egress?: boolean, 
/**
 * May do everything in the room.
 */
admin?: boolean, 
/**
 * How long it is valid, 60 s to 365 days; 12 h when absent.
 */
ttl_seconds?: number, };

/**
 * The answer of `POST /api/rooms/{room}/tokens`.
 */
export type CreatedToken = { 
/**
 * The token: for `Authorization: Bearer`, and for the bearer field of OBS.
 */
token: string, 
/**
 * Whose it is.
 */
identity: string, 
/**
 * When it expires, Unix milliseconds.
 */
expires_at_ms: number, };

/**
 * The body of `POST /api/rooms/{room}/invites`.
 */
export type CreateInvite = { 
/**
 * How long it is valid, 60 s to 365 days; 24 h when absent.
 */
ttl_seconds?: number, };

/**
 * The answer of `POST /api/rooms/{room}/invites`: an invitation for any number of guests. Each who joins with it
 * is somebody of their own, who may join the stage and write in chat.
 */
export type CreatedInvite = { 
/**
 * The token: for the page, and for `Authorization: Bearer` of WHIP.
 */
token: string, 
/**
 * Path and fragment of the page that guests open.
 */
path: string, 
/**
 * When it expires, Unix milliseconds.
 */
expires_at_ms: number, };

/**
 * The body of `PUT /api/rooms/{room}/featured`.
 */
export type Feature = { 
/**
 * Who is shown large, and to viewers with one picture alone; `null`: the loudest speaker.
 */
identity: string | null, };

/**
 * The answer of `GET /api/rooms/{room}/participants`.
 */
export type ParticipantList = { 
/**
 * Everybody with a media connection, those on stage first; at most 1000.
 */
participants: Array<Participant>, 
/**
 * How many there are.
 */
total: number, };

/**
 * Somebody with a media connection.
 */
export type Participant = { 
/**
 * Identity.
 */
identity: string, 
/**
 * The name shown.
 */
name: string, 
/**
 * Whether they are the host.
 */
host: boolean, 
/**
 * Whether they are on stage: the host or a guest.
 */
on_stage: boolean, 
/**
 * Connections that send.
 */
publishing: number, 
/**
 * Connections that receive.
 */
watching: number, };

/**
 * The answer of `GET /api/rooms/{room}/participants/{identity}/stats`.
 */
export type ParticipantStats = { 
/**
 * Whose they are.
 */
identity: string, 
/**
 * Each of their connections, as the server sees it; the fields are described in `docs/api.md`.
 */
connections: Record<string, unknown>[], };

/** Why the server closed a WebSocket. */
export const CLOSE_CODE = {
  notUtf8: 1007,
  tooLong: 1009,
  restarting: 1012,
  badMessages: 4400,
  token: 4401,
  notAllowed: 4403,
  roomUnknown: 4404,
  silent: 4408,
  tooSlow: 4429,
  serverFull: 4503,
} as const;

export const CHAT_CHANNEL = 'chat';
export const EVENTS_CHANNEL = 'events';
export const CHAT_TEXT_LIMIT = 500;
export const NAME_LIMIT = 40;
export const STAGE_LIMIT = 16;
export const AUDIO_SLOTS = 3;
