import type {
  EgressDestinationStatus,
  EgressJob,
  EgressPreset,
  EgressSource,
  StageMember,
} from '@fanlight/sdk';
import { pictures } from './pictures.ts';
import { platformName } from './platforms.ts';

/** One destination of a job. */
export interface Output {
  readonly key: string;
  readonly job: EgressJob;
  readonly destination: EgressDestinationStatus;
  /** Where it goes; with a number if that and what it shows tell nothing apart. */
  readonly name: string;
  /** What it shows. */
  readonly shows: string;
}

/** The outputs of jobs that have not ended, the oldest first. */
export function outputsOf(jobs: readonly EgressJob[], stage: readonly StageMember[]): Output[] {
  const outputs = jobs
    .filter((job) => job.state !== 'ended')
    .sort((a, b) => a.created_at_ms - b.created_at_ms)
    .flatMap((job) =>
      job.destinations.map((destination) => ({
        key: `${job.id}/${destination.id}`,
        job,
        destination,
        name: nameOf(destination),
        shows: picturedBy(job, stage),
      })),
    );
  return outputs.map((output) => {
    const same = outputs.filter(
      ({ name, shows }) => name === output.name && shows === output.shows,
    );
    const number = same.length > 1 ? ` · ${same.indexOf(output) + 1}` : '';
    return { ...output, name: output.name + number };
  });
}

/** Whether the job is over, or about to be because all that it sent to was given up. */
export function isOver({ state, destinations }: EgressJob): boolean {
  const hopeless = destinations.every((destination) => destination.state === 'failed');
  return state === 'failed' || state === 'ended' || (state === 'draining' && hopeless);
}

/** Whether the server lets it wait because it has too much to do. */
export function isPaused(job: EgressJob): boolean {
  return job.state === 'paused' || (job.degraded !== null && job.degraded.preset === null);
}

/** Whether its end would take something from those who watch. */
export function isOnAir({ job, destination }: Output): boolean {
  const tries = destination.state === 'connecting' || destination.state === 'retrying';
  return destination.state === 'live' || (tries && !isOver(job) && destination.bytes > 0);
}

/** Whether it does not work out, and the host can do something about that. */
export function isWrong({ state, code }: EgressDestinationStatus): boolean {
  if (state === 'failed') return true;
  const waits = code === null || code === 'codec_unsupported' || code === 'overloaded';
  return !waits && (state === 'retrying' || state === 'connecting');
}

function nameOf({ type, url, private: isPrivate }: EgressDestinationStatus): string {
  switch (type) {
    case 'hls':
      return isPrivate ? 'Player for who has a link (HLS)' : 'Player for everyone (HLS)';
    case 'recording':
      return 'Recording';
    case 'thumbnails':
      return 'Pictures';
    case 'rtmp':
    case 'srt':
      return platformName(url);
  }
}

function picturedBy(job: EgressJob, stage: readonly StageMember[]): string {
  const { source, preset, layout, audio_only: soundOnly } = job;
  const usual = pictures.find(
    ({ of }) => (of.source?.type ?? 'program') === source.type && (of.preset ?? PASSED) === preset,
  );
  const words = [usual?.name ?? sourceName(source, stage)];
  if (!usual && preset !== PASSED) words.push(presetName(preset));
  if (layout) words.push(layout.replaceAll('_', ' '));
  if (soundOnly) words.push('sound only');
  return words.join(', ');
}

function sourceName(source: EgressSource, stage: readonly StageMember[]): string {
  if (source.type === 'program') return 'Who is featured or speaks';
  if (source.type === 'stage') return 'Everybody on stage';
  const name = stage.find(({ identity }) => identity === source.identity)?.name ?? source.identity;
  return source.type === 'track' ? `${name}, ${source.track.replace('_', ' ')}` : name;
}

function presetName(preset: EgressPreset): string {
  return typeof preset === 'string'
    ? preset.replace(/p30$/, 'p')
    : `${preset.width}x${preset.height}`;
}

const PASSED = 'pass_through';
