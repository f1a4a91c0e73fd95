export { Api } from './api.ts';
export { Chat, ChatRefusal, type ChatState } from './chat.ts';
export {
  type CaptureRequest,
  type DeviceList,
  listDevices,
  openCamera,
  openScreen,
  stopStream,
} from './devices.ts';
export { FanlightError, type FanlightErrorCode, type LocalErrorCode } from './errors.ts';
export { HoleWatch, type Stretch } from './hole.ts';
export type { VideoCodec } from './layers.ts';
export { LevelMeter } from './level.ts';
export { Mix } from './mix.ts';
export type * from './protocol.ts';
export { CHAT_TEXT_LIMIT, NAME_LIMIT } from './protocol.ts';
export { GoLive, type GoLiveOptions, type GoLiveState } from './publisher.ts';
export { playsAllCodecs } from './reception.ts';
export { Room, type RoomOptions, type RoomState, type StageSlots } from './room.ts';
export { type Remedy, StandstillWatch } from './standstill.ts';
export type { Health, PublisherStats, ViewerStats } from './stats.ts';
export { type Tile, Watch, type WatchOptions, type WatchState } from './viewer.ts';
