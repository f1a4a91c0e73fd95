import type { VideoCodec } from './layers.ts';

/**
 * The header extension by which phones announce their rotation. Without it they rotate the pixels before encoding,
 * and every output is upright.
 */
const VIDEO_ORIENTATION = 'urn:3gpp:video-orientation';

/** Removes the video-orientation extension from an offer. */
export function withoutVideoOrientation(sdp: string): string {
  return lines(sdp)
    .filter((line) => !(line.startsWith('a=extmap:') && line.includes(VIDEO_ORIENTATION)))
    .join('\r\n');
}

/**
 * Asks Chromium's sender to begin at `kbps` instead of 300 kbit/s (`x-google-start-bitrate` in the answer's `fmtp`).
 * Other browsers ignore it.
 */
export function withStartBitrate(answer: string, kbps: number): string {
  return mapCodecs(answer, 'video', /^(H264|VP8|VP9|AV1)$/i, (fmtp) => [
    ...fmtp,
    `x-google-start-bitrate=${Math.round(kbps)}`,
  ]);
}

/** Lets Opus carry two channels: in the answer it makes the sender use them, in an offer it makes the player. */
export function withStereo(sdp: string): string {
  return mapCodecs(sdp, 'audio', /^opus$/i, (fmtp) => [
    ...fmtp.filter((parameter) => !/^(sprop-)?stereo=/.test(parameter)),
    'stereo=1',
    'sprop-stereo=1',
  ]);
}

/** Returns the lines of an offer that carry its ICE credentials: those of its first m-line, as all are bundled. */
export function iceFragment(offer: string): string {
  const all = lines(offer);
  const found = ['a=ice-ufrag:', 'a=ice-pwd:'].flatMap(
    (prefix) => all.find((line) => line.startsWith(prefix)) ?? [],
  );
  return `${found.join('\r\n')}\r\n`;
}

/** Puts new ICE credentials into an answer. */
export function withIceCredentials(
  answer: string,
  { ufrag, pwd }: { readonly ufrag: string; readonly pwd: string },
): string {
  return lines(answer)
    .map((line) => {
      if (line.startsWith('a=ice-ufrag:')) return `a=ice-ufrag:${ufrag}`;
      return line.startsWith('a=ice-pwd:') ? `a=ice-pwd:${pwd}` : line;
    })
    .join('\r\n');
}

/** What an encoder is called in `RTCRtpSender.getCapabilities`. */
export interface CodecCapability {
  readonly mimeType: string;
  readonly sdpFmtpLine?: string | undefined;
}

/**
 * Chooses a browser's codecs for sending: the preferred one alone, because of several the server takes H264; another
 * one when the browser lacks it. H264 only as baseline with packetization mode 1, constrained first; VP9 and AV1 in
 * their plain profiles.
 */
export function chooseVideoCodecs<C extends CodecCapability>(
  codecs: readonly C[],
  preferred: VideoCodec,
): C[] {
  const h264 = codecs
    .filter((codec) => /^video\/h264$/i.test(codec.mimeType) && isForwardedH264(codec))
    .sort((a, b) => Number(isConstrained(b)) - Number(isConstrained(a)));
  const vp8 = codecs.filter((codec) => /^video\/vp8$/i.test(codec.mimeType));
  const vp9 = codecs.filter((codec) => /^video\/vp9$/i.test(codec.mimeType) && isPlain(codec));
  const av1 = codecs.filter((codec) => /^video\/av1$/i.test(codec.mimeType) && isPlain(codec));
  const rtx = codecs.filter((codec) => /^video\/rtx$/i.test(codec.mimeType));
  const all = { h264, vp8, vp9, av1 };
  const found = [all[preferred], h264, vp8].find((candidates) => candidates.length > 0) ?? [];
  return [...found, ...rtx];
}

/** Chooses what of a browser's codecs to receive: everything that the server forwards. */
export function receivableVideoCodecs<C extends CodecCapability>(codecs: readonly C[]): C[] {
  return codecs.filter((codec) => {
    const name = codec.mimeType.replace(/^video\//i, '').toLowerCase();
    if (name === 'h264') return /packetization-mode=1/.test(codec.sdpFmtpLine ?? '');
    if (name === 'vp9' || name === 'av1') return isPlain(codec);
    return name === 'vp8' || name === 'rtx';
  });
}

function isPlain(codec: CodecCapability): boolean {
  const profile = /profile(?:-id)?=(\d+)/.exec(codec.sdpFmtpLine ?? '')?.[1];
  return profile === undefined || profile === '0';
}

function isForwardedH264(codec: CodecCapability): boolean {
  const fmtp = codec.sdpFmtpLine ?? '';
  return /packetization-mode=1/.test(fmtp) && /profile-level-id=42/i.test(fmtp);
}

function isConstrained(codec: CodecCapability): boolean {
  return /profile-level-id=42e0/i.test(codec.sdpFmtpLine ?? '');
}

function mapCodecs(
  sdp: string,
  kind: 'audio' | 'video',
  name: RegExp,
  change: (fmtp: readonly string[]) => readonly string[],
): string {
  let section = '';
  const wanted = new Set<string>();
  const all = lines(sdp);
  const out: string[] = [];
  for (const line of all) {
    const media = /^m=(\w+)/.exec(line);
    if (media) {
      section = media[1] ?? '';
      wanted.clear();
    }
    const rtpmap = /^a=rtpmap:(\d+) ([^/]+)\//.exec(line);
    const fmtp = /^a=fmtp:(\d+) (.*)$/.exec(line);
    if (section === kind && rtpmap?.[1] && name.test(rtpmap[2] ?? '')) {
      wanted.add(rtpmap[1]);
      out.push(line);
      if (!all.some((other) => other.startsWith(`a=fmtp:${rtpmap[1]} `))) {
        out.push(`a=fmtp:${rtpmap[1]} ${change([]).join(';')}`);
      }
    } else if (section === kind && fmtp?.[1] && wanted.has(fmtp[1])) {
      out.push(`a=fmtp:${fmtp[1]} ${change((fmtp[2] ?? '').split(/;\s*/)).join(';')}`);
    } else {
      out.push(line);
    }
  }
  return out.join('\r\n');
}

function lines(sdp: string): string[] {
  return sdp.split(/\r?\n/);
}
