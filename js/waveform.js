/** The waveform with the motion curves under it, and a cursor that can be moved by mouse and keyboard. */

import { PEAKS_PER_FRAME } from "./timeline.js";

/** Range of values that fills a curve's band. Head turns are in radians, the others about 0 at rest and 1 at full strength. */
const RANGES = { lip_opening: [0, 1], blink: [0, 1], head_yaw: [-0.6, 0.6] };
const WAVE_SHARE = 0.45;

/** Largest value among `values[from..to)`, not counting NaN; NaN when there is none. */
export function maxBetween(values, from, to) {
  let best = NaN;
  for (let i = Math.max(0, from); i < Math.min(values.length, to); i++) {
    const value = values[i];
    if (!Number.isNaN(value) && !(value <= best)) best = value;
  }
  return best;
}

/** One height in 0..1 for each of `columns` pixel columns, out of peaks for `frames` video frames. */
export function waveColumns(peaks, frames, columns) {
  const out = new Float32Array(columns);
  const total = frames * PEAKS_PER_FRAME;
  for (let x = 0; x < columns; x++) {
    const from = Math.floor((x * total) / columns);
    const to = Math.max(from + 1, Math.floor(((x + 1) * total) / columns));
    const value = maxBetween(peaks, from, to);
    out[x] = Number.isNaN(value) ? 0 : Math.min(1, Math.max(0, value));
  }
  return out;
}

/** Place of a curve's value in its band: 0 at the bottom, 1 at the top, clipped. */
export function curveHeight(name, value) {
  const [low, high] = RANGES[name] ?? [0, 1];
  return Math.min(1, Math.max(0, (value - low) / (high - low)));
}

/**
 * Points `[x, y]` of a curve over `width` pixels, in runs without gaps (unfinished frames are gaps).
 * With more frames than pixels the frame of largest distance from rest in each pixel is drawn, so that blinks stay visible.
 */
export function curveRuns(name, values, frames, width, top, height) {
  const runs = [];
  let run = null;
  const columns = Math.min(frames, Math.max(1, Math.floor(width)));
  for (let column = 0; column < columns; column++) {
    const from = Math.floor((column * frames) / columns);
    const to = Math.max(from + 1, Math.floor(((column + 1) * frames) / columns));
    let value = NaN;
    for (let i = from; i < to && i < values.length; i++) {
      if (!Number.isNaN(values[i]) && !(Math.abs(values[i]) <= Math.abs(value))) value = values[i];
    }
    if (Number.isNaN(value)) {
      run = null;
      continue;
    }
    if (!run) runs.push((run = []));
    run.push([((column + 0.5) * width) / columns, top + (1 - curveHeight(name, value)) * height]);
  }
  return runs;
}

/** Draw a timeline on a 2D context of `width` x `height` CSS pixels; `colours` maps wave, pending, rest and curve names. */
export function drawTimeline(context, timeline, width, height, colours) {
  context.clearRect(0, 0, width, height);
  if (!timeline.frames || width < 2) return;
  const waveHeight = height * WAVE_SHARE;
  const middle = waveHeight / 2;
  const ready = (timeline.readyFrames / timeline.frames) * width;
  const columns = waveColumns(timeline.peaks, timeline.frames, Math.floor(width));
  columns.forEach((value, x) => {
    const half = Math.max(0.5, value * (middle - 1));
    context.fillStyle = x < ready ? colours.wave : colours.pending;
    context.fillRect(x, middle - half, 1, 2 * half);
  });
  const top = waveHeight + 2;
  const band = height - top - 2;
  context.fillStyle = colours.rest;
  context.fillRect(0, top + band / 2, width, 1);
  context.lineWidth = 1.25;
  for (const [name, values] of Object.entries(timeline.curves)) {
    context.strokeStyle = colours[name];
    for (const run of curveRuns(name, values, timeline.frames, width, top, band)) {
      context.beginPath();
      run.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
      context.stroke();
    }
  }
}

