import type { EgressErrorCode } from './generated/egress.ts';
import type { ErrorCode } from './generated/protocol.ts';

/** Failures that the browser finds by itself; the server's are `ErrorCode` and `EgressErrorCode`. */
export type LocalErrorCode =
  | 'server_unreachable'
  | 'connection_lost'
  | 'timeout'
  | 'media_unreachable'
  | 'taken_over'
  | 'permission_denied'
  | 'device_missing'
  | 'device_busy'
  | 'device_unsuitable'
  | 'insecure_origin'
  | 'screen_cancelled'
  | 'not_supported'
  | 'nothing_to_send';

/** A stable word for what went wrong. */
export type FanlightErrorCode = ErrorCode | EgressErrorCode | LocalErrorCode;

interface Explanation {
  readonly message: string;
  readonly advice: string;
  /** Whether trying again without doing anything can help. */
  readonly passing: boolean;
}

/** A failure with a stable `code`, a message in plain words, and what to do about it. */
export class FanlightError extends Error {
  override readonly name = 'FanlightError';
  readonly code: FanlightErrorCode;
  /** What a person can do now; empty with a message of one's own, such as the server's: that says it itself. */
  readonly advice: string;

  constructor(code: FanlightErrorCode, message?: string, options?: ErrorOptions) {
    super(message || explanations[code].message, options);
    this.code = code;
    this.advice = message ? '' : explanations[code].advice;
  }

  /** Whether the same attempt may succeed later without anybody doing anything. */
  get passing(): boolean {
    return explanations[this.code].passing;
  }

  /** Wraps whatever was thrown; an unknown cause becomes `internal`. */
  static from(cause: unknown): FanlightError {
    if (cause instanceof FanlightError) return cause;
    if (cause instanceof DOMException && cause.name === 'TimeoutError') {
      return new FanlightError('timeout', undefined, { cause });
    }
    const message = cause instanceof Error ? cause.message : String(cause);
    return new FanlightError('internal', message, { cause });
  }
}

/** Returns whether `value` is a code of this or the server's making. */
export function isErrorCode(value: string): value is FanlightErrorCode {
  return Object.hasOwn(explanations, value);
}

