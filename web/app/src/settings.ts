/** What this browser remembers about its person. Each is a word or `undefined`. */
export interface Settings {
  readonly name?: string | undefined;
  readonly camera?: string | undefined;
  readonly microphone?: string | undefined;
  readonly quality?: string | undefined;
  readonly codec?: string | undefined;
  readonly adapt?: string | undefined;
  readonly music?: string | undefined;
  readonly volume?: string | undefined;
}

export function readSettings(): Settings {
  try {
    const value: unknown = JSON.parse(localStorage.getItem(KEY) ?? '{}');
    if (typeof value !== 'object' || value === null) return {};
    const words = Object.entries(value).filter(([, word]) => typeof word === 'string');
    return Object.fromEntries(words);
  } catch {
    return {};
  }
}

export function changeSettings(change: Settings): void {
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...readSettings(), ...change }));
  } catch {
    // Private windows may refuse: then nothing is remembered.
  }
}

/** What this tab sends into a room. */
export interface OnAir {
  readonly source: 'camera' | 'screen' | 'audio';
  readonly paused: boolean;
}

/** Notes that this tab is on air in a room, or no longer is. */
export function noteOnAir(room: string, sent: OnAir | undefined): void {
  keepInTab(AIR + room, sent && { ...sent, atMs: Date.now() });
}

/** Notes that the page is being left, which a crash does not: whoever comes back by a link has ended the broadcast. */
export function noteLeft(room: string): void {
  const noted = keptInTab(AIR + room);
  if (noted) keepInTab(AIR + room, { ...noted, left: true });
}

/**
 * What this page is to go on with by itself: what was being sent less than a minute ago, when the page was reloaded or
 * the browser has restored it after a crash. Whoever has left the page in between begins anew.
 */
export function interruptedBroadcast(room: string): OnAir | undefined {
  const { source, paused, atMs, left } = keptInTab(AIR + room) ?? {};
  const recent = typeof atMs === 'number' && Date.now() - atMs < RESUME_WITHIN_MS;
  const opened = howOpened();
  const goesOn = opened === 'reload' || (opened === 'back_forward' && left !== true);
  const known = source === 'camera' || source === 'screen' || source === 'audio';
  if (recent && goesOn && known) return { source, paused: paused === true };
  // A later reload is none of that broadcast.
  noteOnAir(room, undefined);
  return undefined;
}

/** Notes whether this tab's microphone is silenced in a room. */
export function noteMuted(room: string, muted: boolean): void {
  keepInTab(MUTED + room, muted ? { muted } : undefined);
}

/** Whether this tab's microphone was silenced in a room. */
export function wasMuted(room: string): boolean {
  const { muted } = keptInTab(MUTED + room) ?? {};
  return muted === true;
}

/** Restoring counts as `back_forward`. */
function howOpened(): string | undefined {
  const [entry] = performance.getEntriesByType('navigation');
  return entry instanceof PerformanceNavigationTiming ? entry.type : undefined;
}

function keepInTab(key: string, value: object | undefined): void {
  try {
    if (value) sessionStorage.setItem(key, JSON.stringify(value));
    else sessionStorage.removeItem(key);
  } catch {
    // Then a reload begins anew.
  }
}

function keptInTab(key: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(sessionStorage.getItem(key) ?? 'null');
    return typeof value === 'object' && value !== null ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}

const KEY = 'fanlight.settings';
const AIR = 'fanlight.on-air.';
const MUTED = 'fanlight.muted.';
const RESUME_WITHIN_MS = 60_000;
