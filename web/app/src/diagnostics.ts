/** What a page tells about its connection. */
export interface Diagnostics {
  /** The state of the room's signaling connection. */
  readonly room: unknown;
  /** The state of the broadcast (studio) or the view (watch). */
  readonly media: unknown;
  /** The summary that the page shows; `undefined` while not connected. */
  readonly stats: unknown;
  /**
   * The browser's own entries of the types that tell something about streams and the path: `inbound-rtp`,
   * `outbound-rtp`, `remote-inbound-rtp`, `remote-outbound-rtp`, `media-source`, `codec`, `transport` and the
   * `candidate-pair` in use. Without addresses.
   */
  readonly rtc: readonly Readonly<Record<string, unknown>>[];
}

declare global {
  interface Window {
    /** For bug reports and tests: `await window.fanlight.diagnostics()` on the studio and watch pages. */
    fanlight?: { readonly diagnostics: () => Promise<Diagnostics> };
  }
}

/** Offers the diagnostics of the page that is open. */
export function offerDiagnostics(diagnostics: () => Promise<Diagnostics>): void {
  window.fanlight = { diagnostics };
}

/** Picks the telling entries of a report. */
export function tellingEntries(report: RTCStatsReport | undefined): Record<string, unknown>[] {
  const entries: Record<string, unknown>[] = [];
  report?.forEach((entry: Record<string, unknown>) => {
    const pairInUse = entry.type === 'candidate-pair' && entry.nominated === true;
    if (pairInUse || TELLING.has(String(entry.type))) entries.push({ ...entry });
  });
  return entries;
}

const TELLING: ReadonlySet<string> = new Set([
  'inbound-rtp',
  'outbound-rtp',
  'remote-inbound-rtp',
  'remote-outbound-rtp',
  'media-source',
  'codec',
  'transport',
]);
