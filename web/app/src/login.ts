/**
 * Takes a token out of the address (`#token=…`) and keeps it in this browser: for one room when the address names
 * one, as the owner's otherwise. The address bar is cleaned, so that sharing the address does not share the token.
 */
export function takeTokenFromAddress(room: string | undefined): void {
  const token = tokenInAddress();
  if (!token) return;
  if (claimsOf(token)) remember(keyOf(room), token);
  else cutOff = true;
}

/** Whether the address had a token that is none, as when a part of it was not copied. */
export function tokenWasCutOff(): boolean {
  return cutOff;
}

/**
 * Takes an invitation to a room's stage from the address. It is kept for this tab alone: one link is for many, and
 * each tab that opens it is a guest of its own.
 */
export function takeInvitationFromAddress(room: string): void {
  const token = tokenInAddress();
  if (token) keepInvitation(room, token);
}

/** Keeps what the server has made of the invitation: with it, a reload comes back as the same guest. */
export function keepInvitation(room: string, token: string): void {
  try {
    sessionStorage.setItem(invitationKey(room), token);
  } catch {
    memory.set(invitationKey(room), token);
  }
}

/** The invitation to a room's stage, else the token that there is for the room. */
export function invitationFor(room: string): string | undefined {
  let kept = memory.get(invitationKey(room));
  try {
    kept = sessionStorage.getItem(invitationKey(room)) ?? kept;
  } catch {
    // Then it lasts as long as the page.
  }
  return kept ?? tokenFor(room);
}

function tokenInAddress(): string | undefined {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (!token) return undefined;
  history.replaceState(history.state, '', location.pathname + location.search);
  return token;
}

function invitationKey(room: string): string {
  return `fanlight.stage.${room}`;
}

/** The token to use in a room: its own, else the owner's. */
export function tokenFor(room: string | undefined): string | undefined {
  const own = room === undefined ? undefined : recall(keyOf(room));
  return usable(own, room) ?? usable(recall(keyOf(undefined)), room);
}

/** Whether what this browser was signed in with is of no use any more because its time is over. */
export function signInExpired(room: string | undefined): boolean {
  if (tokenFor(room)) return false;
  const kept = [room === undefined ? undefined : recall(keyOf(room)), recall(keyOf(undefined))];
  return kept.some((token) => {
    const claims = token && claimsOf(token);
    return claims && claims.expiresAtMs < Date.now() && isFor(claims, room);
  });
}

/** Forgets a token, wherever it is kept for this room: the server does not take it any more. */
export function forgetToken(token: string, room: string | undefined): void {
  for (const key of [keyOf(room), keyOf(undefined)]) {
    if (recall(key) === token) forget(key);
  }
}

/** What a token says it allows. Only for what to show: the server alone decides. */
export interface Claims {
  readonly room: string;
  readonly admin: boolean;
  readonly expiresAtMs: number;
}

export function claimsOf(token: string): Claims | undefined {
  const payload = token.split('.')[1]?.replaceAll('-', '+').replaceAll('_', '/');
  if (!payload) return undefined;
  try {
    const claims: unknown = JSON.parse(atob(payload));
    if (typeof claims !== 'object' || claims === null) return undefined;
    const { room, admin, exp } = claims as Record<string, unknown>;
    return {
      room: typeof room === 'string' ? room : '',
      admin: admin === true,
      expiresAtMs: typeof exp === 'number' ? exp * 1000 : 0,
    };
  } catch {
    return undefined;
  }
}

function usable(token: string | undefined, room: string | undefined): string | undefined {
  const claims = token && claimsOf(token);
  if (!claims || claims.expiresAtMs < Date.now()) return undefined;
  return isFor(claims, room) ? token : undefined;
}

function isFor(claims: Claims, room: string | undefined): boolean {
  return room === undefined || claims.room === '*' || claims.room === room;
}

function keyOf(room: string | undefined): string {
  return room === undefined ? 'fanlight.token' : `fanlight.token.${room}`;
}

function remember(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Private windows may refuse; the token then lasts as long as the page.
    memory.set(key, value);
  }
}

function recall(key: string): string | undefined {
  try {
    return localStorage.getItem(key) ?? memory.get(key);
  } catch {
    return memory.get(key);
  }
}

function forget(key: string): void {
  memory.delete(key);
  try {
    localStorage.removeItem(key);
  } catch {
    // Nothing was kept where nothing can be kept.
  }
}

const memory = new Map<string, string>();
let cutOff = false;
