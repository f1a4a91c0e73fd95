import {
  type ChatMessage,
  type ChatState,
  type EgressJob,
  type Grants,
  Room,
  type RoomInfo,
  type RoomOptions,
  type RoomState,
} from '@fanlight/sdk';
import { forgetToken, invitationFor, keepInvitation, tokenFor } from '../login.ts';
import { changeSettings, readSettings } from '../settings.ts';

/** A room as the pages show it: everything here is current and may be read in templates. */
export class RoomView {
  readonly room: Room;
  /** The token the page came with. */
  readonly token: string | undefined;
  state: RoomState = $state.raw({ kind: 'connecting', attempt: 0 });
  info: RoomInfo | undefined = $state.raw();
  outputs: readonly EgressJob[] = $state.raw([]);
  messages: readonly ChatMessage[] = $state.raw([]);
  chatState: ChatState = $state.raw('closed');
  name: string = $state('');
  identity: string | undefined = $state.raw();
  grants: Grants | undefined = $state.raw();
  #wish: string | undefined = $state.raw();

  constructor(
    slug: string,
    options: Pick<RoomOptions, 'chatAlways'> & { token?: string | undefined },
  ) {
    this.token = options.token;
    const { name } = readSettings();
    this.name = name ?? '';
    this.room = new Room({
      room: slug,
      name,
      token: options.token,
      chatAlways: options.chatAlways ?? false,
    });
    this.room.on('state', (state) => {
      this.state = state;
      if (state.kind !== 'connected') return;
      this.name = state.name;
      this.identity = state.identity;
      this.grants = state.grants;
    });
    this.room.on('info', (info) => {
      this.info = info;
    });
    this.room.on('outputs', (outputs) => {
      this.outputs = outputs;
    });
    this.room.chat.on('messages', (messages) => {
      this.messages = messages;
    });
    this.room.chat.on('state', (state) => {
      this.chatState = state;
    });
  }

  /** Whether the person may do that; `undefined` before the first connection. */
  may(grant: keyof Grants): boolean | undefined {
    return this.grants?.[grant];
  }

  /** Whether the server keeps another name than the one wished for: that of the link. */
  get nameIsFixed(): boolean {
    return this.#wish !== undefined && this.state.kind === 'connected' && this.name !== this.#wish;
  }

  rename(name: string): void {
    this.#wish = name;
    changeSettings({ name });
    this.room.rename(name);
  }
}

/** Enters a room's stage with the invitation that this tab was opened with. */
export function enterStage(slug: string): RoomView {
  const view = new RoomView(slug, { token: invitationFor(slug), chatAlways: true });
  view.room.on('state', (state) => {
    const { token } = view.room;
    if (state.kind === 'connected' && token && state.grants.stage) keepInvitation(slug, token);
  });
  return view;
}

/**
 * Enters a room with the token that is kept for it. One that the server does not take any more is forgotten, and
 * `again` is called: the next one may do, and whoever only watches needs none.
 */
export function enter(slug: string, again: () => void, chatAlways = false): RoomView {
  const token = tokenFor(slug);
  const view = new RoomView(slug, { token, chatAlways });
  view.room.on('state', (state) => {
    if (!token || state.kind !== 'closed' || !state.error?.code.startsWith('token_')) return;
    forgetToken(token, slug);
    again();
  });
  return view;
}
