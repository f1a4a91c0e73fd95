/** A small picture for the seek bar: the part of a sheet that belongs to a stretch of a recording. */
export interface Cue {
  readonly from: number;
  readonly to: number;
  readonly sheet: string;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** Reads a WebVTT list of small pictures; addresses in it are relative to `base`. What cannot be read is left out. */
export function parseCues(text: string, base: string): Cue[] {
  const cues: Cue[] = [];
  for (const block of text.split(/\r?\n\r?\n/)) {
    const found = /^([\d:.]+) --> ([\d:.]+)\r?\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)\s*$/m.exec(
      block,
    );
    if (!found) continue;
    const [, from = '', to = '', sheet = '', ...place] = found;
    const [x = 0, y = 0, width = 0, height = 0] = place.map(Number);
    const address = base.slice(0, base.lastIndexOf('/') + 1) + sheet;
    cues.push({ from: seconds(from), to: seconds(to), sheet: address, x, y, width, height });
  }
  return cues;
}

function seconds(clock: string): number {
  return clock.split(':').reduce((sum, part) => sum * 60 + Number(part), 0);
}
