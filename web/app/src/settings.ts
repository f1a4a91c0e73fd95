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

/** Notes that this tab is on air in a room, or no longer is. */
export function noteOnAir(room: string, source: 'camera' | 'screen' | 'audio' | undefined): void {
  try {
    if (source) sessionStorage.setItem(AIR + room, JSON.stringify({ source, atMs: Date.now() }));
    else sessionStorage.removeItem(AIR + room);
  } catch {
    // Then a reload does not resume by itself.
  }
}

/** What this tab was sending into a room when it was reloaded, if that was less than a minute ago. */
export function interruptedSource(room: string): 'camera' | 'screen' | 'audio' | undefined {
  try {
    const value: unknown = JSON.parse(sessionStorage.getItem(AIR + room) ?? 'null');
    if (typeof value !== 'object' || value === null) return undefined;
    const { source, atMs } = value as Record<string, unknown>;
    const recent = typeof atMs === 'number' && Date.now() - atMs < RESUME_WITHIN_MS;
    const known = source === 'camera' || source === 'screen' || source === 'audio';
    return recent && known ? source : undefined;
  } catch {
    return undefined;
  }
}

const KEY = 'fanlight.settings';
const AIR = 'fanlight.on-air.';
const RESUME_WITHIN_MS = 60_000;
