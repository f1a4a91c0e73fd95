/** Which page an address names. */
export type Route =
  | { readonly page: 'start' }
  | { readonly page: 'studio'; readonly room: string }
  | { readonly page: 'stage'; readonly room: string }
  | {
      readonly page: 'watch';
      readonly room: string;
      readonly player: 'webrtc' | 'hls';
      readonly token: string | undefined;
    }
  | { readonly page: 'unknown' };

export function routeOf(address: Pick<Location, 'pathname' | 'search'>): Route {
  const [first = '', second = '', ...rest] = address.pathname.split('/').filter(Boolean);
  if (first === '') return { page: 'start' };
  if (!second || rest.length > 0) return { page: 'unknown' };
  const room = decoded(second);
  if (room === undefined) return { page: 'unknown' };
  if (first === 'studio' || first === 'stage') return { page: first, room };
  if (first === 'watch') {
    const parameters = new URLSearchParams(address.search);
    const player = parameters.get('player') === 'hls' ? 'hls' : 'webrtc';
    return { page: 'watch', room, player, token: parameters.get('token') ?? undefined };
  }
  return { page: 'unknown' };
}

/** The address of a room's watch page. */
export function watchLink(room: string, player: 'webrtc' | 'hls' = 'webrtc'): string {
  return `${location.origin}/watch/${room}${player === 'hls' ? '?player=hls' : ''}`;
}

/** The same of a private HLS output, for who holds a token. */
export function privateWatchLink(room: string, token: string): string {
  return `${watchLink(room, 'hls')}&token=${encodeURIComponent(token)}`;
}

/** Whether an address with that host leads to the machine that it is opened on, wherever that is. */
export function isThisMachine(host: string): boolean {
  return /(^|\.)localhost$|^127(\.\d+){3}$|^\[::1\]$/.test(host);
}

function decoded(segment: string): string | undefined {
  try {
    return decodeURIComponent(segment);
  } catch {
    return undefined;
  }
}

/** Turns what a person types into the name of a room in addresses. */
export function slugOf(title: string): string {
  return title
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, 64)
    .replace(/^-+|-+$/g, '');
}

/** A random name for a room that nobody has named. */
export function randomSlug(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(5));
  return `room-${Array.from(bytes, (byte) => (byte % 36).toString(36)).join('')}`;
}