const explanations: Readonly<Record<FanlightErrorCode, Explanation>> = {
  token_missing: {
    message: 'This needs a sign-in.',
    advice: 'Open the link that the server printed when it started, or ask for an invite link.',
    passing: false,
  },
  token_invalid: {
    message: 'Your link is not valid on this server.',
    advice: 'Open the link that the server printed when it started, or ask for a new invite link.',
    passing: false,
  },
  token_expired: {
    message: 'Your link has expired.',
    advice:
      'Ask whoever gave it to you for a new one; the server prints the owner’s when it starts.',
    passing: false,
  },
  token_wrong_room: {
    message: 'Your link is for another room.',
    advice: 'Open the room that the link was made for, or ask for a link to this one.',
    passing: false,
  },
  not_allowed: {
    message: 'Your link does not allow this.',
    advice: 'Ask the owner of the server for a link that does.',
    passing: false,
  },
  room_unknown: {
    message: 'There is no such room.',
    advice: 'Check the address, or create the room on the start page.',
    passing: false,
  },
  room_exists: {
    message: 'There is a room of that name already.',
    advice: 'Choose another name, or open the existing room.',
    passing: false,
  },
  room_has_publisher: {
    message: 'Somebody else is broadcasting in this room.',
    advice: 'Wait until that broadcast has ended, or create another room.',
    passing: false,
  },
  stage_full: {
    message: 'The stage is full.',
    advice: 'Try again when somebody has left it.',
    passing: false,
  },
  stage_closed: {
    message: 'The host is not on air.',
    advice: 'You can join the stage once the broadcast has begun.',
    passing: false,
  },
  removed_from_stage: {
    message: 'The host has taken you off the stage.',
    advice: 'Ask the host before you come back with an invite link.',
    passing: false,
  },
  participant_unknown: {
    message: 'They are not on stage any more.',
    advice: 'There is nothing to do.',
    passing: false,
  },
  room_name_invalid: {
    message: 'That room name cannot be used.',
    advice: 'Use 1 to 64 lower-case letters, digits and hyphens.',
    passing: false,
  },
  look_invalid: {
    message: 'That text or colour cannot be used.',
    advice: 'Shorten the text, or choose another colour.',
    passing: false,
  },
  image_unknown: {
    message: 'That image has been removed already.',
    advice: 'There is nothing to do.',
    passing: false,
  },
  image_invalid: {
    message: 'That image cannot be read.',
    advice: 'Choose a PNG or JPEG image, at least 16 pixels wide and high.',
    passing: false,
  },
  image_too_large: {
    message: 'That image has too many pixels.',
    advice: 'Make it smaller: at most 4096 by 4096 pixels.',
    passing: false,
  },
  bad_message: {
    message: 'The server did not understand the page.',
    advice: 'Reload the page; if that does not help, the server and the page differ in version.',
    passing: false,
  },
  sdp_invalid: {
    message: "The server could not use the browser's media offer.",
    advice: 'Update the browser, or try Chrome, Edge, Firefox or Safari.',
    passing: false,
  },
  no_common_media: {
    message: 'The browser and the server share no video or audio format.',
    advice: 'Try Chrome, Edge, Firefox or Safari in a recent version.',
    passing: false,
  },
  session_unknown: {
    message: 'The connection has ended on the server.',
    advice: 'It is set up again by itself.',
    passing: true,
  },
  ice_session_mismatch: {
    message: 'The connection was changed in the meantime.',
    advice: 'It is set up again by itself.',
    passing: true,
  },
  unsupported_media_type: {
    message: 'The server did not understand the page.',
    advice: 'Reload the page.',
    passing: false,
  },
  body_too_large: {
    message: 'The request was too large for the server.',
    advice: 'Shorten it and try again.',
    passing: false,
  },
  server_full: {
    message: 'The server is full or about to restart.',
    advice: 'The page keeps trying.',
    passing: true,
  },
  chat_rate_limited: {
    message: 'You are writing very fast.',
    advice: 'Wait a few seconds and send it again.',
    passing: false,
  },
  chat_too_long: {
    message: 'That message is too long.',
    advice: 'A message may have 500 characters.',
    passing: false,
  },
  chat_empty: {
    message: 'The message is empty.',
    advice: 'Write something first.',
    passing: false,
  },
  chat_not_allowed: {
    message: 'You may read this chat but not write in it.',
    advice: 'Ask the broadcaster for a link that allows chatting.',
    passing: false,
  },
  precondition_required: {
    message: 'The server did not understand the page.',
    advice: 'Reload the page.',
    passing: false,
  },
  method_not_allowed: {
    message: 'The server did not understand the page.',
    advice: 'Reload the page.',
    passing: false,
  },
  not_found: {
    message: 'The server does not know that address.',
    advice: 'Check the address.',
    passing: false,
  },
  bad_request: {
    message: 'The server did not understand the request.',
    advice: 'Check what you entered.',
    passing: false,
  },
  egress_unknown: {
    message: 'That output has ended already.',
    advice: 'Add it again if you still need it.',
    passing: false,
  },
  egress_capacity: {
    message: 'The server has no room for another output.',
    advice: 'Remove an output first, or ask the operator to raise the limit.',
    passing: false,
  },
  preset_invalid: {
    message: 'That picture cannot be made of that source.',
    advice: 'Choose another quality or source.',
    passing: false,
  },
  source_invalid: {
    message: 'That source cannot be used.',
    advice: 'Choose another one.',
    passing: false,
  },
  recording_options_invalid: {
    message: 'That length of files cannot be used.',
    advice: 'Choose 10 seconds to 12 hours.',
    passing: false,
  },
  thumbnails_options_invalid: {
    message: 'Such pictures cannot be taken.',
    advice: 'Choose one every 1 to 3600 seconds, of an output with a picture.',
    passing: false,
  },
  recording_unknown: {
    message: 'That recording is gone.',
    advice: 'It may have been deleted.',
    passing: false,
  },
  recording_active: {
    message: 'That recording is still being made.',
    advice: 'End its output first.',
    passing: false,
  },
  storage_unavailable: {
    message: 'The storage of recordings does not give this file at the moment.',
    advice: 'Try again later.',
    passing: true,
  },
  disk_full: {
    message: 'There is no room for a recording.',
    advice: 'Delete recordings, or ask the operator for more space.',
    passing: false,
  },
  link_invalid: {
    message: 'That link is no longer valid.',
    advice: 'Reload the page for a fresh one.',
    passing: false,
  },
  thumbnail_unknown: {
    message: 'There is no such picture.',
    advice: 'A room has one while it is live.',
    passing: true,
  },
  hls_active: {
    message: 'The player for everyone (HLS) is on already.',
    advice: 'There is nothing to do.',
    passing: false,
  },
  hls_late: {
    message: 'Nothing has come for a while.',
    advice: 'The player tries again by itself.',
    passing: true,
  },
  hls_unknown: {
    message: 'This room has no HLS playlist.',
    advice: 'The broadcaster can switch it on in the studio.',
    passing: true,
  },
  preset_fixed: {
    message: 'This output cannot change between passing the picture through and composing it.',
    advice: 'Start another output.',
    passing: false,
  },
  destinations_empty: {
    message: 'No destination was given.',
    advice: 'Enter an address to send to.',
    passing: false,
  },
  destinations_too_many: {
    message: 'Too many destinations at once.',
    advice: 'Remove one first.',
    passing: false,
  },
  destination_url_invalid: {
    message: 'That is not an address to stream to.',
    advice: 'It starts with rtmp:// or rtmps://; copy it from the platform as it stands.',
    passing: false,
  },
  destination_key_invalid: {
    message: 'That stream key cannot be used.',
    advice: 'Copy it again from the platform, without spaces.',
    passing: false,
  },
  destination_unknown: {
    message: 'That output has been removed already.',
    advice: 'Add it again if you still need it.',
    passing: false,
  },
  destination_duplicate: {
    message: 'That address is in use already.',
    advice: 'There is nothing to do.',
    passing: false,
  },
  destination_not_allowed: {
    message: 'This server does not send to that address.',
    advice: 'Ask the operator to allow it.',
    passing: false,
  },
  egress_over: {
    message: 'That output has ended already.',
    advice: 'Add it again if you still need it.',
    passing: false,
  },
  idempotency_key_reused: {
    message: 'The request was sent before with other contents.',
    advice: 'Try again.',
    passing: false,
  },
  stopping: {
    message: 'The server is about to restart.',
    advice: 'Try again in a moment.',
    passing: true,
  },
  internal: {
    message: 'Something failed.',
    advice: 'Try again; the details are in the log of the server.',
    passing: true,
  },
  server_unreachable: {
    message: 'The server cannot be reached.',
    advice: 'Check your internet connection. The page keeps trying.',
    passing: true,
  },
  connection_lost: {
    message: 'The connection was lost.',
    advice: 'The page is connecting again by itself.',
    passing: true,
  },
  timeout: {
    message: 'The server did not answer in time.',
    advice: 'The page keeps trying.',
    passing: true,
  },
  media_unreachable: {
    message: 'Picture and sound cannot get through between you and the server.',
    advice:
      'A firewall may block UDP: try another network or switch off a VPN. The operator can check the public address of the server or set up TURN.',
    passing: true,
  },
  taken_over: {
    message: 'You went live from another tab or device.',
    advice: 'Go live here to take the broadcast back.',
    passing: false,
  },
  permission_denied: {
    message: 'The browser may not use your camera or microphone.',
    advice:
      'Press the camera or lock symbol beside the address, allow camera and microphone, and try again. On a phone or Mac, check the system settings for this browser too.',
    passing: false,
  },
  device_missing: {
    message: 'No camera or microphone was found.',
    advice: 'Plug one in, choose another one, or share your screen instead.',
    passing: false,
  },
  device_busy: {
    message: 'The camera or microphone is in use by another program.',
    advice:
      'Close the other program (a call or OBS, perhaps) and try again, or choose another one.',
    passing: false,
  },
  device_unsuitable: {
    message: 'The chosen camera or microphone cannot do what was asked of it.',
    advice: 'Choose another one.',
    passing: false,
  },
  insecure_origin: {
    message: 'Browsers give the camera to secure pages only.',
    advice:
      'Open this page by https://, or on the machine of the server itself by http://localhost. The server can make a certificate for trying: start it with --tls-self-signed.',
    passing: false,
  },
  screen_cancelled: {
    message: 'No screen was shared.',
    advice: 'Choose a screen, window or tab when the browser asks.',
    passing: false,
  },
  not_supported: {
    message: 'This browser cannot do that.',
    advice: 'Try Chrome, Edge, Firefox or Safari in a recent version.',
    passing: false,
  },
  nothing_to_send: {
    message: 'There is neither picture nor sound to send.',
    advice: 'Choose a camera, a microphone or a screen first.',
    passing: false,
  },
};
