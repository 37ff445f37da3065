/**
 * Plays a growing list of short videos as one, with two video elements: one shows, the other loads what comes next.
 * When the whole video is there, the list is replaced by that one file at the same position.
 */

/** Index of the segment that holds `time`: the last one that begins at or before it, 0 before the first, -1 of none. */
export function segmentAt(segments, time) {
  let found = segments.length ? 0 : -1;
  for (let i = 0; i < segments.length; i++) {
    if (segments[i].start <= time + 1e-6) found = i;
  }
  return found;
}

const SHOWN = "mcdm-shown";

export class Playback {
  /** `videos`: two elements. `onState()` after any change of state, `onError()` when a file cannot be played. */
  constructor(videos, { onState = () => {}, onError = () => {} } = {}) {
    [this.active, this.standby] = videos;
    this.onState = onState;
    this.onError = onError;
    this.reset();
    for (const video of videos) {
      video.addEventListener("ended", () => video === this.active && this.ended());
      video.addEventListener("error", () => this.failed(video));
      video.addEventListener("pause", () => video === this.active && this.paused(video));
      video.addEventListener("play", () => this.onState());
    }
  }

  /** Forget everything; both elements become empty. */
  reset() {
    this.segments = [];
    this.index = -1;
    this.complete = false;
    this.loop = this.loop ?? false;
    this.playing = false;
    this.waiting = false;
    this.request = (this.request ?? 0) + 1;
    this.pending = undefined;
    for (const video of [this.active, this.standby]) this.empty(video);
    this.onState();
  }

  empty(video) {
    video.pause();
    video.mcdmUrl = null;
    video.classList.remove(SHOWN);
    if (video.getAttribute("src")) {
      video.removeAttribute("src");
      video.load();
    }
  }

  /**
   * Set the list `[{start, end, url}]` (seconds). A list that continues the old one keeps the playing clip untouched;
   * any other replaces it at the same position. `complete` says that nothing will follow.
   */
  setSegments(segments, complete = false) {
    const time = this.time;
    const before = this.segments[this.index];
    const shown = before?.url;
    const wasWaiting = this.waiting;
    const previous = this.index;
    this.segments = segments;
    this.complete = complete;
    this.waiting = false;
    if (!segments.length) return this.reset();
    const same = shown ? segments.findIndex((segment) => segment.url === shown) : -1;
    if (same < 0) {
      const goesOn = before && this.pending === undefined && this.playing;
      const follow = goesOn ? () => before.start + this.active.currentTime : undefined;
      this.open(segmentAt(segments, time), time, follow);
    } else if (wasWaiting && this.playing && same + 1 < segments.length) {
      this.index = same;
      this.open(same + 1, segments[same + 1].start);
    } else {
      this.index = same;
      this.waiting = wasWaiting && !complete;
      if (previous !== same || !this.standby.mcdmUrl) this.preload(same + 1);
      if (wasWaiting && complete) this.playing = false;
    }
    this.onState();
  }

  /** Position in seconds in the whole video. */
  get time() {
    const segment = this.segments[this.index];
    if (!segment) return 0;
    if (this.pending !== undefined) return this.pending();
    return Math.min(segment.start + (this.active.currentTime || 0), Math.max(segment.end, segment.start));
  }

  get muted() {
    return this.active.muted;
  }

  set muted(value) {
    this.active.muted = value;
    this.standby.muted = value;
    this.onState();
  }

  play() {
    if (!this.segments.length) return;
    const last = this.segments[this.segments.length - 1];
    this.playing = true;
    if (this.time >= last.end - 1e-3 && this.index === this.segments.length - 1) {
      if (this.complete) return this.seek(this.segments[0].start);
      this.waiting = true;
      return this.onState();
    }
    if (this.pending === undefined) this.begin(this.active);
    this.onState();
  }

  pause() {
    this.playing = false;
    this.waiting = false;
    this.active.pause();
    this.onState();
  }

  /** Go to `time` seconds, within what is finished. */
  seek(time) {
    if (!this.segments.length) return;
    const last = this.segments[this.segments.length - 1];
    const target = Math.min(Math.max(time, this.segments[0].start), last.end);
    this.waiting = false;
    this.open(segmentAt(this.segments, target), target);
    this.onState();
  }

  /**
   * Show segment `index` at `time`; through the standby element unless it is already the one shown.
   * `follow`: where what is shown has got to, when it plays on while the other file loads.
   */
  open(index, time, follow = () => time) {
    const segment = this.segments[index];
    const request = ++this.request;
    this.index = index;
    if (this.active.mcdmUrl === segment.url) {
      this.pending = undefined;
      this.active.currentTime = Math.max(0, time - segment.start);
      if (this.playing) this.begin(this.active);
      this.preload(index + 1);
      return;
    }
    this.pending = follow;
    const video = this.standby;
    this.load(video, segment.url);
    const ready = () => {
      if (request !== this.request) return;
      if (video.readyState < 2) return void video.addEventListener("loadeddata", ready, { once: true });
      const offset = Math.max(0, follow() - segment.start);
      if (Math.abs(video.currentTime - offset) > 1e-3) {
        video.addEventListener("seeked", () => request === this.request && this.swap(), { once: true });
        video.currentTime = offset;
      } else {
        this.swap();
      }
    };
    ready();
  }

  /** The standby element becomes the one shown. */
  swap() {
    const old = this.active;
    [this.active, this.standby] = [this.standby, this.active];
    this.pending = undefined;
    this.active.muted = old.muted;
    this.active.classList.add(SHOWN);
    old.classList.remove(SHOWN);
    old.pause();
    if (this.playing) this.begin(this.active);
    this.preload(this.index + 1);
    this.onState();
  }

  load(video, url) {
    if (video.mcdmUrl === url) return;
    video.mcdmUrl = url;
    video.src = url;
    video.load();
  }

  preload(index) {
    if (this.pending === undefined && index < this.segments.length) this.load(this.standby, this.segments[index].url);
  }

  /** Start `video`; where the browser forbids sound without a click, start it silently. */
  begin(video) {
    const started = video.play();
    if (!started) return;
    started.catch((error) => {
      if (error?.name !== "NotAllowedError" || video !== this.active || !this.playing) return;
      if (this.muted) return this.pause();
      this.muted = true;
      video.play()?.catch(() => this.pause());
    });
  }

  ended() {
    if (this.pending !== undefined) return;
    if (this.index + 1 < this.segments.length) {
      this.open(this.index + 1, this.segments[this.index + 1].start);
    } else if (this.complete && this.loop && this.playing) {
      return this.seek(this.segments[0].start);
    } else if (this.complete) {
      this.playing = false;
    } else {
      this.waiting = this.playing;
    }
    this.onState();
  }

  /** Nothing will follow: what is there is all. A player that waits for the next clip stops. */
  end() {
    this.complete = true;
    if (this.waiting) this.playing = false;
    this.waiting = false;
    this.onState();
  }

  /** A pause that came from outside (element taken out of the page, media key): follow it. */
  paused(video) {
    if (video.ended || this.waiting || this.pending !== undefined) return;
    this.playing = false;
    this.onState();
  }

  failed(video) {
    if (!video.mcdmUrl) return;
    video.mcdmUrl = null;
    if (video === this.standby && this.pending === undefined) return;
    this.pending = undefined;
    this.playing = false;
    this.onError();
    this.onState();
  }

  destroy() {
    this.onState = () => {};
    this.onError = () => {};
    this.reset();
  }
}
