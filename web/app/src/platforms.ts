/** A place that takes RTMP, and where its key is found. */
export interface Platform {
  readonly id: string;
  readonly name: string;
  readonly url: string;
  readonly hint: string;
}

/** Not a platform: a receiver that is called by SRT. */
export const srt = 'srt';

export const platforms: readonly Platform[] = [
  {
    id: 'youtube',
    name: 'YouTube',
    url: 'rtmps://a.rtmps.youtube.com/live2',
    hint: 'YouTube Studio → Create → Go live → Stream: copy the stream key.',
  },
  {
    id: 'facebook',
    name: 'Facebook',
    url: 'rtmps://live-api-s.facebook.com:443/rtmp',
    hint: 'Live Producer → Streaming software: copy the stream key.',
  },
  {
    id: 'twitch',
    name: 'Twitch',
    url: 'rtmp://live.twitch.tv/app',
    hint: 'Creator Dashboard → Settings → Stream: copy the primary stream key.',
  },
  {
    id: 'vimeo',
    name: 'Vimeo',
    url: 'rtmps://rtmp-global.cloud.vimeo.com:443/live',
    hint: 'Live event → Stream via RTMP: copy the stream key.',
  },
  {
    id: 'custom',
    name: 'Another server',
    url: '',
    hint: 'An address that starts with rtmp:// or rtmps://, and its key.',
  },
];

/** Takes the key off an address that was copied with it, as in `rtmp://host/app/key`. */
export function splitKey(url: string): { readonly url: string; readonly key: string } | undefined {
  const parts = /^(rtmps?:\/\/[^/]+\/[^?]*[^/?])\/([^/]+)$/i.exec(url);
  return parts?.[1] && parts[2] ? { url: parts[1], key: parts[2] } : undefined;
}

/** The name of the platform that an address belongs to, else its host and application. */
export function platformName(url: string): string {
  const known = platforms.find((platform) => platform.url && url.startsWith(platform.url));
  if (known) return known.name;
  try {
    // `rtmp:` and `srt:` are no special schemes to every URL parser; `http:` is.
    const { host, pathname } = new URL(url.replace(/^(rtmps?|srt):/, 'http:'));
    return (host + pathname).replace(/\/$/, '');
  } catch {
    return url;
  }
}
