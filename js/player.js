/** The panel on the sampling nodes: video, waveform with motion curves, state of the run, "stop and keep". */

import { Playback } from "./playback.js";
import { clock } from "./strings.js";
import { Timeline } from "./timeline.js";
import { WaveformView } from "./waveform.js";

/** Height in pixels that the panel asks for; ComfyUI takes 20 of it for its margins. */
export const PLAYER_HEIGHT = 340;
export const LARGE_HEIGHT = 640;

const LEGEND = [
  ["lipOpening", "mcdm-key-lips"],
  ["headYaw", "mcdm-key-head"],
  ["blink", "mcdm-key-blink"],
];

/** Address of a file that ComfyUI's `/view` serves. `version` keeps the browser from showing an older file of that name. */
export function viewAddress({ filename, subfolder = "", type = "output" }, version) {
  return `/view?${new URLSearchParams({ filename, subfolder, type, v: String(version) })}`;
}

/** Words on the progress of a node that makes one video. */
export function frameText(t, { done, frames, frames_per_second: fps }) {
  const parts = [t("framesOf", { done, frames })];
  if (fps > 0) parts.push(t("speed", { fps: fps.toFixed(fps < 10 ? 1 : 0) }));
  return parts.join(" \u00b7 ");
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
   * `host`: `{api, t, setting(name), resize(larger)}`; `idleText`: shown before the first run; `extra`: elements for the
   * empty stage; `stoppable`: whether the node can be asked to stop and keep.
   */
  constructor(host, idleText, extra = [], stoppable = true) {
    this.host = host;
    this.stoppable = stoppable;
    this.t = host.t;
    this.timeline = new Timeline();
    this.executionId = null;
    this.promptId = null;
    this.seq = -1;
    this.large = false;
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
    this.loopButton = this.iconButton("loop", "loop", () => this.setLoop(!this.playback.loop));
    this.saveLink = make("a", "mcdm-button mcdm-save");
    this.saveLink.append(make("span", "mcdm-icon"));
    this.saveLink.title = t("download");
    this.saveLink.setAttribute("aria-label", t("download"));
    this.sizeButton = this.iconButton("size", "largerPlayer", () => this.setLarge(!this.large));
    this.fullButton = this.iconButton("full", "fullScreen", () => this.fullScreen());
    this.time = make("span", "mcdm-time");
    this.stopButton = make("button", "mcdm-button mcdm-stop", t("stopAndKeep"));
    this.stopButton.title = t("stopAndKeepHint");
    for (const button of [this.playButton, this.muteButton, this.stopButton]) button.type = "button";
    const controls = make("div", "mcdm-controls");
    const more = make("span", "mcdm-more");
    more.append(this.loopButton, this.saveLink, this.sizeButton, this.fullButton);
    this.stopButton.hidden = !this.stoppable;
    controls.append(this.playButton, this.muteButton, this.time, this.stopButton, more);

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

  iconButton(name, textKey, act) {
    const button = make("button", `mcdm-button mcdm-${name}`);
    button.type = "button";
    button.append(make("span", "mcdm-icon"));
    button.title = this.t(textKey);
    button.setAttribute("aria-label", this.t(textKey));
    button.addEventListener("click", act);
    return button;
  }

  setLoop(on) {
    this.playback.loop = on;
    this.loopButton.classList.toggle("mcdm-on", on);
    this.loopButton.setAttribute("aria-pressed", String(on));
  }

  setLarge(on) {
    this.large = on;
    const text = this.t(on ? "smallerPlayer" : "largerPlayer");
    this.sizeButton.classList.toggle("mcdm-on", on);
    this.sizeButton.title = text;
    this.sizeButton.setAttribute("aria-label", text);
    this.host.resize?.(on);
  }

  async fullScreen() {
    try {
      if (document.fullscreenElement) await document.exitFullscreen();
      else await this.element.requestFullscreen();
    } catch (error) {
      console.warn("MCDM: no full screen:", error);
    }
    this.redraw();
  }

  /** Take one of the server's events; `name` without its `mcdm.` prefix. */
  handle(name, data) {
    this.executionId = data.node;
    this.promptId = data.prompt_id;
    if (name === "start") this.onStart(data);
    else if (name === "frame") this.onFrame(data);
    else if (name === "clip") this.onClip(data);
    else if (name === "progress") this.onProgress(data);
    else if (name === "done") this.onDone(data);
    else if (name === "failed") this.onFailed(data);
  }

  onStart(data) {
    this.version = Date.now();
    this.shown = null;
    this.stoppable = data.stoppable ?? this.stoppable;
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

  /** Frames, speed and time left of a node that makes one video. */
  onProgress(data) {
    if (!this.running) this.setRunning(true);
    this.setEta(data.eta);
    if (!this.stopping) this.say(frameText(this.t, data));
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
    const values = { time: clock(this.timeline.duration, true), frames: this.timeline.frames };
    this.say(this.t(data.stopped ? "stoppedKept" : "finished", values));
    if (data.filename) {
      this.version = this.version || Date.now();
      this.shown = data;
      this.playback.setSegments([{ start: 0, end: this.timeline.duration, url: this.address(data) }], true);
      this.saveLink.href = this.address(data);
      this.saveLink.download = data.filename;
    }
    this.playback.end();
    this.redraw();
  }

  /** Whether this very file is what the player has. */
  shows({ filename, subfolder = "", type }) {
    const { shown } = this;
    return shown?.filename === filename && (shown.subfolder ?? "") === subfolder && shown.type === type;
  }

  /** Play a file of which nothing else is known: its length comes from the file. */
  showFile(file, seconds) {
    const fps = this.timeline.fps;
    this.timeline.start({ clips: 1, frames: Math.max(1, Math.round(seconds * fps)), fps });
    this.onDone({ ...file, frames: this.timeline.frames, fps });
  }

  onFailed(data) {
    this.setRunning(false);
    this.hideStill();
    this.playback.end();
    this.say(failureText(this.t, data), data.reason === "error");
  }

  /** The queue says that the run is over though no event of ours told it. */
  endRun() {
    if (!this.running) return;
    this.setRunning(false);
    this.playback.end();
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
        body: JSON.stringify({ node: this.executionId, prompt_id: this.promptId }),
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
    this.stopButton.hidden = !this.stoppable;
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
    this.saveLink.hidden = !this.shown || !segments.length;
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
