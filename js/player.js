/** The panel on the sampling nodes: video, waveform with motion curves, state of the run, "stop and keep". */

import { Playback } from "./playback.js";
import { clock } from "./strings.js";
import { Timeline } from "./timeline.js";
import { WaveformView } from "./waveform.js";

/** Height in pixels that the panel asks for; ComfyUI takes 20 of it for its margins. */
export const PLAYER_HEIGHT = 340;

const LEGEND = [
  ["lipOpening", "mcdm-key-lips"],
  ["headYaw", "mcdm-key-head"],
  ["blink", "mcdm-key-blink"],
];

/** Address of a file that ComfyUI's `/view` serves. `version` keeps the browser from showing an older file of that name. */
export function viewAddress({ filename, subfolder = "", type = "output" }, version) {
  return `/view?${new URLSearchParams({ filename, subfolder, type, v: String(version) })}`;
}

/** Words on a clip's progress, without the time left (which counts down by itself). */
export function progressText(t, clip, resumed) {
  const parts = [t("clipOf", { clip: clip.clip + 1, clips: clip.clips })];
  if (clip.frames_per_second > 0) {
    parts.push(t("speed", { fps: clip.frames_per_second.toFixed(clip.frames_per_second < 10 ? 1 : 0) }));
  } else if (resumed > 0) {
    parts.push(t("resumed", { count: resumed }));
  }
  return parts.join(" \u00b7 ");
}

/** Words on how a run ended, from the data of `mcdm.failed`. */
export function failureText(t, { reason, kept_clips: count = 0, subfolder = "" }) {
  const key = reason === "interrupted" ? "interrupted" : "failed";
  return count > 0 ? t(key, { count, folder: `output/${subfolder}`.replace(/\/$/, "") }) : t(`${key}None`);
}

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function makeVideo() {
  const video = make("video", "mcdm-video");
  video.playsInline = true;
  video.preload = "auto";
  video.tabIndex = -1;
  video.setAttribute("aria-hidden", "true");
  return video;
}

export class Player {
  /**
   * `host`: `{api, t, setting(name)}`; `idleText`: shown before the first run; `extra`: elements for the empty stage.
   */
  constructor(host, idleText, extra = []) {
    this.host = host;
    this.t = host.t;
    this.timeline = new Timeline();
    this.executionId = null;
    this.running = false;
    this.version = 0;
    this.build(idleText, extra);
    this.playback = new Playback(this.videos, {
      onState: () => this.showPlayback(),
      onError: () => this.say(this.t("cannotPlay"), true),
    });
    this.playback.muted = Boolean(host.setting("Muted"));
    this.showPlayback();
    this.showRunning();
  }

  build(idleText, extra) {
    const t = this.t;
    this.element = make("section", "mcdm-player");
    this.element.setAttribute("aria-label", t("player"));
    this.stage = make("div", "mcdm-stage");
    this.videos = [makeVideo(), makeVideo()];
    this.idle = make("div", "mcdm-idle");
    this.idle.append(make("p", "", idleText), ...extra);
    this.still = make("img", "mcdm-still");
    this.still.alt = "";
    this.still.hidden = true;
    this.stage.append(...this.videos, this.idle, this.still);

    this.wave = new WaveformView(this.timeline, { t, clock, onSeek: (time) => this.seek(time) });
    const legend = make("div", "mcdm-legend");
    legend.append(...LEGEND.map(([key, className]) => make("span", className, t(key))));

    this.playButton = make("button", "mcdm-button mcdm-play");
    this.playButton.append(make("span", "mcdm-icon"));
    this.muteButton = make("button", "mcdm-button mcdm-mute");
    this.muteButton.append(make("span", "mcdm-icon"));
    this.time = make("span", "mcdm-time");
    this.stopButton = make("button", "mcdm-button mcdm-stop", t("stopAndKeep"));
    this.stopButton.title = t("stopAndKeepHint");
    for (const button of [this.playButton, this.muteButton, this.stopButton]) button.type = "button";
    const controls = make("div", "mcdm-controls");
    controls.append(this.playButton, this.muteButton, this.time, this.stopButton);

    const state = make("div", "mcdm-state");
    this.status = make("span", "mcdm-status");
    this.status.setAttribute("role", "status");
    this.left = make("span", "mcdm-left");
    state.append(this.status, this.left);
    this.element.append(this.stage, this.wave.element, legend, controls, state);

    this.playButton.addEventListener("click", () => this.toggle());
    this.muteButton.addEventListener("click", () => (this.playback.muted = !this.playback.muted));
    this.stopButton.addEventListener("click", () => this.stopAndKeep());
    for (const video of this.videos) video.addEventListener("click", () => this.toggle());
    // Buttons must not drag the node below them, nor may Space reach the canvas' own shortcuts.
    for (const part of [controls, this.wave.element]) part.addEventListener("pointerdown", (e) => e.stopPropagation());
    controls.addEventListener("keydown", (event) => {
      if (event.key === " " || (event.key === "Enter" && !event.ctrlKey && !event.metaKey)) event.stopPropagation();
    });
  }

  /** Take one of the server's events; `name` without its `mcdm.` prefix. */
  handle(name, data) {
    this.executionId = data.node;
    if (name === "start") this.onStart(data);
    else if (name === "frame") this.onFrame(data);
    else if (name === "clip") this.onClip(data);
    else if (name === "done") this.onDone(data);
    else if (name === "failed") this.onFailed(data);
  }

