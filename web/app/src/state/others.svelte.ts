import { type Room, type Tile, Watch } from '@fanlight/sdk';

/** The others on stage, as somebody who is on it sees and hears them. */
export class Others {
  tiles: readonly Tile[] = $state.raw([]);
  sounds: readonly MediaStream[] = $state.raw([]);
  readonly #watch: Watch;
  #following = false;

  constructor(room: Room) {
    this.#watch = new Watch(room, { stage: true });
    this.#watch.on('tiles', (tiles) => {
      this.tiles = tiles;
    });
    this.#watch.on('sounds', (sounds) => {
      this.sounds = sounds;
    });
  }

  /** Connects while there is somebody to see. */
  follow(there: boolean): void {
    if (there === this.#following) return;
    this.#following = there;
    if (there) {
      this.#watch.start();
      return;
    }
    this.#watch.stop();
    this.tiles = [];
    this.sounds = [];
  }
}
