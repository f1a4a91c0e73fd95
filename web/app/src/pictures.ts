import type { EgressJob, EgressRequest } from '@fanlight/sdk';

/** What an output shows: its request without where it goes. */
export type Shown = Omit<EgressRequest, 'destinations'>;

/** What may be chosen for new outputs. */
export interface Picture {
  readonly id: string;
  readonly name: string;
  readonly of: Shown;
}

export const pictures: readonly Picture[] = [
  { id: 'program', name: 'Who is featured or speaks', of: {} },
  {
    id: 'stage-720',
    name: 'Everybody on stage, 720p',
    of: { source: { type: 'stage' }, preset: '720p30' },
  },
  {
    id: 'stage-1080',
    name: 'Everybody on stage, 1080p',
    of: { source: { type: 'stage' }, preset: '1080p30' },
  },
];

/** What `job` was asked to show. */
export function shownBy({ source, preset, layout, audio_only }: EgressJob): Shown {
  return { source, preset, layout, audio_only };
}

/** Whether `job` composes this very picture and can send it to one more destination: to compose it twice would
    cost twice. */
export function isShared(job: EgressJob, of: Shown): boolean {
  const asked = of.source?.type === 'stage' && !of.layout && !of.audio_only;
  const composes = job.source.type === 'stage' && job.layout === null && !job.audio_only;
  const runs = job.state === 'starting' || job.state === 'running' || job.state === 'restarting';
  return asked && composes && runs && job.preset === of.preset && job.destinations.length < 16;
}
