import type { EgressJob, EgressRequest } from '@fanlight/sdk';

/** What an output shows: a part of its request. */
export interface Picture {
  readonly id: string;
  readonly name: string;
  readonly of: Pick<EgressRequest, 'source' | 'preset'>;
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

/** Whether `job` composes this very picture and can send it to one more destination: to compose it twice would
    cost twice. */
export function isShared(job: EgressJob, picture: Picture): boolean {
  const composes = job.source.type === 'stage' && job.layout === null && !job.audio_only;
  const runs = job.state === 'starting' || job.state === 'running' || job.state === 'restarting';
  return composes && runs && job.preset === picture.of.preset && job.destinations.length < 16;
}
