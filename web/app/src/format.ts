/** `1:02:03`, or `2:03` below an hour. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  if (parts[0] === 0) parts.shift();
  return parts.map((part, i) => (i === 0 ? `${part}` : `${part}`.padStart(2, '0'))).join(':');
}

/** `60 s`, `5 minutes` or `2 hours`. */
export function span(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds <= 120) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  return minutes <= 120 ? `${minutes} minutes` : `${Math.round(minutes / 60)} hours`;
}

/** `2.5 Mbit/s` or `640 kbit/s`. */
export function bitrate(bps: number): string {
  return bps >= 1e6 ? `${(bps / 1e6).toFixed(1)} Mbit/s` : `${Math.round(bps / 1e3)} kbit/s`;
}

/** `0.2 s` or `45 ms`. */
export function delay(ms: number): string {
  return ms >= 100 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms)} ms`;
}

/** `1 viewer`, `12 viewers`. */
export function viewers(count: number): string {
  return count === 1 ? '1 viewer' : `${count.toLocaleString('en')} viewers`;
}

/** The time of day of a message. */
export function timeOfDay(atMs: number): string {
  return new Date(atMs).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
}

/** The time of day of a picture, to the second. */
export function exactTimeOfDay(atMs: number): string {
  return new Date(atMs).toLocaleTimeString([], { timeStyle: 'medium' });
}

/** `in 4 s`, for an attempt that comes. */
export function countdown(atMs: number, nowMs: number): string {
  const seconds = Math.ceil((atMs - nowMs) / 1000);
  return seconds > 0 ? `in ${seconds} s` : 'now';
}

/** `740 kB`, `12 MB` or `1.4 GB`. */
export function fileSize(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(1)} GB`;
  if (bytes >= 1e6) return `${Math.round(bytes / 1e6)} MB`;
  return `${Math.ceil(bytes / 1e3)} kB`;
}