/**
 * The middle of the frame that is shown at `time`: a video element asked for a frame's very beginning may show the one
 * before, since its clock is rounded.
 */
export function frameTime(time, { duration, fps }) {
  const last = Math.max(0, Math.round(duration * fps) - 1);
  const frame = Math.min(last, Math.max(0, Math.floor(time * fps + 1e-6)));
  return (frame + 0.5) / fps;
}

/** Seconds to which a key moves the cursor, or null for keys that do nothing here. */
export function keyTarget(key, time, duration, fps) {
  switch (key) {
    case "ArrowLeft":
    case "ArrowDown":
      return frameTime(time - 1 / fps, { duration, fps });
    case "ArrowRight":
    case "ArrowUp":
      return frameTime(time + 1 / fps, { duration, fps });
    case "PageDown":
      return Math.max(0, time - 1);
    case "PageUp":
      return Math.min(duration, time + 1);
    case "Home":
      return 0;
    case "End":
      return duration;
    default:
      return null;
  }
}

/** The widget: a canvas, a cursor line over it, role "slider". `onSeek(seconds)` is called for the mouse and keys. */
export class WaveformView {
  constructor(timeline, { t, onSeek, clock }) {
    this.timeline = timeline;
    this.t = t;
    this.clock = clock;
    this.onSeek = onSeek;
    this.time = 0;
    this.element = document.createElement("div");
    this.element.className = "mcdm-wave";
    this.element.tabIndex = 0;
    this.element.setAttribute("role", "slider");
    this.element.setAttribute("aria-label", t("timeline"));
    this.element.setAttribute("aria-valuemin", "0");
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("aria-hidden", "true");
    this.cursor = document.createElement("div");
    this.cursor.className = "mcdm-cursor";
    this.element.append(this.canvas, this.cursor);
    this.element.addEventListener("pointerdown", (event) => this.pointer(event, true));
    this.element.addEventListener("pointermove", (event) => this.pointer(event, false));
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.element);
    this.setTime(0);
  }

  pointer(event, pressed) {
    if (!(event.buttons & 1)) return;
    event.stopPropagation();
    if (pressed) this.element.setPointerCapture(event.pointerId);
    else if (!this.element.hasPointerCapture(event.pointerId)) return;
    const box = this.element.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / (box.width || 1)));
    this.onSeek(frameTime(share * this.timeline.duration, this.timeline));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = keyTarget(event.key, this.time, this.timeline.duration, this.timeline.fps);
    if (target === null) return;
    event.preventDefault();
    event.stopPropagation();
    this.onSeek(target);
  }

  /** Move the cursor to `time` seconds. */
  setTime(time) {
    const duration = this.timeline.duration;
    this.time = time;
    this.cursor.style.left = `${duration > 0 ? Math.min(100, (100 * time) / duration) : 0}%`;
    this.cursor.hidden = !(duration > 0);
    this.element.setAttribute("aria-valuemax", duration.toFixed(2));
    this.element.setAttribute("aria-valuenow", time.toFixed(2));
    this.element.setAttribute(
      "aria-valuetext",
      this.t("position", { time: this.clock(time, true), total: this.clock(duration, true) }),
    );
  }

  draw() {
    const width = this.element.clientWidth;
    const height = this.element.clientHeight;
    if (!width || !height) return;
    const ratio = Math.min(3, globalThis.devicePixelRatio || 1);
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const style = getComputedStyle(this.element);
    const colour = (name) => style.getPropertyValue(name).trim();
    drawTimeline(context, this.timeline, width, height, {
      wave: colour("--mcdm-wave"),
      pending: colour("--mcdm-pending"),
      rest: colour("--mcdm-rest"),
      lip_opening: colour("--mcdm-lips"),
      head_yaw: colour("--mcdm-head"),
      blink: colour("--mcdm-blink"),
    });
  }

  destroy() {
    this.observer.disconnect();
  }
}