  onStart(data) {
    this.version = Date.now();
    this.timeline.start(data);
    this.playback.reset();
    this.hideStill();
    this.setRunning(true);
    this.setEta(null);
    this.say(this.t("preparing"));
    this.redraw();
  }

  /** The latest frame, for as long as there is nothing to play. */
  onFrame({ image }) {
    if (this.playback.segments.length || !image?.startsWith("data:image/")) return;
    this.still.src = image;
    this.still.hidden = false;
  }

  hideStill() {
    this.still.hidden = true;
    this.still.removeAttribute("src");
  }

  onClip(data) {
    if (!this.version) this.version = Date.now();
    this.timeline.addClip(data);
    const first = this.timeline.clips.length === 1;
    if (!this.running) this.setRunning(true);
    this.setEta(data.eta);
    if (!this.stopping) this.say(progressText(this.t, data, this.timeline.resumed));
    this.playback.setSegments(
      this.timeline.segments().map(({ start, end, clip }) => ({ start, end, url: this.address(clip) })),
    );
    if (first && this.host.setting("Autoplay") && !reducedMotion()) this.playback.play();
    this.redraw();
  }

  onDone(data) {
    this.timeline.finish(data);
    this.setRunning(false);
    const values = { seconds: this.timeline.duration.toFixed(1), frames: this.timeline.frames };
    this.say(this.t(data.stopped ? "stoppedKept" : "finished", values));
    if (data.filename) {
      this.version = this.version || Date.now();
      this.playback.setSegments([{ start: 0, end: this.timeline.duration, url: this.address(data) }], true);
    }
    this.redraw();
  }

  onFailed(data) {
    this.setRunning(false);
    this.say(failureText(this.t, data), data.reason === "error");
  }

  /** The queue says that the run is over though no event of ours told it. */
  endRun() {
    if (!this.running) return;
    this.setRunning(false);
    this.say("");
  }

  address(file) {
    return this.host.api.apiURL(viewAddress(file, this.version));
  }

  toggle() {
    if (this.playback.playing) this.playback.pause();
    else this.playback.play();
  }

  seek(time) {
    this.playback.seek(time);
    this.showTime();
  }

  async stopAndKeep() {
    if (!this.running || this.stopping) return;
    this.stopping = true;
    this.showRunning();
    try {
      const answer = await this.host.api.fetchApi("/mcdm/stop_and_keep", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ node: this.executionId }),
      });
      if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
      const { running } = await answer.json();
      if (!this.running) return;
      this.say(this.t(running ? "stopping" : "notRunning"));
      if (!running) this.setRunning(false);
    } catch (error) {
      this.stopping = false;
      this.showRunning();
      this.say(this.t("stopFailed", { reason: error.message }), true);
    }
  }

  setRunning(running) {
    this.running = running;
    this.stopping = false;
    if (!running) this.setEta(null);
    this.showRunning();
  }

  showRunning() {
    this.element.classList.toggle("mcdm-running", this.running);
    this.stopButton.disabled = !this.running || this.stopping;
  }

  /** `seconds` that are left, counted down until the next clip tells better; null for unknown. */
  setEta(seconds) {
    clearInterval(this.etaTimer);
    this.left.textContent = "";
    if (!(seconds > 0)) return;
    const end = performance.now() + 1000 * seconds;
    const show = () => {
      const rest = (end - performance.now()) / 1000;
      this.left.textContent = rest > 0 ? this.t("timeLeft", { time: clock(rest) }) : "";
    };
    show();
    this.etaTimer = setInterval(show, 1000);
  }

  say(text, isError = false) {
    this.status.textContent = text;
    this.status.classList.toggle("mcdm-error", isError);
  }

  showPlayback() {
    const { playing, waiting, muted, segments } = this.playback ?? { segments: [] };
    const playText = this.t(playing ? "pause" : "play");
    this.playButton.classList.toggle("mcdm-on", Boolean(playing));
    this.playButton.setAttribute("aria-label", playText);
    this.playButton.title = waiting ? this.t("waiting") : playText;
    this.playButton.disabled = !segments.length;
    const muteText = this.t(muted ? "unmute" : "mute");
    this.muteButton.classList.toggle("mcdm-on", !muted);
    this.muteButton.setAttribute("aria-label", muteText);
    this.muteButton.setAttribute("aria-pressed", String(!muted));
    this.muteButton.title = muteText;
    this.stage.classList.toggle("mcdm-waiting", Boolean(waiting));
    this.idle.hidden = segments.length > 0;
    if (segments.length) this.hideStill();
    this.showTime();
    if (playing && !this.frame) this.tick();
  }

  /** Move the cursor with the picture: once per drawn frame while playing. */
  tick() {
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      this.showTime();
      if (this.playback.playing) this.tick();
    });
  }

  showTime() {
    const time = this.playback?.time ?? 0;
    this.wave.setTime(time);
    this.time.textContent = `${clock(time, true)} / ${clock(this.timeline.duration, true)}`;
  }

  redraw() {
    this.wave.draw();
    this.showTime();
  }

  destroy() {
    clearInterval(this.etaTimer);
    cancelAnimationFrame(this.frame);
    this.wave.destroy();
    this.playback.destroy();
  }
}

function reducedMotion() {
  return globalThis.matchMedia?.("(prefers-reduced-motion: reduce)").matches ?? false;
}
